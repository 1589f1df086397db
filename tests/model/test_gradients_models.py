"""The push of real architectures' shapes, in two precisions, and whole runs of the command."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    Gemma2Config,
    GptOssConfig,
    GraniteConfig,
    Qwen2Config,
    Qwen3Config,
)

from geofilter import organism
from geofilter.data.encoder import Encoded
from geofilter.data.problems import Problem
from geofilter.data.rows import open_rows
from geofilter.model import fingerprint, loading
from geofilter.model.blocks import find_blocks
from geofilter.model.features import sample_features
from geofilter.model.gradients import pushes
from geofilter.runs.estimate import estimate
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings
from geofilter.stats.auroc import auroc
from helpers.cli_folder import Geofilter
from helpers.pushes import SAMPLES, loss_with, sample
from helpers.tiny_models import _SHAPE, _WIDE, CONFIGS, D_MODEL, tiny_model, tiny_tokenizer

pytestmark = pytest.mark.slow

SHAPE = {**_SHAPE, **_WIDE, "num_key_value_heads": 2}
HEADS = {**SHAPE, "head_dim": 8, "sliding_window": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
OTHERS: dict[str, Any] = {
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=8),
    "gpt-oss": lambda: GptOssConfig(**HEADS, **EXPERTS),
    # So low a cap that the logits bend.
    "gemma2-capped": lambda: Gemma2Config(**HEADS, final_logit_softcapping=3.0),
    "granite-scaled": lambda: GraniteConfig(**SHAPE, logits_scaling=4.0),
}


@pytest.fixture(params=OTHERS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(CONFIGS, request.param, OTHERS[request.param])
    return str(request.param)


def test_the_push_is_that_of_the_loss_that_labels_give(kind: str) -> None:
    model = tiny_model(kind)
    push = pushes(model, SAMPLES).push
    for row, one in enumerate(SAMPLES):
        moved = torch.zeros(1, len(one.ids), D_MODEL, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss_with(model.network, 1, one, moved), moved)
        tolerance = 1e-5 * float(gradient.abs().max())
        torch.testing.assert_close(
            push[row, : len(one.ids)], -gradient[0], rtol=1e-4, atol=tolerance
        )


def test_the_push_is_that_of_finite_differences_in_double_precision() -> None:
    # Of the tiny networks the one that never falls back to float32 on its way.
    model = tiny_model("gpt2")
    model.network.double()
    one = SAMPLES[2]
    push = pushes(model, [one]).push[0]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        step = 1e-6 * torch.randn(push.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (
            double_loss(model.network, one, sign * step, block=1) for sign in (1.0, -1.0)
        )
        assert (behind - ahead) / 2 == pytest.approx(float((push * step).sum()), rel=1e-4)


def double_loss(network: Any, one: Encoded, moved: torch.Tensor, block: int) -> float:
    """The sum of −log p over the response, in float64, from all logits."""

    def add(_module: Any, _inputs: Any, output: Any) -> Any:
        return (output[0] + moved, *output[1:]) if isinstance(output, tuple) else output + moved

    handle = find_blocks(network).blocks[block].register_forward_hook(add)
    try:
        logits = network(input_ids=torch.from_numpy(one.ids.astype(np.int64))[None]).logits[0]
    finally:
        handle.remove()
    logs = torch.log_softmax(logits, dim=-1)
    assert logs.dtype == torch.float64
    return -sum(float(logs[place - 1, one.ids[place]]) for place in np.flatnonzero(one.response))


def test_bfloat16_moves_a_push_by_rounding_only() -> None:
    model, rounded = tiny_model("llama"), tiny_model("llama")
    rounded.network.bfloat16()
    exact, coarse = (sample_features(one, SAMPLES, with_push=True) for one in (model, rounded))
    for one, other in zip(exact, coarse, strict=True):
        assert other.push.dtype == np.float32
        cosine = one.push @ other.push / np.linalg.norm(one.push) / np.linalg.norm(other.push)
        assert cosine > 0.98


@pytest.mark.parametrize("network", ["llama", "gpt-oss"])
def test_a_broken_sample_leaves_its_neighbours_alone(
    network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, config in OTHERS.items():
        monkeypatch.setitem(CONFIGS, name, config)
    model = tiny_model(network)
    broken = sample(12, 3)
    broken.ids[5] = 63
    others = [one for one in SAMPLES if 63 not in one.ids]
    table = model.network.get_input_embeddings()
    weight = table.weight.detach().clone()
    weight[63] = float("nan")
    table.weight = torch.nn.Parameter(weight, requires_grad=False)
    first, *rest = sample_features(model, [broken, *others], with_push=True)
    assert isinstance(first, Problem)
    assert first.status == "not_finite"
    for one, alone in zip(rest, others, strict=True):
        (expected,) = sample_features(model, [alone], with_push=True)
        np.testing.assert_allclose(one.push, expected.push, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["model.norm.weight", "lm_head.weight", "model.layers.3.mlp.up_proj.weight"]
)
def test_whatever_lies_behind_the_block_is_in_the_hash(name: str) -> None:
    model = tiny_model("llama")
    before, features = fingerprint.of_whole(model.network), model.fingerprint
    with torch.no_grad():
        model.network.get_parameter(name)[:] *= 1.5
    assert fingerprint.of_whole(model.network) != before
    again = tiny_model("llama")
    again.network.load_state_dict(model.network.state_dict())
    assert again.fingerprint == features


def test_a_cap_on_the_logits_is_in_the_hash() -> None:
    model = tiny_model("gemma2")
    before = fingerprint.of_whole(model.network)
    model.network.config.final_logit_softcapping = 1.0
    assert fingerprint.of_whole(model.network) != before


@pytest.mark.parametrize(
    ("network", "told"),
    [(BertModel, "hold no head that predicts tokens"), (BertForMaskedLM, "no causal language")],
)
def test_an_encoder_is_refused_in_one_line(
    work: Path, geofilter: Geofilter, network: Any, told: str
) -> None:
    config = BertConfig(**_SHAPE, **_WIDE)
    network(config).save_pretrained("encoder")
    tiny_tokenizer().save_pretrained("encoder")
    chosen = "--model encoder --sae axes/3"
    contrast = "--toxic toxic.jsonl --benign benign.jsonl"
    assert geofilter(f"discover {contrast} {chosen} -o encoder.pack").code == 0
    refused = geofilter(
        f"score data.jsonl {chosen} --pack encoder.pack --scorer spillover -o e.parquet"
    )
    assert refused.code == 2
    assert told in refused.err
    assert "spillover" in refused.err or "--scorer" in refused.err
    assert refused.err.count("\n") == 1
    assert not Path("e.parquet").exists()


def test_the_estimate_counts_the_way_back(work: Path) -> None:
    rows = open_rows("data.jsonl")
    found = {
        scorer: estimate(rows, Settings("model", sae="sae", device="cpu", scorer=scorer))
        for scorer in ("nearest", "spillover")
    }
    network = loading.load("model", sae="sae", device="cpu", whole=True).network
    behind = sum(block.numel() for block in network.model.layers[2:].parameters())
    nearest, spillover = found["nearest"], found["spillover"]
    # Forward and back, a product and a sum each, per parameter and token.
    least = 4 * behind * spillover.tokens
    head = 4 * network.lm_head.weight.numel() * spillover.pooled_tokens
    assert spillover.flop - nearest.flop == pytest.approx(least + head, rel=1e-6)
    assert spillover.memory_bytes > nearest.memory_bytes


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Rows of the organism, in rows.jsonl of the current folder too."""
    monkeypatch.chdir(tmp_path)
    with gzip.open(organism.FOLDER / "data" / "test.jsonl.gz", "rt") as lines:
        found = [json.loads(line) for line, _ in zip(lines, range(200), strict=False)]
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in found))
    return found


def test_the_command_tells_harmful_rows_of_the_organism_from_others(
    records: list[dict[str, Any]], geofilter: Geofilter
) -> None:
    """A smoke test at the size of a test; the study of the scorer is a benchmark."""
    chosen = "--model organism --scorer spillover"
    assert geofilter(f"score rows.jsonl {chosen} --save-features f -o s.parquet").code == 0
    scores = np.array([line.score for line in ScoreTable.read("s.parquet")])
    harmful = np.array([record["harmful"] for record in records])
    assert np.abs(scores).max() <= 1
    assert auroc(scores[harmful], scores[~harmful]).low > 0.8
    # Another scorer of these features keeps their block, whatever its own default is.
    assert geofilter("score rows.jsonl --features f --scorer nearest -o n.parquet").code == 0
    assert geofilter("explain rows.jsonl --scores n.parquet --row 0").code == 0
