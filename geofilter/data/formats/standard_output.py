"""Where rows go: to a file, which appears whole or not at all, or to standard output (`-`)."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geofilter.data.formats.streams import write_stream
from geofilter.errors import OutputError
from geofilter.support.display import escape

STDOUT = "-"


def output_in_words(path: str | os.PathLike[str]) -> str:
    """An output for a message: its whole path, in visible characters."""
    return "standard output" if path == STDOUT else escape(os.fspath(path), limit=None)


def check_stdout(kind: str) -> None:
    """Raise `OutputError` where rows of the format `kind` cannot go to standard output."""
    if kind == "datasets":
        raise OutputError(
            "standard output: cannot be the folder that a saved data set is; name one with -o"
        )
    if sys.stdout is None:
        raise OutputError("standard output: is closed; name a file with -o")
    if kind == "parquet" and sys.stdout.isatty():
        raise OutputError(
            "standard output: is a terminal, and Parquet is not text; name a file with -o, or "
            "send it on, as in -o - > kept.parquet"
        )


@contextlib.contextmanager
def write_rows(path: str, kind: str, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Yield what takes rows of the format `kind` for `path`, compressed as its name says.

    For `-` that is standard output; Parquet, which moves about in its file, is sent there when
    it is whole. Raises `OutputError` as `check_stdout` does.
    """
    if path != STDOUT:
        with write_stream(Path(path), overwrite=overwrite) as out:
            yield out
        return
    check_stdout(kind)
    sys.stdout.flush()
    if kind == "parquet":
        with tempfile.TemporaryFile() as whole:
            yield whole
            whole.seek(0)
            shutil.copyfileobj(whole, sys.stdout.buffer)
    else:
        yield sys.stdout.buffer
    sys.stdout.buffer.flush()
