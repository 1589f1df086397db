"""The content of a zstd file, and the real cause where it cannot be read."""

from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import zstandard

# A zstd block of a few bytes can stand for 128 KiB; small reads bound what one
# read can unfold to.
_READ = 2048
# The largest that zstd knows, of `--long=31`. Memory is taken as the content needs it, not as
# the header of a frame claims.
LARGEST_WINDOW = 2**31  # bytes
_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"  # after a byte of 0x50 to 0x5f
_HEADER = 18  # bytes, at most
_DECOMPRESS = "decompress it with zstd -d --long=31 where there is more, and read the result"

_FOLLOWED = (
    "other bytes follow the end of its zstd data; cut them off, or write the rows into a new file"
)


class Damaged(Exception):
    """What the library says of a file that is no whole zstd data."""


class Unreadable(Exception):
    """A file that is whole and yet not read; the message says why, and what to do."""


def is_zstd(head: bytes) -> bool:
    """Whether a frame begins here: one of content, or one that is skipped."""
    return len(head) >= len(_MAGIC) and _may_be_zstd(head)


def _may_be_zstd(head: bytes) -> bool:
    """As `is_zstd`; a head of fewer bytes may go on like a frame."""
    if head[:1] and 0x50 <= head[0] <= 0x5F:
        return _SKIPPED.startswith(head[1:4])
    return _MAGIC.startswith(head[:4])


class ZstdFrames:
    """The content of all frames of a zstd file; a cut-off frame raises `EOFError`.

    The library's own stream reader takes a cut-off file for a complete one, and ends at a
    frame that is to be skipped. Raises `Damaged`, and `Unreadable` for what is no damage.
    """

    def __init__(self, raw: BinaryIO) -> None:
        # Here, since few files are compressed and a gate without a model has to be small.
        import zstandard

        self._library: Any = zstandard
        self._raw = raw
        self._frame = self._new()
        self._frames = 0
        self._head = b""  # the first bytes of the frame that is being read
        self._ready = b""

    def _new(self) -> Any:
        reader = self._library.ZstdDecompressor(max_window_size=LARGEST_WINDOW)
        return reader.decompressobj()

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            data = self._raw.read(_READ)
            if not data:
                if self._frames and not _may_be_zstd(self._head):
                    raise Unreadable(_FOLLOWED)
                if self._head:
                    raise EOFError("the file ends inside a frame")
                return b""
            self._feed(data)
        out, self._ready = self._ready[:size], self._ready[size:]
        return out

    def _feed(self, data: bytes) -> None:
        parts = []
        while data:
            self._head += data[: _HEADER - len(self._head)]
            if self._frames and not _may_be_zstd(self._head):
                raise Unreadable(_FOLLOWED)
            try:
                parts.append(self._frame.decompress(data))
            except self._library.ZstdError as error:
                raise self._cause(error) from error
            data = b""
            if self._frame.eof:
                data = self._frame.unused_data
                self._frame = self._new()
                self._frames += 1
                self._head = b""
        self._ready = b"".join(parts)

    def close(self) -> None:
        self._raw.close()

    def _cause(self, error: "zstandard.ZstdError") -> Exception:
        """What is wrong with the frame that is read, from what the library says."""
        message = str(error)
        if "too much memory" in message:
            return Unreadable(
                f"claims a window above {LARGEST_WINDOW // 2**30} GiB, the most that zstd reads; "
                "fetch it again, or compress it again with a smaller one (zstd --long=27)"
            )
        if "not enough memory" in message:
            window = self._library.get_frame_parameters(self._head).window_size
            return Unreadable(
                f"needs a window of {window // 2**20} MiB, and there is not enough memory; "
                f"{_DECOMPRESS}"
            )
        if "ictionary" in message:
            return Unreadable(
                "was compressed with a dictionary, which is in another file; decompress it with "
                "zstd -d -D DICTIONARY, and read the result"
            )
        return Damaged(message)
