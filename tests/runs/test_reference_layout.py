"""A reference is read as the data was, wherever it has the data's columns."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.rows import RowFile, open_rows
from geofilter.errors import DataError
from geofilter.runs.provenance import describe_data
from geofilter.runs.reference import _opened

TURNS = [{"role": "user", "content": "other"}, {"role": "assistant", "content": "answer"}]


def write(path: str, *records: dict[str, Any]) -> str:
    Path(path).write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def opened(data: str, reference: str, **how: Any) -> tuple[RowFile, RowFile]:
    """The data, read as was asked for, and the reference by that."""
    rows = open_rows(data, **how)
    manifest = SimpleNamespace(decides={"data": describe_data(rows)})
    return rows, _opened(reference, SimpleNamespace(manifest=manifest, path="t.parquet"))


ALIKE = {
    "a column that rows may lack": (
        {"instruction": "a", "answer": "b"},
        {"columns": {"output": "answer"}},
    ),
    "two layouts in one file": (
        {"instruction": "a", "output": "b", "messages": TURNS},
        {"layout": "instruction-output"},
    ),
    "a renamed side, and no prompt": (
        {"good": "a b", "rejected": "a c"},
        {"columns": {"chosen": "good"}},
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_a_reference_with_the_columns_of_the_data_is_read_as_the_data(case: str, here) -> None:
    record, how = ALIKE[case]
    data, reference = opened(write("d.jsonl", record), write("r.jsonl", record, record), **how)
    assert reference.layouts == data.layouts


def test_the_first_row_alone_does_not_decide(here) -> None:
    record, how = ALIKE["two layouts in one file"]
    odd = write("r.jsonl", {"messages": TURNS}, record)
    data, reference = opened(write("d.jsonl", record), odd, **how)
    assert reference.layouts == data.layouts


def test_a_reference_without_a_renamed_column_is_read_in_its_own_layout(here) -> None:
    how = {"columns": {"prompt": "ask", "response": "reply"}}
    data = write("d.jsonl", {"ask": "a", "reply": "b"})
    _, reference = opened(data, write("r.jsonl", {"prompt": "c", "response": "d"}), **how)
    assert reference.layouts == Layouts()


def test_a_reference_that_fits_nothing_says_which_column_it_lacks(here) -> None:
    how = {"columns": {"prompt": "ask", "response": "reply"}}
    data = write("d.jsonl", {"ask": "a", "reply": "b"})
    with pytest.raises(DataError, match=r"no column 'ask'; found 'x'"):
        opened(data, write("r.jsonl", {"x": "c"}), **how)
    with pytest.raises(DataError, match=r"no such file"):
        opened(data, "none.jsonl", **how)
