"""Standard input and pipes, copied once to a temporary file that can be read again and again.

One copy serves a whole process. It lies in a private folder below `$TMPDIR` and goes with
`release`, at the latest when the interpreter ends.
"""

import atexit
import contextlib
import os
import select
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from geofilter.errors import DataError
from geofilter.support.display import shown

STDIN = "-"
STDIN_SHOWN = "standard input"
_PATIENCE = 10.0  # seconds for somebody to begin writing into a named pipe
_PAUSE = 0.05
_PIECE = 2**20

_held: dict[str, Path] = {}


def is_pipe(name: str) -> bool:
    """Whether `name` is a pipe: one that has a name, or one of the shell's (`<(command)`)."""
    try:
        return stat.S_ISFIFO(os.stat(name).st_mode)
    except (OSError, ValueError):
        return False


def spooled(name: str) -> Path:
    """The copy of standard input (`-`) or of the pipe `name`, made when it is first asked for.

    Raises `DataError` where a terminal is standard input, where nobody writes into the pipe,
    and where nothing comes or the copy has no room.
    """
    if name != STDIN and _is_stdin(name):
        name = STDIN
    if name not in _held:
        _held[name] = _copied(name)
    return _held[name]


def release() -> None:
    """Remove all copies."""
    while _held:
        _, path = _held.popitem()
        shutil.rmtree(path.parent, ignore_errors=True)


atexit.register(release)


def _is_stdin(name: str) -> bool:
    try:
        return os.path.samestat(os.stat(name), os.fstat(0))
    except OSError:
        return False


def _copied(name: str) -> Path:
    label = STDIN_SHOWN if name == STDIN else shown(name)
    pieces = _stdin_pieces() if name == STDIN else _pipe_pieces(name, label)
    folder: Path | None = None
    try:
        # The first piece first: where nothing comes, nothing is left lying about either.
        first = next(pieces, b"")
        if not first:
            raise DataError(f"{label}: is empty; write rows into it")
        folder = Path(tempfile.mkdtemp(prefix="geofilter-"))
        # Without a suffix, so that the first bytes say what it is.
        path = folder / "rows"
        with path.open("wb") as out:
            out.write(first)
            for piece in pieces:
                out.write(piece)
    except BaseException as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(
                f"{label}: cannot be copied to a temporary file: {error.strerror or error}; "
                "set TMPDIR to a folder with room, or save the rows as a file and name it"
            ) from error
        raise
    return path


def _stdin_pieces() -> Iterator[bytes]:
    stream: BinaryIO | None = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise DataError(f"{STDIN_SHOWN}: is closed; pipe rows into the command, or name a file")
    if stream.isatty():
        raise DataError(
            f"{STDIN_SHOWN}: is a terminal; pipe rows into the command, as in "
            "`cat rows.jsonl | geofilter score -`, or name a file"
        )
    while True:
        piece: bytes | None = stream.read(_PIECE)
        if piece:
            yield piece
        elif piece is None:  # a pipe that does not block, and has nothing now
            select.select([stream], [], [])
        else:
            return


def _pipe_pieces(name: str, label: str) -> Iterator[bytes]:
    """What is written into a pipe. Opening it plainly would wait for a writer without end."""
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise DataError(f"{label}: cannot be opened: {error.strerror}") from error
    with contextlib.closing(os.fdopen(handle, "rb", buffering=0)) as stream:
        until = time.monotonic() + _PATIENCE
        while (first := _read_now(handle)) == b"":
            if time.monotonic() > until:
                raise DataError(
                    f"{label}: is a pipe that nobody writes into; start what writes into it, or "
                    "pipe rows into the command and name them -"
                )
            time.sleep(_PAUSE)
        os.set_blocking(handle, True)
        if first:
            yield first
        while piece := stream.read(_PIECE):
            yield piece


def _read_now(handle: int) -> bytes | None:
    """What lies ready; None where a writer has written nothing yet, nothing without a writer."""
    try:
        return os.read(handle, _PIECE)
    except BlockingIOError:
        return None
