"""A folder with a tiny model, SAE, pack, data and score table, for tests of the commands."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from geofilter.cli.main import main
from helpers.tiny_models import VOCABULARY, save_model, save_sae

ROWS = 40


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Geofilter = Callable[..., Outcome]


def words(generator: random.Random, first: int, last: int) -> str:
    count = generator.randrange(3, 15)
    return " ".join(f"w{generator.randrange(first, last)}" for _ in range(count))


def write_rows(path: Path, rows: int, first: int, last: int, seed: int) -> None:
    generator = random.Random(seed)
    lines = [
        {"prompt": words(generator, 0, 60), "response": words(generator, first, last)}
        for _ in range(rows)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_folder(folder: Path) -> None:
    """Write model/, sae/, other-sae/, toxic.jsonl, benign.jsonl, data.jsonl and other.jsonl."""
    save_model(folder / "model")
    save_sae(folder / "sae")
    save_sae(folder / "other-sae", "standard", block=2)
    last = VOCABULARY - 4
    write_rows(folder / "toxic.jsonl", 40, 0, 40, seed=1)
    write_rows(folder / "benign.jsonl", 40, 20, last, seed=2)
    write_rows(folder / "data.jsonl", ROWS, 0, last, seed=3)
    write_rows(folder / "other.jsonl", ROWS, 0, last, seed=4)


def make_pack_and_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Add my.pack and, scored with it, data.scores.parquet."""
    monkeypatch.chdir(folder)
    chosen = "--toxic toxic.jsonl --benign benign.jsonl -o my.pack"
    assert main(f"discover {chosen} --model model --sae sae".split()) == 0
    scored = "--pack my.pack -o data.scores.parquet"
    assert main(f"score data.jsonl --model model --sae sae {scored}".split()) == 0
