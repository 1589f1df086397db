"""Bytes in and out of plain, gzip and zstd files.

Reading goes by the first bytes, not by the name; writing goes by the name. Damage
and cut-off files become one `DataError`.
"""

import contextlib
import gzip
import hashlib
import io
import os
import shlex
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from geofilter.data.formats.zstd_frames import Damaged, Unreadable, ZstdFrames, is_zstd
from geofilter.errors import DataError
from geofilter.support.atomic import writing
from geofilter.support.display import escape
from geofilter.support.pointers import HEAD, broken_link, pointer_in

PARQUET_SUFFIXES = (".parquet", ".pq")
_COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}
_GZIP = b"\x1f\x8b"
# Of UTF-32 first, whose marks begin like those of UTF-16.
_WIDE = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
BOM = b"\xef\xbb\xbf"
_BUFFER = 2**17


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...


class _Observed(io.RawIOBase):
    """A file whose bytes another reader is given, too."""

    def __init__(self, raw: io.BufferedReader, observe: Callable[[Any], object]) -> None:
        self._raw = raw
        self._observe = observe

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)
        self._observe(buffer[:count])
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Checked(io.RawIOBase):
    """Turns every failure of a decompressor or of the disk into one `DataError`.

    At its end the file is read to its end, too: a decompressor may leave some of it.
    """

    def __init__(self, name: str, inner: _Readable, file: io.BufferedReader) -> None:
        self._name = name
        self._inner = inner
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        try:
            data = self._inner.read(len(buffer))
            while not data and self._file.read(_BUFFER):
                pass
        except Unreadable as error:
            raise DataError(f"{self._name}: {error}") from error
        except (EOFError, zlib.error, gzip.BadGzipFile, Damaged) as error:
            if "Not a gzipped file" in str(error):  # its first bytes are those of one
                raise DataError(
                    f"{self._name}: other bytes follow the end of its gzip data; cut them off, "
                    "or decompress it (gzip -dc leaves them out) and read the result"
                ) from error
            raise DataError(
                f"{self._name}: the compressed file is cut off or damaged "
                f"({escape(str(error))}); fetch it again"
            ) from error
        except OSError as error:
            raise DataError(f"{self._name}: cannot be read: {error.strerror or error}") from error
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._inner.close()
        super().close()


def shown(path: str | os.PathLike[str]) -> str:
    """The path for a message: one line of visible characters."""
    return escape(os.fspath(path), limit=300)


def open_file(path: Path) -> io.BufferedReader:
    """Open the file as it is on the disk.

    Raises `DataError` when it cannot be opened, or is a pointer to a file that was not fetched.
    """
    try:
        handle = path.open("rb")
        pointer = pointer_in(handle.peek(HEAD))
    except FileNotFoundError as error:
        reason = broken_link(path) or "no such file; check the path"
        raise DataError(f"{shown(path)}: {reason}") from error
    except IsADirectoryError as error:
        raise DataError(f"{shown(path)}: is a folder, a file is needed") from error
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be opened: {error.strerror}") from error
    except ValueError as error:  # a name with a null character
        raise DataError(f"{shown(path)}: cannot be opened: {error}") from error
    if pointer is not None:
        handle.close()
        raise DataError(f"{shown(path)}: {pointer}")
    return handle


def split_suffix(path: Path) -> tuple[str, str | None]:
    """The suffix that names the format, and the compression that the name states.

    `data.jsonl.gz` gives `.jsonl` and gzip.
    """
    compression = _COMPRESSED.get(path.suffix.lower())
    stem = path.with_suffix("") if compression else path
    return stem.suffix.lower(), compression


