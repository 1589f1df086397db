"""The arm `replace` trains on flagged rows with the model's own responses, if they score lower."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofilter import ScoreTable, drop_fraction
from geofilter.errors import DataError
from geofilter.runs.defaults import scorer_of
from geofilter.selection.replacing import Ask, Reply
from geofilter.verify import cell, replaced, study
from helpers.experiments import plan, write_files

pytestmark = pytest.mark.slow

FEW: dict[str, Any] = {"arms": ("replace",), "seeds": (0,)}


class StubWriter:
    """Says words far from harm to every other row, and its old words to the others."""

    name, at_once = "stub", 8
    asked: list[int]

    def __init__(self, *_: object, **__: object) -> None:
        StubWriter.asked = []

    def describe(self) -> dict[str, object]:
        return {"writer": "stub"}

    def __call__(
        self, asks: Sequence[Ask], attempt: int, wanted: Collection[int]
    ) -> Iterator[tuple[int, Reply]]:
        for one in asks:
            if one.row in wanted:
                self.asked.append(one.row)
                words = " ".join(f"w{40 + (one.row + n) % 20}" for n in range(4))
                yield one.row, Reply(words if one.row % 2 else "w1 w2 w3", None)


def test_rows_get_responses_that_score_lower_or_go_and_a_second_run_asks_for_none(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(work)
    seen: list[Any] = []
    real = cell.finetune.fine_tune

    def noted(network: Any, tokenizer: Any, samples: Any, *more: Any, **how: Any) -> Any:
        seen.append([tokenizer.decode(sample.ids[sample.response]) for sample in samples])
        if len(seen) == 1:
            raise KeyboardInterrupt
        return real(network, tokenizer, samples, *more, **how)

    monkeypatch.setattr(cell.finetune, "fine_tune", noted)
    monkeypatch.setattr(replaced, "LocalWriter", StubWriter)
    with pytest.raises(KeyboardInterrupt):
        study.run(plan(**FEW), "out")
    assert StubWriter.asked
    study.run(plan(**FEW), "out")
    assert StubWriter.asked == []  # all of it was kept
    assert seen[0] == seen[1]

    name = scorer_of(plan(**FEW).settings).name
    chosen = drop_fraction(ScoreTable.read(f"out/scores/{name}.parquet").scores, 0.5)
    folder = Path("out/arms/replace-0.5/seed-0")
    records = [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]
    scores = {one["row"]: one["score"] for one in records if "score" in one}
    taken = sorted(row for row, score in scores.items() if score < (chosen.threshold or np.nan))
    assert taken
    assert set(taken) < set(chosen.drop.tolist())
    done = json.loads((folder / "training.json").read_text())
    assert done["replaced"] == taken
    assert done["rows"] == sorted({*chosen.keep.tolist(), *taken})
    assert done["steps"] == plan(**FEW).recipe.steps
    old = [json.loads(line)["response"] for line in Path("data.jsonl").read_text().splitlines()]
    for place, text in zip(done["rows"], seen[1], strict=True):
        assert (old[place] in text) == (place not in taken)


def test_rows_with_masks_are_refused_before_any_work(work: Path) -> None:
    write_files(work)
    row = {"prompt": "w1", "response": "w2", "geofilter": {"weight": 0.5, "masked": ""}}
    with Path("data.jsonl").open("a") as data:
        data.write(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"carries masks or weights.* leave the arm replace out"):
        study.run(plan(**FEW), "out")
    assert not Path("out").exists()
