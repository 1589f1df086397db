"""Rows: read as a stream, written with the bytes that they had."""

import errno
import gzip
import json
import os
import string
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.errors import DataError, OutputError
from geofilter.formats import hub, json_files
from geofilter.formats.delimited import encode_record
from geofilter.layouts import Unscorable
from geofilter.rows import RowNote, open_rows

LINES = [
    b'{"question": "a", "answer": "1"}\n',
    b'{ "question":"b",   "answer":"2" }\r\n',
    b'{"answer": "\\u0033", "question": "c", "id": 1.50}',
]


def note(index: int) -> RowNote:
    return RowNote(0.5 - index, index + 1, "scored", "rank")


def write_rows(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


# --- reading ---------------------------------------------------------------------


def test_a_row_knows_its_place_its_bytes_and_its_record(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b"\xef\xbb\xbf" + LINES[0] + b"\n" + LINES[1])
    first, second = open_rows(path)
    assert (first.index, first.where, first.raw) == (0, f"{path}:1", LINES[0])
    assert (second.index, second.where, second.raw) == (1, f"{path}:3", LINES[1])
    assert second.record == {"question": "b", "answer": "2"}
    assert second.problem is None


def test_a_file_can_be_iterated_again_and_left_early(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"".join(LINES)))
    assert next(iter(rows)).index == 0
    assert list(rows) == list(rows)


def test_row_hashes_are_equal_for_equal_values_only(tmp_path: Path) -> None:
    content = (
        b'{"a": 1, "b": "x"}\n{"b":"\\u0078","a":1}\n{"a": 2, "b": "x"}\n{"a": true, "b": "x"}\n'
    )
    one, same, other, truth = open_rows(write_rows(tmp_path / "data.jsonl", content))
    assert one.row_hash == same.row_hash
    assert len({one.row_hash, other.row_hash, truth.row_hash}) == 3


