"""Standard input and pipes, copied once to a temporary file that can be read again and again.

One copy serves a whole process. It lies below `$TMPDIR`, under no name where the system can
read such a file (Linux), so that not even a kill leaves it there; elsewhere in a private folder
that goes with `release`, at the latest when the interpreter ends.
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
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from geofilter.errors import DataError
from geofilter.support.display import shown

STDIN = "-"
STDIN_SHOWN = "standard input"
_PATIENCE = 10.0  # seconds for somebody to begin writing into a named pipe
_PAUSE = 0.05
_PIECE = 2**20


class _Copy(NamedTuple):
    path: Path
    handle: BinaryIO  # keeps a file without a name alive
    folder: Path  # gone already, where it can be


_held: dict[str, _Copy] = {}


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
    return _held[name].path


def release() -> None:
    """Remove all copies."""
    while _held:
        _, copy = _held.popitem()
        copy.handle.close()
        shutil.rmtree(copy.folder, ignore_errors=True)


atexit.register(release)


def _is_stdin(name: str) -> bool:
    try:
        return os.path.samestat(os.stat(name), os.fstat(0))
    except OSError:
        return False


def _copied(name: str) -> _Copy:
    label = STDIN_SHOWN if name == STDIN else shown(name)
    pieces = _stdin_pieces() if name == STDIN else _pipe_pieces(name, label)
    # Before the copy: where nothing comes, there is nothing to keep.
    first = next(pieces, b"")
    if not first:
        raise DataError(f"{label}: is empty; write rows into it")
    try:
        folder = Path(tempfile.mkdtemp(prefix="geofilter-"))
        try:
            return _written(folder, chain([first], pieces))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    except OSError as error:
        raise DataError(
            f"{label}: cannot be copied to a temporary file: {error.strerror or error}; "
            "set TMPDIR to a folder with room, or save the rows as a file and name it"
        ) from error


def _written(folder: Path, pieces: Iterable[bytes]) -> _Copy:
    # Without a suffix, so that the first bytes say what it is.
    path = folder / "rows"
    handle = path.open("w+b")
    try:
        nameless = Path(f"/proc/{os.getpid()}/fd/{handle.fileno()}")
        if nameless.exists():
            shutil.rmtree(folder)
            path = nameless
        for piece in pieces:
            handle.write(piece)
        handle.flush()
    except BaseException:
        handle.close()
        raise
    return _Copy(path, handle, folder)


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
