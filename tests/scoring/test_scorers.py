"""A scorer is one file and one line of the table; everything else reads the table."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from geofilter.cli import main
from geofilter.scoring.scorers import SCORERS
from geofilter.scoring.scorers.base import Scorer, dense_parts

pytestmark = pytest.mark.slow


def _norm(evidence):
    """How long the mean residual stream is: of no use but as an example."""
    return float(np.linalg.norm(evidence.sample.mean_hidden)), dense_parts(evidence)


NORM = Scorer("norm", "length of the mean residual stream", _norm, needs_sae=False)


@pytest.fixture
def with_norm(work, monkeypatch):
    monkeypatch.setitem(SCORERS, "norm", NORM)
    # Its options were made from the table when it was imported.
    command = importlib.import_module("geofilter.cli.score")
    importlib.reload(command)
    yield work
    monkeypatch.undo()
    importlib.reload(command)


SCORE = "score data.jsonl --model model --sae sae --pack my.pack --scorer norm -o norm.parquet"


def test_a_scorer_of_the_table_is_scored_explained_and_estimated(with_norm, geofilter):
    done = geofilter(f"{SCORE} --json")
    assert (done.code, json.loads(done.out)["scored"]) == (0, 40)
    assert json.loads(done.out)["manifest"]["scorer"] == {"name": "norm"}
    explained = geofilter("explain data.jsonl --scores norm.parquet --row 0")
    assert explained.code == 0
    assert "norm is not a sum over tokens; what follows divides the row's `nearest`" in " ".join(
        explained.out.split()
    )
    assert geofilter(f"{SCORE} --estimate").code == 0
    assert geofilter("report data.jsonl --scores norm.parquet -o norm.html").code == 0
    assert "norm is not a sum over tokens" in (with_norm / "norm.html").read_text()


def test_a_scorer_says_what_it_cannot_do(with_norm, geofilter):
    assert geofilter(SCORE).code == 0
    mask = geofilter(
        "filter data.jsonl --scores norm.parquet --drop-fraction 0.2 --action mask -o m.jsonl"
    )
    able = "score with --scorer nearest, persona, spillover or projection-difference"
    assert (mask.code, able in mask.err) == (2, True)
    risk = geofilter(f"{SCORE.replace('norm.parquet', 'risk.parquet')} --summary")
    assert (risk.code, "--summary goes with --scorer spillover" in risk.err) == (2, True)


def test_a_scorer_of_the_table_can_be_an_arm_of_verify(monkeypatch):
    monkeypatch.setitem(SCORERS, "norm", NORM)
    # Executed once more under another name: the module itself stays as it is.
    spec = importlib.util.find_spec("geofilter.verify.plan")
    plan = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, plan)
    spec.loader.exec_module(plan)
    assert "norm" in plan.ARMS


def test_help_says_of_every_scorer_what_it_is():
    shown = CliRunner().invoke(main.geofilter, ["score", "--help"]).output
    words = "".join(shown.split())  # lines also end within names, at hyphens
    for one in SCORERS.values():
        assert "".join(f"{one.name}: {one.about}.".split()) in words


def test_the_table_loads_neither_torch_nor_faiss():
    code = "import sys, geofilter.scoring.scorers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "faiss", "transformers"}.isdisjoint(done.stdout.split())
