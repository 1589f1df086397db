"""Reading rows: every format as a stream, each row with its place, its bytes and its hash."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from geofilter.data import formats
from geofilter.data.formats import json_files
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import LINES, layout_name, write_rows

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


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
        "json": b'[\n{"question": "a", "answer": "1"},\n{"question": "b", "answer": "2"}\n]\n',
    }[name.split(".")[1]]
    packed = {"": bytes, ".gz": gzip.compress}.get(suffix, zstandard.compress)(content)
    rows = open_rows(write_rows(tmp_path / (name + suffix), packed))
    records = [row.record for row in rows]
    assert records == [{"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}]
    assert layout_name(rows) == "question-answer"
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
    assert json.loads((tmp_path / "kept.json").read_bytes()) == [row.record]


def test_json_lines_under_the_name_of_a_list_are_read_as_lines(tmp_path: Path) -> None:
    rows = open_rows(write_rows(tmp_path / "train.json", b"".join(LINES)))
    assert rows.format == "jsonl"
    assert rows.write(tmp_path / "kept.json", [1, 2]) == 2
    assert (tmp_path / "kept.json").read_bytes() == b"".join(LINES[1:])


@pytest.mark.parametrize("name", ["train.json", "train"])
def test_a_long_first_line_does_not_hide_that_others_follow(name: str, tmp_path: Path) -> None:
    first = b'{"question": "a", "answer": "%s"}\n' % (b"long " * 2**18)
    rows = open_rows(write_rows(tmp_path / name, b"\n" + first + b" \n" + LINES[0]))
    assert (rows.format, rows.check()) == ("jsonl", 2)


def test_a_first_line_above_the_limit_is_one_row_of_json_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (formats, json_files):
        monkeypatch.setattr(module, "ROW_LIMIT", 100)
    first = b'{"question": "a", "answer": "%s"}\n' % (b"long " * 50)
    rows = open_rows(write_rows(tmp_path / "train.json", first + LINES[0]))
    assert rows.format == "jsonl"
    assert [row.record is None for row in rows] == [True, False]
    alone = open_rows(write_rows(tmp_path / "alone.json", first))
    assert (alone.format, len(list(alone))) == ("json", 1)


def test_a_layout_can_be_given(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b'{"text": "t", "question": "q", "answer": "a"}\n')
    assert layout_name(open_rows(path)) == "question-answer"
    assert layout_name(open_rows(path, layout="text")) == "text"
    with pytest.raises(DataError, match="layout 'chat' is not known; choose from openai"):
        open_rows(path, layout="chat")
    with pytest.raises(DataError, match="no column 'reply'; found 'text', 'question', 'answer'"):
        open_rows(path, columns={"response": "reply"})


def test_unreadable_rows_at_the_start_do_not_decide_on_the_layout(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b"broken\n" * 500 + LINES[0])
    assert layout_name(open_rows(path)) == "question-answer"


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "data.jsonl", b"".join(LINES))
    before = open_rows(path).fingerprint()
    assert len(before) == 64
    assert open_rows(write_rows(tmp_path / "copy.jsonl", b"".join(LINES))).fingerprint() == before
    path.write_bytes(b"".join(LINES[:2]))
    assert open_rows(path).fingerprint() != before


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


@pytest.mark.slow
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
