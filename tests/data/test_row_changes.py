"""Rows that change are written again, and all others keep every byte and type."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofilter.data.formats.source import Changes
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import LINES, write_rows

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")

TURN = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])
TEXTS = pa.map_(pa.string(), pa.string())
CHAT = [{"role": "user", "content": "Is tea hot?"}, {"role": "assistant", "content": "Yes."}]
FIRST = {"role": "system", "content": "Be brief."}


def setting(rows: set[int], new: dict[str, object] | None = None, **values: object) -> Changes:
    return Changes(rows, lambda record: values, new or {})


def longer(record: dict[str, Any]) -> dict[str, object]:
    return {"messages": [FIRST, *record["messages"]]}


def test_a_line_that_changes_keeps_its_end_and_the_others_their_bytes(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"\xef\xbb\xbf" + b"".join(LINES)))
    kept = tmp_path / "kept.jsonl"
    rows.write(kept, range(3), changes=setting({1}, answer="é", system="s"))
    line = '{"question": "b", "answer": "é", "system": "s"}\r\n'.encode()
    assert kept.read_bytes() == b"\xef\xbb\xbf" + LINES[0] + line + LINES[2]
    rows.write(kept, range(3), changes=setting({2}, answer="4"), overwrite=True)
    last = b'{"answer": "4", "question": "c", "id": 1.5}'
    assert kept.read_bytes() == b"\xef\xbb\xbf" + LINES[0] + LINES[1] + last
    rows.write(kept, [0, 2], changes=setting({1}, answer="4"), overwrite=True)
    assert kept.read_bytes() == b"\xef\xbb\xbf" + LINES[0] + LINES[2]


def test_an_element_of_a_list_changes_alone(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.json", b'[{"text":"a"}, {"text":"b"}]'))
    rows.write(tmp_path / "kept.json", range(2), changes=setting({1}, text="c"))
    assert (tmp_path / "kept.json").read_bytes() == b'[\n{"text":"a"},\n{"text": "c"}\n]\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_record_of_csv_changes_alone(encoding: str, tmp_path: Path) -> None:
    text = 'question;answer;system\r\n"a";1;\r\nb;2;\n"c";3;'
    rows = open_rows(write_rows(tmp_path / "data.csv", text.encode(encoding)))
    changes = setting({1}, {"system": "s"}, system='say; "no"')
    rows.write(tmp_path / "kept.csv", range(3), changes=changes)
    changed = text.replace("b;2;\n", 'b;2;"say; ""no"""\n')
    assert (tmp_path / "kept.csv").read_bytes() == changed.encode(encoding)


def test_a_csv_without_the_column_is_refused_since_all_its_lines_would_change(tmp_path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.csv", b"question,answer\na,b\n"))
    with pytest.raises(DataError, match=r"data\.csv: has no column 'system', .*; add that column"):
        rows.write(tmp_path / "kept.csv", [0], changes=setting({0}, {"system": "s"}, system="s"))
    assert not (tmp_path / "kept.csv").exists()


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(TURN),
        pa.large_list(TURN),
        pa.list_view(TURN),
        pa.list_(TEXTS),
        pa.list_(pa.struct([("role", pa.string()), ("content", pa.json_())])),
        pa.json_(),
    ],
    ids=str,
)
def test_a_cell_changes_in_every_type_that_holds_a_chat(kind: pa.DataType, tmp_path: Path) -> None:
    held: Any = CHAT
    if kind == pa.json_():
        held = json.dumps(CHAT)
    elif "json" in str(kind):
        held = [{**turn, "content": json.dumps(turn["content"])} for turn in CHAT]
    inner = getattr(kind, "value_type", None)
    plain = pa.string() if kind == pa.json_() else kind
    if "json" in str(kind) and inner is not None:
        plain = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    if inner == TEXTS:
        held = [list(turn.items()) for turn in CHAT]
    column = pa.array([held] * 3, plain).cast(kind)
    number = pa.array([1, None, 3], pa.decimal128(9, 2))
    pq.write_table(pa.table({"messages": column, "n": number}), tmp_path / "data.parquet")
    rows = open_rows(tmp_path / "data.parquet")
    rows.write(tmp_path / "kept.parquet", range(3), changes=Changes({1}, longer, {}))
    kept = open_rows(tmp_path / "kept.parquet")
    found = [row.record["messages"] for row in kept if row.record]
    clean = [[{k: v for k, v in turn.items() if v is not None} for turn in chat] for chat in found]
    assert clean == [CHAT, [FIRST, *CHAT], CHAT]
    table = pq.read_table(tmp_path / "kept.parquet")
    assert table.schema == pq.read_table(tmp_path / "data.parquet").schema
    assert table["n"].equals(pa.chunked_array([number]))


@pytest.mark.parametrize("stated", [True, False])
def test_a_new_column_is_null_in_the_other_rows(stated: bool, tmp_path: Path) -> None:
    columns = {"question": ["a"] * 700, "answer": ["b"] * 700}
    if stated:
        columns["system"] = [None] * 700  # of Arrow's type null
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    rows = open_rows(tmp_path / "data.parquet")
    changes = setting({3, 600}, {"system": "s"}, system="s")
    rows.write(tmp_path / "kept.parquet", range(700), changes=changes)
    kept = pq.read_table(tmp_path / "kept.parquet")
    assert kept.column_names == ["question", "answer", "system"]
    assert [i for i, text in enumerate(kept["system"].to_pylist()) if text == "s"] == [3, 600]
    assert kept["system"].null_count == 698


def test_a_type_that_cannot_hold_a_change_is_refused_not_emptied(tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("value", pa.string())])
    chat = [{"role": "user", "value": "a"}]
    pq.write_table(pa.table({"messages": pa.array([chat], pa.list_(turn))}), tmp_path / "d.parquet")
    rows = open_rows(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"column 'messages' is list.* cannot hold the changed"):
        rows.write(tmp_path / "kept.parquet", [0], changes=Changes({0}, longer, {}))
    with pytest.raises(DataError, match="as JSON lines"):
        rows.write(tmp_path / "kept.parquet", [0], changes=setting({0}, messages="text"))
    assert not (tmp_path / "kept.parquet").exists()


def test_a_saved_data_set_changes_with_its_features(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value, load_from_disk

    features = Features(
        {"question": Value("string"), "answer": Value("string"), "kind": ClassLabel(names=["a"])}
    )
    rows = {"question": ["a", "b"], "answer": ["1", "2"], "kind": [0, 0]}
    Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "data"))
    changes = setting({1}, {"system": "s"}, system="s", answer="3")
    open_rows(tmp_path / "data").write(tmp_path / "kept", range(2), changes=changes)
    kept = load_from_disk(str(tmp_path / "kept"))
    assert kept.features == Features({**features, "system": Value("string")})
    assert kept[:] == {**rows, "answer": ["1", "3"], "system": [None, "s"]}


def test_rows_of_several_files_change_by_their_place_in_all_of_them(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write_rows(first, LINES[0] + LINES[1])
    write_rows(second, LINES[2])
    rows = open_rows([str(first), str(second)])
    rows.write(tmp_path / "kept.jsonl", range(3), changes=setting({2}, answer="4", id=None))
    lines = (tmp_path / "kept.jsonl").read_bytes()
    assert lines == LINES[0] + LINES[1] + b'{"answer": "4", "question": "c", "id": null}'
