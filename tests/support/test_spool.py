"""Standard input and pipes as data: read once, never waited for in silence, nothing left."""

import gzip
import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from geofilter.support import spool
from helpers.row_files import GOOD, line, parquet

TWO = GOOD + line(question="Why?")


class _Stdin(io.TextIOWrapper):
    def __init__(self, content: bytes, *, terminal: bool = False) -> None:
        class Raw(io.BytesIO):
            def isatty(self) -> bool:
                return terminal

        super().__init__(Raw(content))


@pytest.fixture(autouse=True)
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, which is empty again at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(spool, "_PATIENCE", 0.3)
    yield folder
    spool.release()
    assert not list(folder.iterdir())


def given(monkeypatch: pytest.MonkeyPatch, content: bytes, *, terminal: bool = False) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(content, terminal=terminal))


PACKED: dict[str, tuple[bytes, str]] = {
    "JSON lines": (TWO, "jsonl"),
    "gzip": (gzip.compress(TWO), "jsonl"),
    "zstd": (zstandard.compress(TWO), "jsonl"),
    "a JSON list": (
        b'[{"question": "a", "answer": "1"}, {"question": "b", "answer": "2"}]',
        "json",
    ),
    "Parquet": (parquet(question=["a", "b"], answer=["1", "2"]), "parquet"),
}


@pytest.mark.parametrize("case", PACKED)
def test_standard_input_is_what_its_first_bytes_say_and_is_read_again_and_again(
    case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, kind = PACKED[case]
    given(monkeypatch, content)
    rows = open_rows("-")
    assert (rows.format, rows.check(), len(list(rows))) == (kind, 2, 2)
    assert next(iter(rows)).where.startswith("standard input:")
    # The same bytes in a file have the same fingerprint, and another opening the same rows.
    suffix = {"gzip": ".jsonl.gz", "zstd": ".jsonl.zst"}.get(case, f".{kind}")
    (tmp_path / f"file{suffix}").write_bytes(content)
    assert open_rows(f"file{suffix}").fingerprint() == rows.fingerprint()
    assert open_rows("-").survey() == rows.survey()
    rows.write(f"kept.{kind}", [1])
    assert open_rows(f"kept.{kind}").check() == 1


def test_a_fault_on_standard_input_names_it_and_not_the_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given(monkeypatch, TWO + b"{oh\n")
    with pytest.raises(DataError, match=r"^standard input:3: unreadable"):
        open_rows("-").check()
    spool.release()
    given(monkeypatch, gzip.compress(TWO)[:-12])
    with pytest.raises(DataError, match=r"^standard input: the compressed file is cut off"):
        open_rows("-").check()


BAD: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "a terminal": (lambda m: given(m, b"", terminal=True), "is a terminal; pipe rows"),
    "closed": (lambda m: m.setattr("sys.stdin", None), "is closed; pipe rows"),
    "empty": (lambda m: given(m, b""), "is empty"),
    "a table of text": (lambda m: given(m, b"question,answer\na,b\n"), "the format is not known"),
}


@pytest.mark.parametrize("case", BAD)
def test_standard_input_without_rows_is_refused_in_a_line(
    case: str, monkeypatch: pytest.MonkeyPatch, held: Path
) -> None:
    prepare, message = BAD[case]
    prepare(monkeypatch)
    with pytest.raises(DataError, match=f"^standard input: .*{message}") as caught:
        open_rows("-")
    assert str(held) not in str(caught.value)


def test_a_full_disk_leaves_no_copy_and_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given(monkeypatch, TWO)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"^standard input: cannot be copied .*; set TMPDIR"):
        open_rows("-")


def write_later(content: bytes, after: float = 0.0) -> threading.Thread:
    def run() -> None:
        with open("pipe", "wb") as pipe:
            pipe.write(content[:10])
            pipe.flush()
            threading.Event().wait(0.05)
            pipe.write(content[10:])

    thread = threading.Timer(after, run)
    thread.start()
    return thread


@pytest.mark.parametrize("after", [0.0, 0.15])
def test_a_named_pipe_is_read_once_whenever_its_writer_comes(after: float, tmp_path: Path) -> None:
    os.mkfifo("pipe")
    writer = write_later(TWO, after)
    rows = open_rows("pipe")
    writer.join()
    assert [row.where for row in rows] == ["pipe:1", "pipe:2"]
    assert rows.check() == open_rows("pipe").check() == 2


def test_a_pipe_that_nobody_writes_into_is_given_up() -> None:
    os.mkfifo("pipe")
    with pytest.raises(DataError, match=r"^pipe: is a pipe that nobody writes into; start what"):
        open_rows("pipe")


def test_a_pipe_of_the_shell_is_read_like_a_file() -> None:
    reading, writing = os.pipe()
    os.write(writing, TWO)
    os.close(writing)
    try:
        rows = open_rows(f"/dev/fd/{reading}")
        assert rows.check() == len(list(rows)) == 2
    finally:
        os.close(reading)


def test_a_pipe_and_a_file_are_one_data_set(tmp_path: Path) -> None:
    os.mkfifo("pipe")
    Path("a.jsonl").write_bytes(GOOD)
    writer = write_later(TWO)
    rows = open_rows(["a.jsonl", "pipe"])
    writer.join()
    assert [row.where for row in rows] == ["a.jsonl:1", "pipe:1", "pipe:2"]