def test_unreadable_rows_are_hashed_by_their_bytes(tmp_path: Path) -> None:
    one, same, other = open_rows(write_rows(tmp_path / "data.jsonl", b"x\nx\ny\n"))
    assert one.row_hash == same.row_hash != other.row_hash


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".zstd"])
@pytest.mark.parametrize("name", ["data.jsonl", "data.ndjson", "data.csv", "data.tsv", "data.json"])
def test_every_text_format_and_compression_is_read_and_written(
    name: str, suffix: str, tmp_path: Path
) -> None:
    content = {
        "jsonl": LINES[0] + LINES[1],
        "ndjson": LINES[0] + LINES[1],
        "csv": b'question,answer\na,1\n"b","2"\n',
        "tsv": b'question\tanswer\na\t1\n"b"\t2\n',
        "json": b'[\n {"question": "a", "answer": "1"},\n {"question": "b", "answer": "2"}\n]\n',
    }[name.split(".")[1]]
    packed = {"": bytes, ".gz": gzip.compress}.get(suffix, zstandard.compress)(content)
    rows = open_rows(write_rows(tmp_path / (name + suffix), packed))
    records = [row.record for row in rows]
    assert records == [{"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}]
    assert rows.layout.name == "question-answer"
    for target in ("kept", "kept.gz", "kept.zst"):
        stem, _, compression = target.partition(".")
        path = tmp_path / ".".join(filter(None, [stem, name.split(".")[1], compression]))
        assert rows.write(path, [0, 1], overwrite=True) == 2
        unpacked = {"gz": gzip.decompress, "zst": decompress_zstd}.get(compression, bytes)
        assert unpacked(path.read_bytes()) == content


def decompress_zstd(data: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


def test_compressed_outputs_are_the_same_each_time(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "data.jsonl", b"".join(LINES)))
    for suffix in (".gz", ".zst"):
        one, two = tmp_path / f"one.jsonl{suffix}", tmp_path / f"two.jsonl{suffix}"
        rows.write(one, [0])
        rows.write(two, [0])
        assert one.read_bytes() == two.read_bytes()


def test_a_headerless_csv_gives_every_line_as_a_row(tmp_path: Path) -> None:
    content = b'Write a poem about rain\n"Name a river, any"\n'
    path = write_rows(tmp_path / "data.csv", content)
    rows = open_rows(path, columns={"text": "column_1"})
    assert [row.record for row in rows] == [
        {"column_1": "Write a poem about rain"},
        {"column_1": "Name a river, any"},
    ]
    assert [row.where for row in rows] == [f"{path}:1", f"{path}:2"]
    assert rows.check() == 2
    rows.write(tmp_path / "kept.csv", [1])
    assert (tmp_path / "kept.csv").read_bytes() == b'"Name a river, any"\n'


@pytest.mark.parametrize(
    ("first", "mapping", "header"),
    [
        (b"question,answer", {}, True),
        (b",case_id,test_case", {}, True),
        (b"goal,target", {}, True),
        (b"The text,answer", {}, True),
        (b"Case Text,Label Gold", {"text": "Case Text"}, True),
        (b"Case Text,Label Gold", {}, False),
        (b"yes,yes", {}, False),
        (b"1,2", {}, False),
        (b"Name a river.", {}, False),
    ],
)
def test_a_header_is_known_names_or_nothing_but_names(
    first: bytes, mapping: dict[str, str], header: bool, tmp_path: Path
) -> None:
    columns = first.count(b",")
    path = write_rows(tmp_path / "data.csv", first + b"\n" + b"x," * columns + b"y\n")
    assert len(list(open_rows(path, columns=mapping))) == (1 if header else 2)


def test_a_json_file_that_is_no_list_is_one_row(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf {\n "question": "a",\n "answer": "b"\n}\n'
    rows = open_rows(write_rows(tmp_path / "data.json", content))
    (row,) = rows
    assert row.record == {"question": "a", "answer": "b"}
    assert rows.check() == 1
    rows.write(tmp_path / "kept.json", [0])
    assert (tmp_path / "kept.json").read_bytes() == content


def test_json_lines_under_the_name_of_a_list_are_read_as_lines(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "train.json", b"".join(LINES)))
    assert rows.format == "jsonl"
    assert rows.write(tmp_path / "kept.json", [1, 2]) == 2
    assert (tmp_path / "kept.json").read_bytes() == b"".join(LINES[1:])


def test_a_layout_can_be_given(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b'{"text": "t", "question": "q", "answer": "a"}\n')
    assert open_rows(path).layout.name == "question-answer"
    assert open_rows(path, layout="text").layout.name == "text"
    with pytest.raises(DataError, match="layout 'chat' is not known; choose from messages"):
        open_rows(path, layout="chat")
    with pytest.raises(DataError, match="no column 'reply'; found 'text', 'question', 'answer'"):
        open_rows(path, columns={"response": "reply"})


def test_unreadable_rows_at_the_start_do_not_decide_on_the_layout(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b"broken\n" * 500 + LINES[0])
    assert open_rows(path).layout.name == "question-answer"


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b"".join(LINES))
    before = open_rows(path).fingerprint()
    assert len(before) == 64
    assert open_rows(write_rows(tmp_path / "copy.jsonl", b"".join(LINES))).fingerprint() == before
    path.write_bytes(b"".join(LINES[:2]))
    assert open_rows(path).fingerprint() != before


# --- writing ---------------------------------------------------------------------


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


def test_kept_elements_make_a_list_with_its_own_commas(tmp_path: Path) -> None:
    content = b'\n[ {"text": "a"} , {"text":\n"b"},{"text": "c"}\t] \n'
    rows = open_rows(write_rows(tmp_path / "data.json", content))
    assert [row.raw for row in rows] == [b'{"text": "a"}', b'{"text":\n"b"}', b'{"text": "c"}']
    places = [row.where.removeprefix(str(tmp_path)) for row in rows]
    assert places == ["/data.json:2 (row 1)", "/data.json:2 (row 2)", "/data.json:3 (row 3)"]
    for indices in ([0, 1, 2], [0, 2], [1, 2], [1], []):
        kept = tmp_path / "kept.json"
        rows.write(kept, indices, overwrite=True)
        text = kept.read_bytes()
        assert json.loads(text) == [{"text": "abc"[place]} for place in indices]
        if len(indices) == 3:
            assert text == content


@pytest.mark.parametrize("tail", [b" junk", b""])
def test_a_broken_list_is_mended_by_dropping_what_is_broken(tail: bytes, tmp_path: Path) -> None:
    whole = b'[{"text": "a"}, {"text": "b"}]' if tail else b'[{"text": "a"}, {"text": "b"}, {"t'
    rows = open_rows(write_rows(tmp_path / "data.json", whole + tail))
    kept = tmp_path / "kept.json"
    rows.write(kept, [0, 1])
    assert json.loads(kept.read_bytes()) == [{"text": "a"}, {"text": "b"}]
    rows.write(kept, [0, 1, 2], overwrite=True)
    assert kept.read_bytes() == whole + tail
    rows.write(kept, [2], overwrite=True, notes=note)
    (broken,) = json.loads(kept.read_bytes()) if not tail else [{"geofilter": {"rank": 3}}]
    assert broken["geofilter"]["rank"] == 3


def test_notes_stand_beside_json_rows(tmp_path: Path) -> None:
    content = LINES[0] + b'{"question": "x", "geofilter": "old"}\n' + b"caf\xe9\n"
    rows = open_rows(write_rows(tmp_path / "data.jsonl", content))
    rows.write(
        tmp_path / "dropped.jsonl", [0, 1, 2], notes={n: note(n) for n in range(3)}.__getitem__
    )
    first, second, third = map(json.loads, (tmp_path / "dropped.jsonl").read_text().splitlines())
    told = {"score": 0.5, "rank": 1, "status": "scored", "reason": "rank"}
    assert first == {"question": "a", "answer": "1", "geofilter": told}
    assert second["geofilter"]["rank"] == 2
    assert third == {"geofilter": {**told, "score": -1.5, "rank": 3, "raw": "caf\\xe9\n"}}
    rows = open_rows(write_rows(tmp_path / "data.json", b'[{"text": "a"}, {"text": "b"}]'))
    rows.write(tmp_path / "dropped.json", [1], notes=note)
    assert json.loads((tmp_path / "dropped.json").read_text()) == [
        {"text": "b", "geofilter": {**told, "score": -0.5, "rank": 2}}
    ]


def test_notes_stand_beside_csv_records(tmp_path: Path) -> None:
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
    assert rows.layout.name == "prompt-response"
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
    assert (rows.format, rows.layout.name, rows.check()) == ("datasets", "text", 4)
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


# --- outputs that cannot be ------------------------------------------------------


def test_an_output_that_exists_is_refused_unless_told(tmp_path: Path) -> None:
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
    lines = [
        json.dumps(r, ensure_ascii=ascii_only) + e for r, e in zip(records, ends, strict=False)
    ]
    if lines and last:
        lines[-1] = lines[-1].rstrip("\r\n")
    rows = open_rows(write_rows(folder / "data.jsonl", "".join(lines).encode()))
    assert [row.record for row in rows] == records
    raws = [row.raw or b"" for row in rows]
    chosen = data.draw(st.sets(st.sampled_from(range(len(records))))) if records else set()
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
    assert (folder / "all.json").read_bytes() == text.encode()
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
    content = b"".join(encode_record(record, delimiter, ending) for record in records)
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
    assert [row.raw for row in again] == [row.raw for row in read]


# --- memory ----------------------------------------------------------------------


def peak_of(path: Path) -> int:
    tracemalloc.start()
    try:
        rows = open_rows(path)
        assert sum(len(row.row_hash) for row in rows) > 0
        wanted = range(0, 1000, 2)
        rows.write(path.with_stem(f"kept-{path.stem}"), wanted, overwrite=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "jsonl.gz", "jsonl.zst", "parquet"])
