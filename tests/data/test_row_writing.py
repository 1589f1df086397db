"""Writing rows: exact bytes, notes with them, and nothing left of an output that fails."""

import errno
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofilter.data.rows import RowNote, open_rows
from geofilter.errors import DataError, OutputError
from helpers.row_files import LINES, layout_name, note, write_rows

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def test_a_line_that_is_copied_is_not_parsed(tmp_path: Path, monkeypatch) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"".join(LINES)))
    monkeypatch.delattr("geofilter.data.formats.json_files.parse_object")
    assert rows.write(tmp_path / "kept.jsonl", [0, 2]) == 2
    assert (tmp_path / "kept.jsonl").read_bytes() == LINES[0] + LINES[2]


def test_kept_lines_are_exact_and_never_glued(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"\xef\xbb\xbf" + b"".join(LINES)))
    kept = tmp_path / "kept.jsonl"
    assert rows.write(kept, [1, 2]) == 2
    assert kept.read_bytes() == b"\xef\xbb\xbf" + LINES[1] + LINES[2]
    rows.write(kept, [0], overwrite=True)
    assert kept.read_bytes() == b"\xef\xbb\xbf" + LINES[0]
    # CSV whose header is its last line, or whose last record has no line end.
    rows = open_rows(write_rows(tmp_path / "data.csv", b"question,answer\r\na,b\r\nc,d"))
    rows.write(tmp_path / "kept.csv", [1])
    assert (tmp_path / "kept.csv").read_bytes() == b"question,answer\r\nc,d"
    rows.write(tmp_path / "noted.csv", [0, 1], notes=note)
    assert len(list(open_rows(tmp_path / "noted.csv"))) == 2


def test_kept_elements_make_a_list_and_keep_their_spelling(tmp_path: Path) -> None:
    content = b'\n[ {"text": "a"} , {"text":\n"b"},{"text": "c"}\t] \n'
    rows = open_rows(write_rows(tmp_path / "data.json", content))
    assert [row.raw for row in rows] == [b'{"text": "a"}', b'{"text":\n"b"}', b'{"text": "c"}']
    places = [row.where.removeprefix(str(tmp_path)) for row in rows]
    assert places == ["/data.json:2 (row 1)", "/data.json:2 (row 2)", "/data.json:3 (row 3)"]
    for indices in ([0, 1, 2], [0, 2], [1, 2], [1], []):
        kept = tmp_path / "kept.json"
        rows.write(kept, indices, overwrite=True)
        assert json.loads(kept.read_bytes()) == [{"text": "abc"[place]} for place in indices]
    rows.write(kept, [0, 1], overwrite=True)
    assert kept.read_bytes() == b'[\n{"text": "a"},\n{"text":\n"b"}\n]\n'


@pytest.mark.parametrize("tail", [b" junk", b""])
def test_a_broken_list_is_mended_by_dropping_what_is_broken(tail: bytes, tmp_path: Path) -> None:
    whole = b'[{"text": "a"}, {"text": "b"}]' if tail else b'[{"text": "a"}, {"text": "b"}, {"t'
    rows = open_rows(write_rows(tmp_path / "data.json", whole + tail))
    kept = tmp_path / "kept.json"
    rows.write(kept, [0, 1])
    assert json.loads(kept.read_bytes()) == [{"text": "a"}, {"text": "b"}]
    rows.write(kept, [0, 1, 2], overwrite=True)
    broken = b"junk" if tail else b'{"t'
    assert kept.read_bytes() == b'[\n{"text": "a"},\n{"text": "b"},\n' + broken + b"\n]\n"
    rows.write(kept, [2], overwrite=True, notes=note)
    (noted,) = json.loads(kept.read_bytes())
    assert noted["geofilter"]["rank"] == 3
    assert noted["geofilter"]["raw"] == broken.decode()


def test_json_rows_hold_their_notes(tmp_path: Path) -> None:
    content = LINES[0] + b'{"question": "x", "geofilter": "old"}\n' + b"caf\xe9\n"
    rows = open_rows(write_rows(tmp_path / "data.jsonl", content))
    rows.write(
        tmp_path / "dropped.jsonl", [0, 1, 2], notes={n: note(n) for n in range(3)}.__getitem__
    )
    first, second, third = map(json.loads, (tmp_path / "dropped.jsonl").read_text().splitlines())
    noted = {"score": 0.5, "rank": 1, "status": "scored", "reason": "rank"}
    assert first == {"question": "a", "answer": "1", "geofilter": noted}
    assert second["geofilter"]["rank"] == 2
    assert third == {"geofilter": {**noted, "score": -1.5, "rank": 3, "raw": "caf\\xe9\n"}}
    rows = open_rows(write_rows(tmp_path / "data.json", b'[{"text": "a"}, {"text": "b"}]'))
    rows.write(tmp_path / "dropped.json", [1], notes=note)
    assert json.loads((tmp_path / "dropped.json").read_text()) == [
        {"text": "b", "geofilter": {**noted, "score": -0.5, "rank": 2}}
    ]


