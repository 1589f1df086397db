"""The script of examples/trl-sft filters, trains, and scores each row once."""

import re
import runpy
import sys
from pathlib import Path

import datasets
import pytest

from geofilter.data.encoder import Encoder
from geofilter.integrations import datasets as integration
from geofilter.model.loading import load
from geofilter.packs.contrast import read_contrast
from geofilter.packs.make import make_pack

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DATA = ROOT / "geofilter" / "organism" / "data"
EXAMPLE = ROOT / "examples" / "trl-sft"


def first_lines(name: str, count: int, path: Path) -> Path:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:count]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With rows, and a pack made of a few contrast rows: the organism's own takes a minute."""
    made = tmp_path_factory.mktemp("sft")
    first_lines("demo.jsonl", 40, made / "rows.jsonl")
    model = load("organism")
    sides = [
        read_contrast(
            str(first_lines(name, 40, made / name)), Encoder(model.tokenizer, max_length=512)
        )
        for name in ("toxic.jsonl", "benign.jsonl")
    ]
    make_pack(model, *sides).pack.save(made / "my.pack")
    return made


def test_the_second_run_scores_nothing_and_another_fraction_neither(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    monkeypatch.chdir(folder)

    def train(options: str) -> str:
        words = f"train.py --data rows.jsonl --pack my.pack --steps 2 {options}"
        monkeypatch.setattr(sys, "argv", words.split())
        runpy.run_path(str(EXAMPLE / "train.py"), run_name="__main__")
        return capsys.readouterr().out

    first = train("-o first")
    assert "20 of 40 rows are kept" in first
    assert re.search(r"trained for 2 steps, mean loss \d+\.\d\d", first)
    assert (folder / "first" / "model.safetensors").is_file()

    # From here on, whoever scores a row fails.
    monkeypatch.setattr(integration, "load", None)
    assert "20 of 40 rows are kept" in train("-o second")
    assert "32 of 40 rows are kept" in train("--drop-fraction 0.2 -o third")


def test_the_page_names_options_that_the_script_has() -> None:
    page = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    script = (EXAMPLE / "train.py").read_text(encoding="utf-8")
    named = set(re.findall(r"--[a-z-]+", page))
    assert named <= set(re.findall(r"--[a-z-]+", script))
    for line in ("use_cpu=True", "bf16=False", 'select_columns(["messages"])', "learning_rate="):
        assert line in page
        assert line in script