def test_memory_does_not_grow_with_the_file(suffix: str, tmp_path: Path) -> None:
    def lines(count: int) -> Iterator[bytes]:
        for n in range(count):
            yield b'{"question": "How much is %d?", "answer": "It is %d, I think."}' % (n, n)

    def content(count: int) -> bytes:
        if suffix == "csv":
            return b"question,answer\n" + b"".join(
                b"what is %d?,%d\n" % (n, n) for n in range(count)
            )
        if suffix == "json":
            return b"[\n" + b",\n".join(lines(count)) + b"\n]\n"
        text = b"\n".join(lines(count))
        return {"jsonl.gz": gzip.compress, "jsonl.zst": zstandard.compress}.get(suffix, bytes)(text)

    peaks = []
    for count in (1000, 50_000 if suffix == "jsonl" else 20_000):
        path = tmp_path / f"rows{count}.{suffix}"
        if suffix == "parquet":
            table = pa.Table.from_pylist([json.loads(text) for text in lines(count)])
            pq.write_table(table, path, row_group_size=5000)
        else:
            path.write_bytes(content(count))
        peaks.append(peak_of(path))
    # A JSON list is read in pieces of 1 MiB; the small file is less than one.
    assert peaks[1] < peaks[0] * 1.3 + (3 * 2**20 if suffix == "json" else 2**18)


# --- the hub ---------------------------------------------------------------------