def test_csv_records_hold_their_notes(tmp_path: Path) -> None:
    content = b'question,answer,geofilter_rank\n"a, b",1,old\nragged\n'
    rows = open_rows(write_rows(tmp_path / "data.csv", content))
    unscored = RowNote(None, None, "unreadable", "a record of 1 cells")
    dropped = tmp_path / "dropped.csv"
    rows.write(dropped, [0, 1], notes=[note(0), unscored].__getitem__)
    assert [row.record for row in open_rows(dropped)] == [
        {"question": "a, b", "answer": "1", "geofilter_score": "0.5", "geofilter_rank": "1",
         "geofilter_status": "scored", "geofilter_reason": "rank"},
        {"question": "ragged\n", "answer": "", "geofilter_score": "", "geofilter_rank": "",
         "geofilter_status": "unreadable", "geofilter_reason": "a record of 1 cells"},
    ]  # fmt: skip


def test_parquet_rows_keep_schema_types_and_metadata(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": pa.array(["a", "b", "c"], pa.large_string()),
            "response": ["1", None, "3"],
            "when": pa.array([1, 2, 3], pa.timestamp("ms")),
            "geofilter_rank": ["x", "y", "z"],
        }
    ).replace_schema_metadata({"made": "by hand"})
    path = tmp_path / "data.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=2)
    rows = open_rows(path)
    assert [row.where for row in rows] == [f"{path}:row {n}" for n in (1, 2, 3)]
    assert [row.raw for row in rows] == [None, None, None]
    assert all(len(row.row_hash) == 32 for row in rows)
    assert layout_name(rows) == "prompt-response"
    rows.write(tmp_path / "kept.parquet", [0, 2])
    assert pq.read_table(tmp_path / "kept.parquet").equals(table.take([0, 2]), check_metadata=True)
    chunk = pq.ParquetFile(tmp_path / "kept.parquet").metadata.row_group(0).column(0)
    assert chunk.compression == "ZSTD"
    rows.write(tmp_path / "dropped.parquet", [1], notes=note)
    assert pq.read_table(tmp_path / "dropped.parquet").drop_columns(["when"]).to_pylist() == [
        {"prompt": "b", "response": None, "geofilter_score": -0.5, "geofilter_rank": 2,
         "geofilter_status": "scored", "geofilter_reason": "rank"}
    ]  # fmt: skip
    for notes in (None, note):
        rows.write(tmp_path / "none.parquet", [], notes=notes, overwrite=True)
        assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_a_saved_data_set_is_read_and_written_as_one(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, load_from_disk

    records = [{"text": letter, "label": place} for place, letter in enumerate("abcd")]
    saved = tmp_path / "saved"
    Dataset.from_list(records).select([3, 2, 1, 0]).save_to_disk(str(saved))
    before = sorted(os.listdir(saved))
    rows = open_rows(saved)
    assert (rows.format, layout_name(rows), rows.check()) == ("datasets", "text", 4)
    assert [row.record for row in rows] == records[::-1]
    assert next(iter(rows)).where == f"{saved}:row 1"
    assert len(rows.fingerprint()) == 64
    rows.write(tmp_path / "kept", [1, 3])
    assert load_from_disk(str(tmp_path / "kept")).to_list() == [records[2], records[0]]
    rows.write(tmp_path / "dropped", [0], notes=note)
    assert load_from_disk(str(tmp_path / "dropped")).to_list() == [
        {**records[3], "geofilter_score": 0.5, "geofilter_rank": 1,
         "geofilter_status": "scored", "geofilter_reason": "rank"}
    ]  # fmt: skip
    rows.write(tmp_path / "none", [])
    assert load_from_disk(str(tmp_path / "none")).num_rows == 0
    assert sorted(os.listdir(saved)) == before
    assert not [name for name in os.listdir(tmp_path / "kept") if name == "rows.arrow"]
    DatasetDict(train=Dataset.from_list(records), test=Dataset.from_list(records)).save_to_disk(
        str(tmp_path / "splits")
    )
    with pytest.raises(DataError, match=r"holds 2 splits \(test, train\); name one, as in"):
        open_rows(tmp_path / "splits")
    assert open_rows(tmp_path / "splits" / "train").check() == 4


# --- outputs that are refused ------------------------------------------------------


def test_an_output_that_exists_is_replaced_on_request_only(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"".join(LINES)))
    kept = write_rows(tmp_path / "kept.jsonl", b"mine")
    with pytest.raises(OutputError, match=r"kept\.jsonl: exists already"):
        rows.write(kept, [0])
    assert kept.read_bytes() == b"mine"
    rows.write(kept, [0], overwrite=True)
    assert kept.read_bytes() == LINES[0]


