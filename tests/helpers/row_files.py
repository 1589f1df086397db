"""Small row files and what is to be said of their rows: shared by the tests of rows."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import Row, RowFile, RowNote

LINES = [
    b'{"question": "a", "answer": "1"}\n',
    b'{ "question":"b",   "answer":"2" }\r\n',
    b'{"answer": "\\u0033", "question": "c", "id": 1.50}',
]
GOOD = b'{"question": "How long do eggs boil?", "answer": "Nine minutes."}\n'
CSV = b"question,answer\nWhy?,Because.\n"


def note(index: int) -> RowNote:
    return RowNote(0.5 - index, index + 1, "scored", "rank")


def write_rows(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def line(answer: object = "Nine minutes.", **more: object) -> bytes:
    return json.dumps({"question": "Why?", "answer": answer, **more}).encode() + b"\n"


def parquet(**columns: list[object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def layout_name(rows: RowFile) -> str:
    """The layout of all rows that fit one."""
    (name,) = rows.survey(check=False).reading.layouts
    return name


def problems(rows: RowFile) -> list[tuple[Row, Problem]]:
    """The rows that `--on-error keep` would leave unscored, with the reason."""
    found = []
    for row in rows:
        assert (row.record is None) == (row.problem is not None)
        if row.problem is not None:
            found.append((row, row.problem))
            continue
        try:
            rows.layouts.samples(row.record or {})
        except Unscorable as error:
            found.append((row, error.problem))
    return found
