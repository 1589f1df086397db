"""A scored file and the model's own answers to it: kept next to the table, and used again."""

import json
from pathlib import Path
from typing import Any

import pytest

from geofilter.model import own_answers
from geofilter.runs.rescore import rescore
from geofilter.runs.score import score
from geofilter.scoring.scorers.projection_difference import NO_ANSWER
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings

pytestmark = pytest.mark.slow

ROWS = [
    {"prompt": "w1 w2 w9", "chosen": "w3 w4", "rejected": "w30 w31"},
    {"prompt": "w1 w2 w9", "chosen": "w30 w31", "rejected": "w3 w4"},
    {"text": "w1 w2 w3"},
]
SETTINGS = Settings("model", sae="sae", pack="my.pack", device="cpu")
OWN = Settings(**{**vars(SETTINGS), "scorer": "projection-difference"})


def values(table: ScoreTable, name: str = "score") -> list[Any]:
    return [None if value is None else float(value) for value in table.column(name).tolist()]


def test_a_second_run_and_saved_features_give_the_scores_without_an_answer_more(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_answers, "ANSWER_TOKENS", 4)
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    first = score("pairs.jsonl", OWN, "s.parquet", save_features="s.features").table
    assert Path("s.parquet.answers").exists()
    # Both sides of both rows answer one prompt: the own answer moves all scores alike.
    chosen, rejected = (values(first, name)[:2] for name in ("score", "rejected_score"))
    assert chosen == pytest.approx(rejected[::-1])
    plain = score("pairs.jsonl", Settings(**{**vars(OWN), "scorer": "persona"}), "p.parquet").table
    by = [own - row for own, row in zip(chosen, values(plain)[:2], strict=True)]
    assert by[0] == pytest.approx(by[1], abs=1e-4)
    assert abs(by[0]) > 1e-3
    assert (values(first)[2], first.column("reason")[2]) == (None, NO_ANSWER.reason)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("an answer was generated again")

    monkeypatch.setattr(own_answers, "draw", refuse)
    again = score("pairs.jsonl", OWN, "s.parquet", restart=True).table
    assert values(again) == values(first)
    saved = rescore("pairs.jsonl", "s.features", "r.parquet").table
    assert values(saved) == values(first)
    assert values(rescore("pairs.jsonl", "s.features", "q.parquet", scorer="persona").table) == (
        values(plain)
    )
