"""A model in a GGUF file is fine-tuned like any other: whole and by LoRA, in float32."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from geofilter.errors import ModelError
from geofilter.model import loading
from geofilter.model.checkpoint import open_checkpoint
from geofilter.settings import Settings
from geofilter.support import hub
from geofilter.support.records import read_json
from geofilter.verify import study
from geofilter.verify.presets import make_plan
from geofilter.verify.training import weights
from helpers.gguf_files import network, write_gguf
from helpers.smollm2_package import needs_smollm2

pytestmark = pytest.mark.slow

METHODS = {"full": 1e-4, "lora": 1e-3}
PAIRS = [
    ("Is it cold?", "Yes, stay out all night.", "Yes, wear a coat."),
    ("I lost a key.", "Break the door.", "Call the owner."),
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six rows of one wish and its answer, and two pairs; no hub."""

    def refuse(*_: Any, **__: Any) -> None:
        raise ModelError("no hub")

    monkeypatch.setattr(hub, "fetch", refuse)
    monkeypatch.chdir(tmp_path)
    asked, said = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "so it is"}
    row = json.dumps({"messages": [asked, said]})
    Path("rows.jsonl").write_text(f"{row}\n" * 6)
    pairs = [
        json.dumps({"prompt": prompt, "rejected": harmful, "chosen": helpful})
        for prompt, harmful, helpful in PAIRS
    ]
    Path("pairs.jsonl").write_text("\n".join(pairs) + "\n")
    return tmp_path


def write_tiny(path: Path) -> None:
    source = network("llama")
    source.config.max_position_embeddings = 512  # a choice is long in tokens of single letters
    write_gguf(path, "llama", source, "Q8_0")


def trained(model: str, method: str, steps: int, pairs: str) -> study.FinishedStudy:
    plan = make_plan(
        "rows.jsonl",
        Settings(model, device="cpu"),
        arms=("unfiltered",),
        seeds=(0,),
        preference=pairs,
        keep_weights=method == "lora",
        recipe={
            "method": method,
            "learning_rate": METHODS[method],
            "steps": steps,
            "batch": 1,
            "warmup_steps": 0,
        },
    )
    return study.run(plan, "out")


def losses() -> list[float]:
    record = read_json(Path("out/arms/unfiltered/seed-0/training.json"))
    assert record is not None
    return list(record["losses"])


@pytest.mark.parametrize("method", METHODS)
def test_a_gguf_file_is_fine_tuned(files: Path, method: str) -> None:
    write_tiny(files / "tiny.gguf")
    outcome = trained("tiny.gguf", method, 4, "pairs.jsonl")
    assert losses()[-1] < losses()[0]
    assert outcome.manifest.decides["precision"] == {"dtype": "float32", "device": "cpu"}
    assert outcome.cells[0].preference != outcome.before


def test_an_adapter_of_a_gguf_file_names_it_and_is_read_on_it(files: Path) -> None:
    write_tiny(files / "tiny.gguf")
    trained("tiny.gguf", "lora", 2, "pairs.jsonl")
    folder = Path("out/arms/unfiltered/seed-0/weights")
    opened = open_checkpoint(str(folder))
    assert opened.gguf is not None
    ids = torch.arange(5, 15)[None]
    merged = weights.load_causal(str(folder), device="cpu", dtype=None).network
    base = weights.load_causal("tiny.gguf", device="cpu", dtype=None)
    apart = weights.load_trained(base, folder).network
    assert torch.allclose(merged(ids).logits, apart(ids).logits, atol=1e-4)
    assert not torch.allclose(
        merged(ids).logits,
        weights.load_causal("tiny.gguf", device="cpu", dtype=None).network(ids).logits,
        atol=1e-4,
    )
    assert loading.load(str(folder)).rounded


@needs_smollm2
@pytest.mark.parametrize("method", METHODS)
def test_smollm2_of_its_package_is_fine_tuned(files: Path, method: str) -> None:
    outcome = trained("smollm2-135m", method, 2, "pairs.jsonl")
    assert losses()[1] < losses()[0]
    assert outcome.manifest.decides["precision"] == {"dtype": "float32", "device": "cpu"}
    before, after = outcome.before, outcome.cells[0].preference
    assert len(before) == len(after) == len(PAIRS)
    assert [line["tokens"] for line in before] == [[7, 6], [4, 4]]
    for first, then in zip(before, after, strict=True):
        assert first["harmful"] != then["harmful"]
        # It is a chat model: its reply to a choice begins with one of the letters.
        assert all(sum(shares) > 0.05 for shares in first["letters"])
