"""Damaged files are refused in one line; empty ones have no rows."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import CSV, GOOD, parquet, problems


def truncated_gzip() -> bytes:
    return gzip.compress(GOOD * 5000, mtime=0)[:-20]


def truncated_zstd() -> bytes:
    return zstandard.ZstdCompressor().compress(GOOD * 5000)[:-6]


def corrupt_parquet() -> bytes:
    data = bytearray(parquet(text=[f"text {n}" for n in range(2000)]))
    data[200:1200] = b"\xff" * 1000
    return bytes(data)


FILES: list[tuple[str, str, Callable[[], bytes], str]] = [
    (
        "UTF-16",
        "a.jsonl",
        lambda: GOOD.decode().encode("utf-16"),
        "is UTF-16 text; save it as UTF-8",
    ),
    ("UTF-16 CSV", "a.csv", lambda: CSV.decode().encode("utf-16"), "is UTF-16 text"),
    ("gzip cut off", "a.jsonl.gz", truncated_gzip, "the compressed file is cut off or damaged"),
    ("gzip without its suffix", "a.jsonl", truncated_gzip, "the compressed file is cut off"),
    (
        "gzip with a changed byte",
        "a.jsonl.gz",
        lambda: gzip.compress(GOOD)[:-8] + b"\0" * 8,
        "the compressed file is cut off or damaged",
    ),
    ("zstd cut off", "a.jsonl.zst", truncated_zstd, "the compressed file is cut off or damaged"),
    ("zstd header only", "a.json.zst", lambda: truncated_zstd()[:6], "the compressed file is cut"),
    ("no gzip", "a.jsonl.gz", lambda: GOOD, "is no gzip file, though its name says so"),
    ("empty gzip", "a.jsonl.gz", lambda: b"", "is no gzip file, though its name says so"),
    ("zstd named gzip", "a.csv.gz", lambda: zstandard.compress(CSV), "is no gzip file"),
    ("no Parquet", "a.parquet", lambda: GOOD, "no Parquet file, cut off, or damaged"),
    ("empty Parquet", "a.parquet", lambda: b"", "no Parquet file, cut off, or damaged"),
    ("Parquet cut off", "a.parquet", lambda: parquet(text=["a"])[:-9], "no Parquet file, cut off"),
    (
        "Parquet with changed bytes",
        "a.parquet",
        corrupt_parquet,
        "no Parquet file, cut off, or dam",
    ),
    ("unknown format", "a.yaml", lambda: b"- id: 1\n", "the format is not known by the name or"),
    ("no suffix, no format", "rows", lambda: b"", "the format is not known by the name or the fi"),
    (
        "header with bad quotes",
        "a.csv",
        lambda: b'"a" b,c\n',
        "a.csv:1: the first record is a record",
    ),
    (
        "header in Latin-1",
        "a.csv",
        lambda: b"caf\xe9,answer\n",
        "a.csv:1: the first record is not UTF",
    ),
]


@pytest.mark.parametrize(
    ("file", "content", "reason"), [case[1:] for case in FILES], ids=[case[0] for case in FILES]
)
def test_a_damaged_file_is_refused_in_one_line(
    file: str, content: Callable[[], bytes], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.write_bytes(content())
    with pytest.raises(DataError) as caught:
        list(open_rows(path))
    message = str(caught.value)
    assert str(path) in message
    assert reason in message
    assert message.isprintable()
    assert len(message) < 600


def test_a_missing_file_and_a_folder_that_is_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file; check the path"):
        open_rows(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match="is a folder without files of rows and without a saved"):
        open_rows(tmp_path)
    with pytest.raises(DataError, match=r"\\x1b\[31m: no such file"):
        open_rows(tmp_path / "\x1b[31m")
    with pytest.raises(DataError, match=r"cannot be opened: File name too long$"):
        open_rows(tmp_path / ("x" * 300))


def test_damage_to_a_saved_data_set_is_refused(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "saved"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:40])
    with pytest.raises(DataError, match="the saved data set is damaged"):
        open_rows(tmp_path / "saved")


def test_a_parquet_text_that_is_no_utf8_is_one_unreadable_row(tmp_path: Path) -> None:
    bytes_column = pa.array([b"good", b"caf\xe9", b"fine"], pa.binary())
    text = pa.StringArray.from_buffers(3, bytes_column.buffers()[1], bytes_column.buffers()[2])
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": text}), path)
    rows = open_rows(path)
    ((row, problem),) = problems(rows)
    assert (row.where, row.index) == (f"{path}:row 2", 1)
    assert problem == ("unreadable", "not UTF-8: byte 0xe9")
    assert rows.write(tmp_path / "kept.parquet", [0, 1]) == 2
    assert len(problems(open_rows(tmp_path / "kept.parquet"))) == 1


@pytest.mark.parametrize("file", ["data.jsonl", "data.json", "data.csv"])
def test_an_empty_file_has_no_rows(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    for content in (b"", b"\xef\xbb\xbf", b"\n\n"):
        path.write_bytes(content)
        rows = open_rows(path)
        assert list(rows) == []
        assert rows.check() == 0
        assert rows.write(path.with_stem("kept"), [], overwrite=True) == 0
