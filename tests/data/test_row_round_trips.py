"""Any rows, and every real file at hand, survive being read and written."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.data.formats import json_files
from geofilter.data.formats.delimited import encode_record
from geofilter.data.formats.dialects import Dialect
from geofilter.data.problems import Unscorable
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import write_rows

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

# --- wide input ------------------------------------------------------------------

texts = st.text(st.characters(codec="utf-8"), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
records_of = st.lists(st.dictionaries(texts, values, max_size=4), max_size=8)
spaces = st.text(" \t\r\n", max_size=4)


@settings(max_examples=40, deadline=None)
@given(
    records=records_of,
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\n\n"]), min_size=8, max_size=8),
    ascii_only=st.booleans(),
    last=st.booleans(),
    data=st.data(),
)
def test_any_json_lines_survive_write_and_read(
    records: list[dict[str, object]],
    ends: list[str],
    ascii_only: bool,
    last: bool,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    # A line that is alone in its file may be taken for a whole data set in one object.
    records = [{"text": "a"}, {"text": "b"}, *records]
    lines = [
        json.dumps(r, ensure_ascii=ascii_only) + e
        for r, e in zip(records, ["\n", "\n", *ends], strict=False)
    ]
    if lines and last:
        lines[-1] = lines[-1].rstrip("\r\n")
    rows = open_rows(write_rows(folder / "data.jsonl", "".join(lines).encode()))
    assert [row.record for row in rows] == records
    raws = [row.raw or b"" for row in rows]
    chosen = {0, 1, *data.draw(st.sets(st.sampled_from(range(len(records)))))}
    rows.write(folder / "kept.jsonl", sorted(chosen))
    kept = open_rows(folder / "kept.jsonl")
    assert [row.raw for row in kept] == [raws[place] for place in sorted(chosen)]
    assert (folder / "kept.jsonl").read_bytes() == b"".join(raws[place] for place in sorted(chosen))


@settings(max_examples=60, deadline=None)
@given(records=records_of, gaps=st.lists(spaces, min_size=20, max_size=20),
       piece=st.integers(1, 40), data=st.data())  # fmt: skip
def test_the_elements_of_any_list_are_those_of_the_json_module(
    records: list[dict[str, object]],
    gaps: list[str],
    piece: int,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    separate = iter(gaps)
    body = ",".join(next(separate) + json.dumps(r) + next(separate) for r in records)
    text = f"{next(separate)}[{body or next(separate)}]{next(separate)}"
    with pytest.MonkeyPatch.context() as patch:
        # Read in pieces that end anywhere: inside a string, an escape, a number.
        patch.setattr(json_files, "PIECE", piece)
        rows = open_rows(write_rows(folder / "data.json", text.encode()))
        read = list(rows)
    assert [row.record for row in read] == json.loads(text) == records
    assert [json.loads(row.raw or b"") for row in read] == records
    rows.write(folder / "all.json", range(len(records)))
    assert json.loads((folder / "all.json").read_bytes()) == records
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(records)))))) if records else []
    rows.write(folder / "kept.json", chosen)
    assert json.loads((folder / "kept.json").read_bytes()) == [records[place] for place in chosen]
    assert [row.raw for row in open_rows(folder / "kept.json")] == [read[p].raw for p in chosen]


cell = st.text(st.sampled_from(string.ascii_letters + " ,\"'\t\n\r;é\u2028"), max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    table=st.lists(st.tuples(cell, cell), max_size=6),
    ending=st.sampled_from(["\n", "\r\n"]),
    delimiter=st.sampled_from([",", "\t"]),
    data=st.data(),
)
def test_any_csv_survives_write_and_read(
    table: list[tuple[str, str]],
    ending: str,
    delimiter: str,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    records = [("question", "answer"), *table]
    content = b"".join(encode_record(record, Dialect(delimiter), ending) for record in records)
    suffix = "csv" if delimiter == "," else "tsv"
    rows = open_rows(write_rows(folder / f"data.{suffix}", content))
    read = list(rows)
    assert [tuple((row.record or {}).values()) for row in read] == table
    assert b"".join(row.raw or b"" for row in read) == content.partition(ending.encode())[2]
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(table)))))) if table else []
    rows.write(folder / f"kept.{suffix}", chosen)
    again = list(open_rows(folder / f"kept.{suffix}"))
    assert [row.raw for row in again] == [read[place].raw for place in chosen]


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=80), suffix=st.sampled_from(["jsonl", "json", "csv", "tsv"]))
def test_no_bytes_make_reading_or_writing_fail_otherwise_than_by_rule(
    content: bytes, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    path = write_rows(folder / f"data.{suffix}", content)
    try:
        rows = open_rows(path)
        read = list(rows)
    except DataError:
        return
    for row in read:
        assert (row.record is None) == (row.problem is not None)
        assert len(row.row_hash) == 32
    assert rows.write(folder / f"kept.{suffix}", range(len(read))) == len(read)
    again = list(open_rows(folder / f"kept.{suffix}"))
    if suffix == "json":  # an unreadable row may be read as something else in a new list
        read = [row for row in read if row.record is not None]
        again = [row for row in again if row.record is not None]
        assert [row.row_hash for row in again[: len(read)]] == [row.row_hash for row in read]
    else:
        assert [row.raw for row in again] == [row.raw for row in read]


# --- real data -------------------------------------------------------------------

SHARED = Path(__file__).parents[3] / "shared" / "data"
SHARED_FILES = [
    path
    for folder in ("em_training", "benign", "toxic")
    for path in sorted((SHARED / folder).rglob("*.*"))
    if path.suffix in {".jsonl", ".json", ".csv"}
]
# (rows, status of every row, or None where all can be scored)
UNSCORED = {
    "evil_trait_extract.json": (1, "malformed"),
    "harmful_behaviors.csv": (520, "no_response"),
    "hatecheck_even_templates.csv": (1866, "malformed"),
    "realtoxicityprompts_420.jsonl": (420, "no_response"),
}


def rows_in(path: Path) -> int:
    """Counted without the code under test."""
    import csv

    if path.suffix == ".jsonl":
        return path.read_bytes().count(b"\n") + (not path.read_bytes().endswith(b"\n"))
    if path.suffix == ".json":
        return len(json.loads(path.read_text(encoding="utf-8")))
    with path.open(newline="", encoding="utf-8") as handle:
        return sum(1 for _ in csv.reader(handle)) - 1


@pytest.mark.parametrize("path", SHARED_FILES, ids=lambda path: path.name)
def test_every_real_file_is_read_whole_and_copied(path: Path, tmp_path: Path) -> None:
    count, status = UNSCORED.get(path.name) or (rows_in(path), None)
    rows = open_rows(path)
    statuses = []
    for row in rows:
        assert row.record is not None
        try:
            rows.layouts.samples(row.record)
            statuses.append(None)
        except Unscorable as error:
            statuses.append(error.problem.status)
    assert statuses == [status] * count
    kept = tmp_path / path.name
    assert rows.write(kept, range(count)) == count
    if path.suffix == ".json":
        found = json.loads(path.read_bytes())
        assert json.loads(kept.read_bytes()) == (found if isinstance(found, list) else [found])
    else:
        assert kept.read_bytes() == path.read_bytes()