class Stream:
    """What `datasets` gives for a streamed split."""

    column_names = ("question", "answer")

    def __init__(self, *records: dict[str, object], fails: bool = False) -> None:
        self._records = records
        self._fails = fails

    def __iter__(self) -> Iterator[dict[str, object]]:
        yield from self._records
        if self._fails:
            raise ConnectionError("the network went away\nand more")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The calls that reach the hub's stand-in."""
    import datasets
    import huggingface_hub

    calls: list[tuple[object, ...]] = []
    splits = {
        "train": Stream({"question": "a", "answer": "b"}, {"question": "c", "answer": None}),
        "test": Stream({"question": "d", "answer": b"\x00"}, fails=True),
    }

    def load(repo: str, *, data_files: object, revision: object, streaming: bool) -> object:
        calls.append((repo, data_files, revision, streaming))
        if repo == "org/gone":
            raise ConnectionError("Couldn't reach 'org/gone' on the Hub\n\x1b[31mdetails")
        return splits

    def info(repo: str, revision: str | None = None) -> SimpleNamespace:
        return SimpleNamespace(sha=f"commit-of-{revision}")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(dataset_info=info))
    return calls


def test_a_hub_data_set_is_streamed_and_written_as_json_lines(
    asked: list[tuple[object, ...]], tmp_path: Path
) -> None:
    rows = open_rows("hf://datasets/org/name@v1/data/train.jsonl")
    assert asked == [("org/name", "data/train.jsonl", "v1", True)]
    assert (rows.format, rows.layout.name) == ("hub", "question-answer")
    first, second = rows
    assert first.where == "hf://datasets/org/name@v1/data/train.jsonl:row 1"
    assert (first.raw, first.record) == (None, {"question": "a", "answer": "b"})
    with pytest.raises(Unscorable, match="'answer' is null"):
        rows.layout.samples(second.record or {})
    assert rows.write(tmp_path / "kept.jsonl", [0]) == 1
    assert (tmp_path / "kept.jsonl").read_bytes() == b'{"question": "a", "answer": "b"}\n'
    rows.write(tmp_path / "dropped.jsonl.gz", [1], notes=note)
    told = json.loads(gzip.decompress((tmp_path / "dropped.jsonl.gz").read_bytes()))
    assert told["geofilter"]["rank"] == 2
    with pytest.raises(OutputError, match="rows from the hub are written as JSON lines"):
        rows.write(tmp_path / "kept.parquet", [0])


def test_the_fingerprint_of_a_hub_data_set_follows_commit_file_and_split(
    asked: list[tuple[object, ...]],
) -> None:
    names = ["org/name", "org/name@v2", "org/name#test", "org/name/x.csv", "org/other"]
    prints = {open_rows(f"hf://datasets/{name}").fingerprint() for name in names}
    assert len(prints) == len(names)


def test_hub_failures_are_one_line(asked: list[tuple[object, ...]], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_rows("hf://datasets/org/gone")
    assert str(caught.value).startswith(
        "hf://datasets/org/gone: cannot be read from the hub (Couldn't reach 'org/gone' on the Hub)"
    )
    with pytest.raises(DataError, match=r"no split 'dev'; choose from train, test, as in hf://"):
        open_rows("hf://datasets/org/name#dev")
    rows = open_rows("hf://datasets/org/name#test")
    with pytest.raises(DataError, match=r"cannot be read from the hub \(the network went away\)"):
        list(rows)
    with pytest.raises(OutputError, match="row 1: column 'answer' holds bytes, which JSON cannot"):
        rows.write(tmp_path / "kept.jsonl", [0])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    ["hf://datasets/name", "hf://models/org/name", "hf://datasets/org/name#a b", "hf://", "hf://datasets/org/name@"],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(DataError, match="write hf://datasets/ORG/NAME"):
        open_rows(name)


def test_hub_names_have_parts() -> None:
    assert hub.parse_name("hf://datasets/o/n") == ("o/n", None, None, None)
    assert hub.parse_name("hf://datasets/o/n@v1#dev") == ("o/n", "v1", None, "dev")
    assert hub.parse_name("hf://datasets/o/n/a/b.csv") == ("o/n", None, "a/b.csv", None)


# --- real data -------------------------------------------------------------------

SHARED = Path(__file__).parents[2] / "shared" / "data"
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
def test_every_real_file_is_read_whole_and_copied_exactly(path: Path, tmp_path: Path) -> None:
    count, status = UNSCORED.get(path.name) or (rows_in(path), None)
    rows = open_rows(path)
    statuses = []
    for row in rows:
        assert row.record is not None
        try:
            rows.layout.samples(row.record)
            statuses.append(None)
        except Unscorable as error:
            statuses.append(error.problem.status)
    assert statuses == [status] * count
    kept = tmp_path / path.name
    assert rows.write(kept, range(count)) == count
    assert kept.read_bytes() == path.read_bytes()
