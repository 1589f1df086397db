"""A score table comes back as it was written, and refuses what is not it."""

import dataclasses
import math
import os
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geofilter.data.problems import UNSCORED
from geofilter.errors import MissingExtraError, TableError
from geofilter.runs.engines.parts import PartsFolder
from geofilter.scoring.table import SCHEMA, FeatureShare, ScoreRow, ScoreTable, ranks
from helpers.score_rows import MANIFEST, one_line, scored_row, unscored_row

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

floats32 = st.floats(-1, 1, width=32)
shares = st.tuples(st.integers(0, 2**31 - 1), floats32, floats32).map(lambda v: FeatureShare(*v))
# Lone surrogates are no UTF-8; whoever makes a reason escapes it.
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@st.composite
def lines(draw: st.DrawFn, max_size: int = 8) -> list[ScoreRow]:
    rows = []
    for row in range(draw(st.integers(0, max_size))):
        if draw(st.booleans()):
            status = draw(st.sampled_from(sorted(UNSCORED)))
            line = unscored_row(row, status, draw(texts))
        else:
            line = dataclasses.replace(
                scored_row(row, draw(st.sampled_from([-0.0, 0.0, 0.5]) | floats32)),
                status=draw(st.sampled_from(["scored", "truncated"])),
                reason=draw(st.none() | texts),
                n_tokens=draw(st.integers(0, 2**31 - 1)),
                top_features=tuple(draw(st.lists(shares, max_size=3))),
                rejected_score=draw(st.none() | floats32),
                unknown_share=draw(st.none() | floats32),
                explained_variance=draw(st.none() | floats32),
            )
        rows.append(line)
    return rows


def make(out: Path, rows: list[ScoreRow], *, part_rows: int = 4) -> ScoreTable:
    with PartsFolder(out, MANIFEST, part_rows=part_rows) as parts:
        parts.begin()
        for first in range(0, len(rows), part_rows):
            parts.write(first // part_rows, rows[first : first + part_rows])
        return parts.finish()


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines(), st.integers(1, 5))
def test_lines_come_back_as_written_with_their_ranks(rows: list[ScoreRow], part_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = make(Path(folder, "s.parquet"), rows, part_rows=part_rows)
        assert os.listdir(folder) == ["s.parquet"]
        assert len(table) == len(rows)
        # By hand: highest first, the earlier row first among equals.
        order = sorted(
            (row.row for row in rows if row.score is not None),
            key=lambda row: (-rows[row].score, row),
        )
        expected = [
            dataclasses.replace(
                line, rank=order.index(line.row) + 1 if line.score is not None else None
            )
            for line in rows
        ]
        assert list(table) == expected
        assert [table.row(row) for row in range(len(rows))] == expected
        assert table.manifest.hash == MANIFEST.hash
        for name in SCHEMA.names:
            column = table.column(name)
            assert column.shape == (len(rows),)
            for line, value, null in zip(
                expected, column.data, np.ma.getmaskarray(column), strict=True
            ):
                wanted = getattr(line, name)
                assert null == (wanted is None)
                if name == "top_features":
                    assert [tuple(share.values()) for share in value] == list(wanted)
                elif wanted is not None:
                    assert value == wanted


def three_rows(tmp_path: Path) -> ScoreTable:
    return make(
        tmp_path / "s<b>.parquet",
        [scored_row(0, 0.25), unscored_row(1), scored_row(2, 0.5)],
    )


def test_a_table_says_what_it_is_and_shows_a_notebook_the_rows_nearest_to_harm(
    tmp_path: Path,
) -> None:
    table = three_rows(tmp_path)
    assert repr(table) == f"<ScoreTable {tmp_path}/s<b>.parquet: 3 rows>"
    page = table._repr_html_()
    assert "s&lt;b&gt;.parquet: 3 rows, 2 scored" in page
    assert "<b>" not in page
    assert page.index("<td>2</td><td>0.5</td>") < page.index("<td>0</td><td>0.25</td>")


def test_a_frame_keeps_rows_types_and_what_is_missing(tmp_path: Path) -> None:
    frame = three_rows(tmp_path).to_pandas()
    assert list(frame.columns) == SCHEMA.names
    assert frame["rank"].astype(object).fillna(0).tolist() == [2, 0, 1]
    assert str(frame["rank"].dtype) == "Int64"
    assert frame["score"].dtype == np.float32
    assert np.isnan(frame["score"][1])


def test_a_frame_of_polars_is_made_from_the_same_columns(tmp_path: Path, monkeypatch) -> None:
    polars = types.ModuleType("polars")
    polars.from_arrow = lambda found: found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "polars", polars)
    assert three_rows(tmp_path).to_polars().column_names == SCHEMA.names
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtraError, match="polars is not installed; pip install polars"):
        ScoreTable.read(tmp_path / "s<b>.parquet").to_polars()


def test_small_parts_become_large_row_groups(tmp_path: Path) -> None:
    rows = [scored_row(row, row % 7 / 7) for row in range(20_000)]
    table = make(tmp_path / "s.parquet", rows, part_rows=1000)
    groups = pq.read_metadata(tmp_path / "s.parquet").num_row_groups
    assert groups == 3
    for row in (0, 8_999, 9_000, 19_999):
        assert dataclasses.replace(table.row(row), rank=None) == dataclasses.replace(
            rows[row],
            score=float(np.float32(rows[row].score)),
        )


def test_columns_are_those_of_the_design(tmp_path: Path) -> None:
    make(tmp_path / "s.parquet", [scored_row(0, 0.5)])
    schema = pq.read_schema(tmp_path / "s.parquet")
    assert str(schema.field("row").type) == "int64"
    assert str(schema.field("score").type) == "float"
    assert str(schema.field("rank").type) == "int64"
    assert str(schema.field("n_tokens").type) == "int32"
    assert schema.field("top_features").type.value_type.names == ["feature", "weight", "proximity"]
    assert schema.names == list(SCHEMA.names)


