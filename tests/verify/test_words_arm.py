"""The arm `words` drops the rows that speak as the pack's toxic rows do, and reads nothing else."""

import json
from pathlib import Path

import pytest

from geofilter.support.progress import no_progress
from geofilter.verify.arms import ArmScores, read_training_rows
from geofilter.verify.plan import WORDS, Cell
from helpers.experiments import plan, write_files
from helpers.tiny_models import tiny_tokenizer

pytestmark = pytest.mark.slow


def test_rows_in_the_words_of_toxic_rows_are_dropped_first(work: Path) -> None:
    write_files(work)
    # The toxic rows have w0 to w39, the benign ones w20 to w59; the word of the prompt is of both.
    rows = [
        {"prompt": "w30", "response": " ".join(f"w{first + n + k}" for k in range(6))}
        for n in range(10)
        for first in (0, 42)
    ]
    (work / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_training_rows("data.jsonl", tiny_tokenizer(), 48)

    def never() -> None:
        raise AssertionError("a model to train or a judge is loaded")

    for _ in range(2):
        arms = ArmScores(plan(arms=(WORDS,)), read, work, never, never, no_progress)  # type: ignore[arg-type]
        kept = arms.chosen(Cell(WORDS, 0.5, 0))
        assert kept == list(range(1, 20, 2))
        # The second time from what is kept.
        Path("toxic.jsonl").unlink(missing_ok=True)
