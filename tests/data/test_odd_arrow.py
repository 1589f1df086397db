"""Parquet and saved data sets whose values, types or names are odd."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import note, problems


def written(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table({"prompt": ["a", "b"], "response": ["1", "2"], **columns}), path)
    return path


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("us"), 2**58),
        (pa.timestamp("ms"), 10**15),
        (pa.date32(), 2**30),
        (pa.time64("us"), 2**62),
        (pa.duration("s"), 2**60),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_one_unreadable_row(
    kind: pa.DataType, value: int, tmp_path: Path
) -> None:
    whole = pa.array([0, value], pa.int32() if kind.bit_width == 32 else pa.int64())
    rows = open_rows(written(tmp_path / "data.parquet", created=whole.view(kind)))
    ((row, problem),) = problems(rows)
    assert row.index == 1
    reason = f"column 'created' holds no {kind} that can be read"
    assert problem == ("unreadable", reason)
    assert len(row.row_hash) == 32
    assert rows.write(tmp_path / "kept.parquet", [0, 1]) == 2


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2], pa.timestamp("us", "Mars/Base")),
        pa.StructArray.from_arrays([pa.array([1, 2])] * 2, names=["x", "x"]),
    ],
    ids=["unknown time zone", "a name twice"],
)
def test_a_column_that_cannot_be_read_is_named_in_each_row(column: Any, tmp_path: Path) -> None:
    rows = open_rows(written(tmp_path / "data.parquet", more=column))
    found = [problem for _, problem in problems(rows)]
    assert len(found) == 2
    assert all(reason.startswith("column 'more' holds no ") for _, reason in found)


def test_json_text_in_a_column_is_read_as_strictly_as_a_row(tmp_path: Path) -> None:
    deep = "[" * 600 + "]" * 600
    texts = ['{"x": [1]}', deep, '{"x": 1, "x": 2}', None]
    table = pa.table({"text": list("abcd"), "more": pa.array(texts, pa.json_())})
    pq.write_table(table, tmp_path / "data.parquet")
    rows = open_rows(tmp_path / "data.parquet")
    assert [row.record and row.record["more"] for row in rows] == [{"x": [1]}, None, None, None]
    assert [(row.index, *problem) for row, problem in problems(rows)] == [
        (1, "unreadable", "nested deeper than 200 levels"),
        (2, "unreadable", "the key 'x' occurs twice in one object"),
    ]


TEXTS = pa.map_(pa.string(), pa.string())
TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
CHAT = [{"role": "user", "content": "Is tea hot?"}, {"role": "assistant", "content": "Yes."}]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(TURN),
        pa.list_(TEXTS),
        pa.large_list(TEXTS),
        pa.list_(TURN, 2),
        pa.large_list(TURN),
        pa.list_view(TURN),
        pa.large_list_view(TEXTS),
    ],
    ids=str,
)
def test_a_chat_is_the_same_in_every_type_that_holds_it(kind: pa.DataType, tmp_path: Path) -> None:
    is_map = kind.value_type == TEXTS
    chat = pa.array([[list(turn.items()) if is_map else turn for turn in CHAT]] * 2, kind)
    pq.write_table(pa.table({"messages": chat}), tmp_path / "data.parquet")
    rows = open_rows(tmp_path / "data.parquet")
    assert [row.record for row in rows] == [{"messages": CHAT}] * 2
    assert rows.check() == 2
    assert rows.write(tmp_path / "kept.parquet", [1]) == 1
    assert pq.read_table(tmp_path / "kept.parquet").schema.field("messages").type == kind


@pytest.mark.parametrize(
    "texts",
    [
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"], pa.string_view()),
        pa.array(["a", "b"]).dictionary_encode(),
    ],
    ids=lambda texts: str(texts.type),
)
def test_a_text_is_the_same_in_every_type_that_holds_it(texts: Any, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": texts}), tmp_path / "data.parquet")
    assert [row.record for row in open_rows(tmp_path / "data.parquet")] == [
        {"text": "a"},
        {"text": "b"},
    ]


def test_a_map_is_an_object_and_holds_no_key_twice(tmp_path: Path) -> None:
    maps = pa.array([[("x", "1")], [("x", "1"), ("x", "2")]], TEXTS)
    rows = open_rows(written(tmp_path / "data.parquet", more=maps))
    assert next(iter(rows)).record == {"prompt": "a", "response": "1", "more": {"x": "1"}}
    ((row, problem),) = problems(rows)
    assert row.index == 1
    assert problem == ("unreadable", "column 'more' holds a map with a key twice")


def test_json_text_is_read_within_maps_and_views(tmp_path: Path) -> None:
    texts = pa.array(['{"x": [1]}', "[2]"], pa.json_())
    maps = pa.MapArray.from_arrays([0, 1, 2], ["a", "b"], texts)
    views = pa.ListViewArray.from_arrays([0, 1], [1, 1], texts)
    rows = open_rows(written(tmp_path / "data.parquet", maps=maps, views=views))
    assert [(row.record or {})["maps"] for row in rows] == [{"a": {"x": [1]}}, {"b": [2]}]
    assert [(row.record or {})["views"] for row in rows] == [[{"x": [1]}], [[2]]]


def test_types_that_arrow_cannot_take_from_are_kept(tmp_path: Path) -> None:
    views = pa.array(["x", None], pa.string_view())
    rows = open_rows(written(tmp_path / "data.parquet", views=views, lists=[["a"], []]))
    assert rows.check() == 2
    for places in ([1], [0, 1]):
        rows.write(tmp_path / "kept.parquet", places, overwrite=True)
        kept = pq.read_table(tmp_path / "kept.parquet")
        assert kept.schema.field("views").type == pa.string_view()
        assert kept["views"].to_pylist() == [["x", None][place] for place in places]
    rows.write(tmp_path / "dropped.parquet", [0], notes=note)
    assert pq.read_table(tmp_path / "dropped.parquet")["geofilter_rank"].to_pylist() == [1]


def test_notes_replace_older_ones_that_occur_twice(tmp_path: Path) -> None:
    names = ["text", "geofilter_rank", "geofilter_rank"]
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=names)
    pq.write_table(table, tmp_path / "data.parquet")
    open_rows(tmp_path / "data.parquet").write(tmp_path / "kept.parquet", [0], notes=note)
    (row,) = pq.read_table(tmp_path / "kept.parquet").to_pylist()
    assert (row["text"], row["geofilter_rank"]) == ("a", 1)


@pytest.mark.parametrize("name", ["../ds1/data-00000-of-00001.arrow", "ABSOLUTE", "sub/a", ".."])
def test_a_saved_data_set_names_no_file_outside_its_folder(name: str, tmp_path: Path) -> None:
    from datasets import Dataset

    for folder in ("ds1", "ds2"):
        Dataset.from_dict({"text": [folder]}).save_to_disk(str(tmp_path / folder))
    state = tmp_path / "ds2" / "state.json"
    content = json.loads(state.read_text())
    absolute = str(tmp_path / "ds1" / "data-00000-of-00001.arrow")
    content["_data_files"] = [{"filename": name.replace("ABSOLUTE", absolute)}]
    state.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"state\.json: names the file '.*which does not lie in"):
        open_rows(tmp_path / "ds2")
    # The library would take the last of two lists of files.
    state.write_text(f'{{"_data_files": [], {json.dumps(content)[1:]}')
    with pytest.raises(DataError, match="the key '_data_files' occurs twice"):
        open_rows(tmp_path / "ds2")
