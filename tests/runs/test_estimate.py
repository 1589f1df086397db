"""Estimates count exactly what can be counted, and read no weights for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn
from transformers import GptOssConfig

from geofilter.data.encoder import Encoder
from geofilter.data.rows import open_rows
from geofilter.model import loading
from geofilter.runs.estimate import _shape, estimate
from geofilter.settings import Settings
from helpers.cli_folder import Geofilter
from helpers.tiny_models import CONFIGS, D_MODEL, D_SAE, save_model, save_sae, tiny_network


@pytest.fixture
def setting(tmp_path: Path) -> Settings:
    model, sae = save_model(tmp_path / "model"), save_sae(tmp_path / "sae", block=1)
    return Settings(model, sae=sae, device="cpu", max_length=20)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [
        {"prompt": "w1 w2", "response": "w3 " * n} if n else {"prompt": "w1", "response": ""}
        for n in range(40)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n")
    return path


def test_tokens_are_those_that_scoring_would_see(setting: Settings, data: Path) -> None:
    found = estimate(open_rows(data), setting)
    model = loading.load(setting.model, sae=setting.sae, device="cpu")
    encoder, rows = Encoder(model.tokenizer, max_length=20), open_rows(data)
    encoded = [
        encoder.encode(rows.layouts.samples(row.record)[0])
        for row in rows
        if row.record is not None and row.record["response"]
    ]
    assert (found.rows, found.scored) == (41, 39)
    assert found.tokens == sum(len(sample.ids) for sample in encoded)
    assert found.pooled_tokens == sum(sample.pooled.sum() for sample in encoded)
    assert found.longest == 20
    assert 0 < found.seconds[0] < found.seconds[1]


def test_no_weights_are_read(setting: Settings, data: Path) -> None:
    before = estimate(open_rows(data), setting)
    for weights in Path(setting.model).glob("*.safetensors"):
        weights.unlink()
    assert estimate(open_rows(data), setting).memory_bytes == before.memory_bytes


@pytest.mark.parametrize("architecture", CONFIGS)
def test_parameters_are_those_of_embedding_and_first_blocks(architecture: str) -> None:
    network = tiny_network(architecture)
    shape = _shape(network.config, 1, D_SAE)
    blocks = list(loading.find_blocks(network).blocks)[:2]
    counted = [network.get_input_embeddings(), *blocks]
    assert shape.parameters == sum(p.numel() for part in counted for p in part.parameters())
    assert (shape.d_model, shape.blocks) == (D_MODEL, 2)
    assert shape.active == sum(p.numel() for part in blocks for p in part.parameters())


def test_a_token_is_counted_with_the_experts_that_it_enters() -> None:
    config = GptOssConfig(
        hidden_size=16,
        intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        num_local_experts=8,
        num_experts_per_tok=2,
        vocab_size=64,
    )
    shape = _shape(config, 0, D_SAE)
    experts = 8 * (16 * 2 * 8 + 2 * 8 + 8 * 16 + 16)  # gate and up, down, their biases
    assert shape.active == shape.parameters - 64 * 16 - experts + experts / 4


@pytest.mark.slow
def test_command_prints_and_leaves_nothing(
    setting: Settings, data: Path, monkeypatch: pytest.MonkeyPatch, geofilter: Geofilter
) -> None:
    monkeypatch.chdir(data.parent)
    before = sorted(data.parent.iterdir())
    line = f"score data.jsonl --model {setting.model} --sae {setting.sae} --estimate"
    assert json.loads(geofilter(f"{line} --json").out)["scored"] == 39
    shown = geofilter(line)
    assert shown.code == 0
    assert "39 of them with something to score" in shown.out
    assert "memory" in shown.out
    pushed = json.loads(geofilter(f"{line} --scorer spillover --json").out)
    asked = Settings(setting.model, sae=setting.sae, scorer="spillover")
    assert pushed["flop"] == estimate(open_rows(data), asked).flop
    assert pushed["flop"] > json.loads(geofilter(f"{line} --json").out)["flop"]
    assert sorted(data.parent.iterdir()) == before


def test_weights_that_are_rounded_on_loading_are_counted_so(setting: Settings, data: Path) -> None:
    """And no GPU is needed to know it."""
    plain, small = (
        estimate(open_rows(data), replace(setting, load_in=one)) for one in (None, "8bit")
    )
    blocks = tiny_network().model.layers[:2]
    matrices = sum(one.weight.numel() for one in blocks.modules() if isinstance(one, nn.Linear))
    assert plain.memory_bytes - small.memory_bytes == 3 * matrices  # of 4 bytes in float32