def test_the_file_that_is_read_is_never_overwritten(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b"".join(LINES))
    (tmp_path / "link.jsonl").symlink_to(path)
    for name in ("data.jsonl", "link.jsonl"):
        with pytest.raises(OutputError, match="is the file that is read"):
            open_rows(path).write(tmp_path / name, [0], overwrite=True)
    assert path.read_bytes() == b"".join(LINES)


def test_the_name_of_another_format_is_refused(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"".join(LINES)))
    with pytest.raises(OutputError, match=r"kept\.csv: the rows are jsonl and keep their bytes"):
        rows.write(tmp_path / "kept.csv", [0])
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "data.parquet")
    with pytest.raises(OutputError, match=r"the rows are Parquet; name the output \*\.parquet"):
        open_rows(tmp_path / "data.parquet").write(tmp_path / "kept.jsonl", [0])


def test_indices_must_ascend_and_exist(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"".join(LINES)))
    with pytest.raises(ValueError, match="must ascend: 1 follows 1"):
        rows.write(tmp_path / "kept.jsonl", [1, 1])
    with pytest.raises(DataError, match=r"data\.jsonl: has 3 rows, but row 8 is wanted"):
        rows.write(tmp_path / "kept.jsonl", [0, 7])
    assert os.listdir(tmp_path) == ["data.jsonl"]


def test_nothing_half_written_remains_after_a_failure(tmp_path: Path) -> None:
    content = gzip.compress(b"".join(LINES[:2]) * 1000)
    path = write_rows(tmp_path / "data.jsonl.gz", content)
    rows = open_rows(path)
    path.write_bytes(content[:-9])
    with pytest.raises(DataError, match="cut off or damaged"):
        rows.write(tmp_path / "kept.jsonl", range(2000))

    def interrupt(index: int) -> RowNote:
        raise KeyboardInterrupt

    path.write_bytes(content)
    with pytest.raises(KeyboardInterrupt):
        rows.write(tmp_path / "kept.jsonl.zst", [0], notes=interrupt)
    assert os.listdir(tmp_path) == ["data.jsonl.gz"]


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "csv", "parquet", "datasets"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset

    records = [{"text": f"{n} " + "x" * 50} for n in range(100)]
    source = tmp_path / f"data.{kind}"
    if kind == "datasets":
        Dataset.from_list(records).save_to_disk(str(source))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), source)
    else:
        lines = [json.dumps(record) for record in records]
        text = {"json": f"[{','.join(lines)}]", "csv": "text\n" + "\n".join(lines)}.get(
            kind, "\n".join(lines)
        )
        source.write_bytes(gzip.compress(text.encode()) if kind == "jsonl.gz" else text.encode())
    rows = open_rows(source)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        rows.write(tmp_path / f"kept.{kind}", [0, 50, 99])
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == [f"data.{kind}"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_a_disk_that_fills_up_while_writing_is_not_blamed_on_the_input(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "parquet":
        pq.write_table(pa.table({"text": [os.urandom(500).hex() for _ in range(2000)]}),
                       tmp_path / "data.parquet")  # fmt: skip
    else:
        lines = [b'{"text": "%s"}\n' % os.urandom(500).hex().encode() for _ in range(2000)]
        write_rows(tmp_path / "data.jsonl", b"".join(lines))
    rows = open_rows(tmp_path / f"data.{kind.split('.')[0]}")
    real = Path.open

    def open_full(path: Path, mode: str = "r") -> object:
        return real(Path("/dev/full"), "wb") if mode == "xb" else real(path, mode)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OutputError, match="No space left on device"):
        rows.write(tmp_path / f"kept.{kind}", range(2000))
