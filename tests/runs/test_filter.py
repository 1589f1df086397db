"""`filter_rows`: what the command does in one call, and that an action is a file and a line."""

from pathlib import Path

import pytest

from geofilter import filter_rows
from geofilter.errors import GeofilterError, OutputError
from geofilter.selection.actions import ACTIONS
from geofilter.selection.actions.base import Action, Done

DATA = ("data.jsonl", "data.scores.parquet")


def lines(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines(keepends=True)


def test_one_call_writes_both_files_and_says_what_went(work: Path) -> None:
    done = filter_rows(*DATA, "kept.jsonl", drop_fraction=0.25, dropped="dropped.jsonl")
    rows = lines("data.jsonl")
    assert lines("kept.jsonl") == [rows[place] for place in done.selection.keep]
    assert len(lines("dropped.jsonl")) == len(done.selection.drop) == 10
    assert (done.figures["kept"], done.figures["dropped"], done.bound) == (30, 10, None)


def test_an_output_is_replaced_only_where_that_is_asked_for(work: Path) -> None:
    filter_rows(*DATA, "kept.jsonl", threshold=9)
    with pytest.raises(OutputError, match=r"kept\.jsonl"):
        filter_rows(*DATA, "kept.jsonl", drop_fraction=0.5)
    filter_rows(*DATA, "kept.jsonl", drop_fraction=0.5, overwrite=True)
    assert len(lines("kept.jsonl")) == 20


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give one of --drop-fraction, --threshold, --fdr"),
        ({"drop_fraction": 0.1, "threshold": 0.1}, "give one of"),
        ({"fdr": 0.1}, "--fdr and --reference go together"),
        ({"drop_fraction": 0.1, "reference": "other.jsonl"}, "--fdr and --reference go together"),
        ({"drop_fraction": 0.1, "action": "burn"}, "'burn': is not known; choose drop, mask"),
    ],
)
def test_arguments_that_do_not_go_together_leave_nothing(work: Path, options, said) -> None:
    with pytest.raises(GeofilterError, match=said):
        filter_rows(*DATA, "kept.jsonl", **options)
    assert not Path("kept.jsonl").exists()


def test_a_new_action_is_a_line_of_the_table(work: Path, monkeypatch) -> None:
    def count(job) -> Done:
        job.rows.write(job.output, job.selection.drop.tolist())
        return Done({"near": len(job.selection.drop)}, ["counted"], [])

    monkeypatch.setitem(ACTIONS, "count", Action(about="they are counted", act=count))
    done = filter_rows(*DATA, "near.jsonl", drop_fraction=0.1, action="count")
    assert (done.figures, done.lines) == ({"near": 4}, ["counted"])
    assert len(lines("near.jsonl")) == 4
