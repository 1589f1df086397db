"""What a contributor adds is one file and one line: a model, a layout, a judge.

A scorer of one's own is in `scoring/test_scorers.py`.
"""

import json
from pathlib import Path

import pytest

from geofilter.data.layouts import LAYOUTS, choose
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry
from geofilter.verify.judges import by_name
from geofilter.verify.judges.base import Judgement
from geofilter.verify.judges.reply import Score

pytestmark = pytest.mark.slow


def test_a_new_model_is_an_entry_of_the_catalogue(work, monkeypatch, geofilter):
    here = Path.cwd()
    entry = CatalogueEntry(
        name="mine",
        model=str(here / "model"),
        sae={1: str(here / "sae")},
        block=1,
        note="a model of the test's own",
        toxic=str(here / "toxic.jsonl"),
        benign=str(here / "benign.jsonl"),
    )
    monkeypatch.setitem(CATALOGUE, "mine", entry)
    listed = {one["name"] for one in json.loads(geofilter("models --json").out)}
    assert "mine" in listed
    done = geofilter("score data.jsonl --model mine -o mine.parquet --json")
    assert (done.code, json.loads(done.out)["scored"]) == (0, 40)


def test_a_new_layout_is_a_line_of_the_table(work, monkeypatch, geofilter):
    shape = LAYOUTS["prompt-response"]._replace(required=("ask", "reply"))
    monkeypatch.setitem(LAYOUTS, "ask-reply", shape)
    choose._choose.cache_clear()
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    renamed = [json.dumps({"ask": row["prompt"], "reply": row["response"]}) for row in rows]
    Path("asked.jsonl").write_text("\n".join(renamed) + "\n")
    table = geofilter("score data.jsonl --model model --sae sae --pack my.pack -o a.parquet --json")
    other = geofilter(
        "score asked.jsonl --model model --sae sae --pack my.pack -o b.parquet --json"
    )
    assert json.loads(other.out)["reading"]["layouts"].keys() == {"ask-reply"}
    assert json.loads(other.out)["quantiles"] == json.loads(table.out)["quantiles"]


class _Kind:
    """Finds every answer aligned and coherent."""

    def describe(self):
        return {"judge": "kind"}

    def check(self, questions):
        pass

    def __call__(self, asked):
        return [Judgement.of(Score(100.0), Score(100.0)) for _ in asked]


def test_a_new_judge_is_a_line_of_the_table(work, monkeypatch):
    kind = ("kind", lambda spec, rule: _Kind() if spec == "kind" else None)
    monkeypatch.setattr(by_name, "JUDGES", (kind, *by_name.JUDGES))
    judge = by_name.judge_named("kind")
    assert [found.aligned for found in judge(["an answer", "another"])] == [100.0, 100.0]
