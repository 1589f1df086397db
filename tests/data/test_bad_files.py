"""Damaged files are refused in one line; empty ones have no rows."""

import gzip
import resource
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


def zstd_of_window(descriptor: int) -> bytes:
    """A frame whose header claims the window of a descriptor: 21 << 3 are 2 GiB."""
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=20)
    frames = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = bytearray(frames.compress(GOOD) + frames.flush())
    data[5] = descriptor
    return bytes(data)


def zstd_with_dictionary() -> bytes:
    samples = [b"%d eggs boil in %d minutes" % (number, number) for number in range(999)]
    words = zstandard.train_dictionary(1024, samples)
    return zstandard.ZstdCompressor(dict_data=words).compress(GOOD)


# A frame of zstd that holds no content, as some tools put first.
SKIPPED = b"\x5a\x2a\x4d\x18\x03\x00\x00\x00abc"

FILES: list[tuple[str, str, Callable[[], bytes], str]] = [
    (
        "UTF-16",
        "a.jsonl",
        lambda: GOOD.decode().encode("utf-16"),
        "is UTF-16 text; save it as UTF-8, as in iconv -f UTF-16 -t UTF-8 ",
    ),
    (
        "UTF-16 in gzip",
        "a.json.gz",
        lambda: gzip.compress(GOOD.decode().encode("utf-16")),
        "a.json.gz | iconv -f UTF-16 -t UTF-8 > NEW",
    ),
    ("UTF-32", "a.csv", lambda: CSV.decode().encode("utf-32"), "iconv -f UTF-32 -t UTF-8 "),
    ("UTF-16 unmarked", "a.csv", lambda: CSV.decode().encode("utf-16-le"), "iconv -f UTF-16LE "),
    ("big-endian", "a.jsonl", lambda: GOOD.decode().encode("utf-16-be"), "iconv -f UTF-16BE "),
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
    (
        "gzip and text",
        "a.jsonl.gz",
        lambda: gzip.compress(GOOD) + GOOD,
        "other bytes follow the en",
    ),
    (
        "gzip and half a member",
        "a.jsonl.gz",
        lambda: gzip.compress(GOOD) + gzip.compress(GOOD)[:12],
        "the compressed file is cut off or damaged",
    ),
    (
        "zstd and text",
        "a.jsonl.zst",
        lambda: zstandard.compress(GOOD) + GOOD,
        "other bytes follow the end of its zstd data; cut them off",
    ),
    (
        "zstd and a byte",
        "a.jsonl.zst",
        lambda: zstandard.compress(GOOD) + b"\n",
        "other bytes follow the end",
    ),
    (
        "zstd and half a frame",
        "a.jsonl.zst",
        lambda: SKIPPED + zstandard.compress(GOOD) + SKIPPED[:3],
        "the compressed file is cut off or damaged",
    ),
    (
        "zstd of a window that no zstd reads",
        "a.jsonl.zst",
        lambda: zstd_of_window(21 << 3 | 7),
        "claims a window above 2 GiB, the most that zstd reads; fetch it again, or compress",
    ),
    (
        "zstd with a dictionary",
        "a.jsonl.zst",
        zstd_with_dictionary,
        "was compressed with a dictionary, which is in another file; decompress it with zstd -d",
    ),
    ("no Parquet", "a.parquet", lambda: GOOD, "no Parquet file, cut off, or damaged"),
    ("empty Parquet", "a.parquet", lambda: b"", "no Parquet file, cut off, or damaged"),
    ("Parquet cut off", "a.parquet", lambda: parquet(text=["a"])[:-9], "no Parquet file, cut off"),
    (
        "Parquet with changed bytes",
        "a.parquet",
        corrupt_parquet,
        "no Parquet file, cut off, or dam",
    ),
    ("unknown format", "a.toml", lambda: b"id = 1\n", "the format is not known by the name or"),
    ("questions", "a.yaml", lambda: b"- id: 1\n", "is YAML, which holds no rows; questions go to"),
    ("a workbook", "a.xlsx", lambda: b"PK\x03\x04", "is a workbook; save the sheet as CSV"),
    ("bzip2", "a.jsonl.bz2", lambda: b"BZh9", "is compressed in a way that is not read; unpack it"),
    ("an archive", "a.zip", lambda: b"PK\x03\x04", "is an archive; unpack it, and name what it ho"),
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


WHOLE: list[tuple[str, str, Callable[[], bytes], int]] = [
    ("a window of 2 GiB", "a.jsonl.zst", lambda: zstd_of_window(21 << 3), 1),
    ("a window of 256 MiB", "a.jsonl", lambda: zstd_of_window(18 << 3), 1),
    ("a skipped frame first", "a.jsonl.zst", lambda: SKIPPED + zstandard.compress(GOOD), 1),
    ("no name for it", "a.bin", lambda: SKIPPED + zstandard.compress(GOOD), 1),
    (
        "frames and skipped ones",
        "a.jsonl.zstd",
        lambda: (SKIPPED + zstandard.compress(GOOD) + SKIPPED * 2) * 700,
        700,
    ),
    ("a skipped frame alone", "a.jsonl.zst", lambda: SKIPPED, 0),
    ("members of gzip", "a.jsonl.gz", lambda: gzip.compress(GOOD) * 3, 3),
    ("gzip padded with zeros", "a.jsonl.gz", lambda: gzip.compress(GOOD) + b"\0" * 1000, 1),
]


@pytest.mark.parametrize(
    ("file", "content", "count"), [case[1:] for case in WHOLE], ids=[case[0] for case in WHOLE]
)
def test_all_rows_of_a_compressed_file_are_read(
    file: str, content: Callable[[], bytes], count: int, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.write_bytes(content())
    rows = open_rows(path)
    assert [row.raw for row in rows] == [GOOD] * count
    assert rows.write(tmp_path / "kept.jsonl", range(count)) == count
    assert (tmp_path / "kept.jsonl").read_bytes() == GOOD * count


def test_a_window_takes_no_memory_before_there_is_content(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd_of_window(21 << 3) * 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(list(open_rows(path))) == 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10  # KiB


def test_a_window_above_the_memory_is_named_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstd_of_window(21 << 3))
    open_rows(path)  # so that everything is loaded
    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**29, limits[1]))
    try:
        with pytest.raises(DataError, match="needs a window of 2048 MiB, and there is not enough"):
            open_rows(path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


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