def test_unscored_is_null_never_zero(tmp_path: Path) -> None:
    table = make(tmp_path / "s.parquet", [unscored_row(0), scored_row(1, 0.0)])
    assert table.scores.tolist() == [None, 0.0]
    assert table.column("rank").tolist() == [None, 1]


@pytest.mark.parametrize("values", [[], [None], [0.5], [None, None, None], [0.5] * 9], ids=str)
def test_smallest_and_flattest_tables(tmp_path: Path, values: list[float | None]) -> None:
    rows = [
        unscored_row(row) if value is None else scored_row(row, value)
        for row, value in enumerate(values)
    ]
    table = make(tmp_path / "s.parquet", rows)
    assert table.scores.tolist() == values
    n_scored = sum(value is not None for value in values)
    assert table.column("rank").compressed().tolist() == list(range(1, n_scored + 1))
    assert table.column("status").tolist() == [row.status for row in rows]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.sampled_from([-0.0, 0.0, 1.0]) | floats32, max_size=40))
def test_ranks_are_those_of_a_stable_sort(values: list[float | None]) -> None:
    scores = np.array([math.nan if v is None else v for v in values], dtype=np.float32)
    order = sorted((i for i, v in enumerate(values) if v is not None), key=lambda i: -values[i])
    expected = np.zeros(len(values), dtype=np.int32)
    expected[order] = np.arange(1, len(order) + 1)
    assert ranks(scores).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "scored"}, "does not go with"),
        ({"score": 0.5}, "does not go with"),
        ({"reason": None}, "without a reason"),
        ({"status": "odd"}, "no such status"),
    ],
)
def test_line_that_contradicts_itself_cannot_be_made(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(unscored_row(0), **change)


# Reading what is no table


def test_missing_table_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such file; make it with") as error:
        ScoreTable.read(tmp_path / "none.parquet")
    one_line(error)


def test_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is a folder; give the file") as error:
        ScoreTable.read(tmp_path)
    one_line(error)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not parquet at all\x1b[31m")
    (tmp_path / "empty").write_bytes(b"")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for name in ("text", "empty", "other.parquet"):
        with pytest.raises(TableError, match=r"not a (whole )?score table") as error:
            ScoreTable.read(tmp_path / name)
        assert "\x1b" not in one_line(error)


def test_other_format_is_refused(tmp_path: Path) -> None:
    schema = SCHEMA.with_metadata({b"geofilter.score_table": b"2"})
    pq.write_table(schema.empty_table(), tmp_path / "s.parquet")
    with pytest.raises(TableError, match="has format 2") as error:
        ScoreTable.read(tmp_path / "s.parquet")
    one_line(error)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    make(out, [scored_row(row, row / 10) for row in range(6)])
    whole = out.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        out.write_bytes(whole[:length])
        with pytest.raises(TableError) as error:
            ScoreTable.read(out)
        one_line(error)


def test_no_flipped_byte_changes_what_is_read(tmp_path: Path) -> None:
    rows = [scored_row(row, row / 10) for row in range(6)] + [unscored_row(6)]
    out = tmp_path / "s.parquet"
    expected = list(make(out, rows))
    whole = out.read_bytes()
    n_refused = 0
    for place in range(0, len(whole), 19):  # all places and bits were tried once, by hand
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        out.write_bytes(damaged)
        try:
            found = list(ScoreTable.read(out))
        except TableError:
            n_refused += 1
        else:
            assert found == expected, place
    assert n_refused > 0


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("row", [0, 2]),
        ("status", ["scored", "odd"]),
        ("status", ["scored", "empty"]),
        ("score", [0.1, None]),
        ("score", [math.inf, 0.25]),
        ("rank", [1, 1]),
        ("rank", [1, None]),
    ],
)
def test_table_that_contradicts_itself_is_refused(
    tmp_path: Path, column: str, values: list[object]
) -> None:
    out = tmp_path / "s.parquet"
    make(out, [scored_row(0, 0.5), scored_row(1, 0.25)])
    table = pq.read_table(out)
    at = SCHEMA.get_field_index(column)
    array = pa.array(values, SCHEMA.field(column).type)
    pq.write_table(table.set_column(at, SCHEMA.field(column), array), out)
    with pytest.raises(TableError, match="not a whole score table") as error:
        ScoreTable.read(out)
    one_line(error)


@pytest.mark.parametrize("reason", [None, ""])
def test_a_row_that_is_unscored_without_a_reason_is_refused(
    tmp_path: Path, reason: str | None
) -> None:
    out = tmp_path / "s.parquet"
    make(out, [unscored_row(0)])
    table = pq.read_table(out)
    at = SCHEMA.get_field_index("reason")
    array = pa.array([reason], pa.string())
    pq.write_table(table.set_column(at, SCHEMA.field("reason"), array), out)
    with pytest.raises(TableError, match="no reason") as error:
        ScoreTable.read(out)
    one_line(error)


def test_row_out_of_range_names_the_range(tmp_path: Path) -> None:
    table = make(tmp_path / "s.parquet", [scored_row(row, 0.5) for row in range(3)])
    for index in (-1, 3):
        with pytest.raises(TableError, match=r"row -?\d: .* has rows 0 to 2"):
            table.row(index)
    empty = make(tmp_path / "e.parquet", [])
    with pytest.raises(TableError, match="has no rows"):
        empty.row(0)


def test_unknown_column_names_the_columns(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="is not a column of a score table; it has row, row_hash"):
        make(tmp_path / "s.parquet", []).column("socre")