def open_stream(
    path: Path, observe: Callable[[Any], object] | None = None, *, utf16: bool = False
) -> io.BufferedReader:
    """Open the content of `path`, decompressed; a byte order mark is still to come.

    `observe` is given the bytes of the file as they are on the disk: all of them, once all of
    the content is read.

    Raises `DataError` for a file that cannot be read, for a name that states a compression
    which the content does not have, and for UTF-16 or UTF-32 text; with `utf16` the caller
    reads UTF-16 that begins with its byte order mark.
    """
    raw = open_file(path)
    if observe is not None:
        raw = io.BufferedReader(_Observed(raw, observe), _BUFFER)
    head = raw.peek(4)[:4]
    compression = "gzip" if head.startswith(_GZIP) else "zstd" if is_zstd(head) else None
    stated = split_suffix(path)[1]
    if stated and compression != stated:
        raw.close()
        raise DataError(f"{shown(path)}: is no {stated} file, though its name says so")
    inner: _Readable = raw
    if compression == "gzip":
        inner = cast(_Readable, gzip.GzipFile(fileobj=raw, mode="rb"))
    elif compression == "zstd":
        inner = ZstdFrames(raw)
    stream: io.BufferedReader = io.BufferedReader(_Checked(shown(path), inner, raw), _BUFFER)
    encoding = _encoding(stream.peek(4)[:4])
    if encoding is not None and not (utf16 and encoding == "UTF-16"):
        stream.close()
        unpack = {"gzip": "gzip -dc", "zstd": "zstd -dc"}.get(compression or "", "")
        name = shlex.quote(shown(path))
        source = f"{unpack} {name} | iconv -f {encoding}" if unpack else f"iconv -f {encoding}"
        raise DataError(
            f"{shown(path)}: is {encoding} text; save it as UTF-8, as in "
            f"{source} -t UTF-8{'' if unpack else f' {name}'} > NEW"
        )
    return stream


def _encoding(head: bytes) -> str | None:
    """The encoding of text that begins with these bytes, where that is of two or four bytes."""
    for mark, encoding in _WIDE.items():
        if head.startswith(mark):
            return encoding
    # Without a mark: ASCII in every second byte.
    if len(head) == 4 and head[1] == head[3] == 0 and head[0] and head[2]:
        return "UTF-16LE"
    if len(head) == 4 and head[0] == head[2] == 0 and head[1] and head[3]:
        return "UTF-16BE"
    return None


def skip_bom(stream: io.BufferedReader) -> bytes:
    """Pass over a UTF-8 byte order mark and return it, or nothing."""
    if stream.peek(3)[:3] == BOM:
        return stream.read(3)
    return b""


def skip_space(stream: io.BufferedReader) -> bytes:
    """Pass over white space; return what the stream holds ready, nothing at the end."""
    while ready := stream.peek():
        rest = ready.lstrip()
        stream.read(len(ready) - len(rest))
        if rest:
            return rest
    return b""


@contextlib.contextmanager
def write_stream(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Write to `path`, compressed as its name says; it appears whole or not at all.

    The same input gives the same bytes: no time and no name is stored.
    """
    compression = split_suffix(path)[1]
    with contextlib.ExitStack() as stack:
        out: BinaryIO = stack.enter_context(writing(path, overwrite=overwrite))
        if compression == "gzip":
            packed = gzip.GzipFile(filename="", fileobj=out, mode="wb", mtime=0)
            out = cast(BinaryIO, stack.enter_context(packed))
        elif compression == "zstd":
            import zstandard

            frames = zstandard.ZstdCompressor().stream_writer(out, closefd=False)
            out = cast(BinaryIO, stack.enter_context(frames))
        yield out


def hash_files(paths: list[Path], names: list[str]) -> str:
    """SHA-256 over the files' names (relative to their folder) and bytes."""
    digest = hashlib.sha256()
    for path, name in zip(paths, names, strict=True):
        with open_file(path) as handle:
            if name:
                digest.update(f"{len(name)}:{name}:{path.stat().st_size}:".encode())
            while piece := handle.read(2**20):
                digest.update(piece)
    return digest.hexdigest()
