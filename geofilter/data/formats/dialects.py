"""How a CSV file is written: what separates its cells, in which encoding, and its header.

Spreadsheets write semicolons or tabs into a `.csv`, depending on the country, UTF-16, and a
first line `sep=;`. The header alone decides on the delimiter: the usual one of the file's name,
or another by which the first record is a header. So commas stay the delimiter whatever texts
hold. Rows without a header are separated as the file's name says, or a line `sep=` does.

The first record is the header when one of its cells is a column name that
geofilter knows or the caller named, or when all of its cells look like names:
one word each, letters, digits, `_`, `.` and `-`, no two alike. Otherwise the
file has no header, every record is a row, and the columns are called `column_1`,
`column_2` and so on, as is a column whose header cell is empty.
"""

import csv
import io
import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from geofilter.data.formats.streams import BOM
from geofilter.data.formats.strict_json import decode
from geofilter.support.display import quote

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")
_STATED = re.compile(r'("?)sep=([\t !#-/:-@[-`{-~])\1(?:\r?\n|\Z)', re.IGNORECASE)
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BOMS = {BOM: "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_HEAD = 2**16  # bytes in which the header lies, if another delimiter than the usual one is to count
_LOOK = 5  # records that have to agree where no cell is a known name


@dataclass(frozen=True)
class Dialect:
    """How a CSV file is written. `encoding`: utf-8, utf-16-le or utf-16-be.

    `preamble`: what stands before the first record: a byte order mark and a line `sep=`, each
    where there is one. `lines`: how many lines these are.
    """

    delimiter: str
    encoding: str = "utf-8"
    preamble: bytes = b""
    lines: int = 0

    def __str__(self) -> str:
        """In words, for the line that says what was read."""
        named = _DELIMITERS.get(self.delimiter, quote(self.delimiter))
        return f"{named}, UTF-16" if self.encoding != "utf-8" else named

    @property
    def newline(self) -> bytes:
        return "\n".encode(self.encoding)

    def decode(self, data: bytes) -> tuple[str, str | None]:
        """The text of the bytes and None, or the text with replacements and what is wrong."""
        if self.encoding == "utf-8":
            return decode(data)
        text = data.decode(self.encoding, "replace")
        if "\0" in text:
            return text, f"NUL character at character {text.index(chr(0)) + 1}"
        try:
            data.decode(self.encoding)
        except UnicodeDecodeError as error:
            near = data[max(0, error.start - 20) : error.start + 20]
            shown = quote(near.decode(self.encoding, "replace"))
            return text, f"not UTF-16: byte {error.start + 1}: {shown}"
        return text, None

    def lines_of(self, stream: io.BufferedReader) -> "io.BufferedReader | Utf16Lines":
        """What reads the lines of the stream, with their ends."""
        return stream if self.encoding == "utf-8" else Utf16Lines(stream, self.newline)


class Utf16Lines:
    """Reads UTF-16 line by line, as bytes."""

    def __init__(self, stream: io.BufferedReader, newline: bytes) -> None:
        self._stream = stream
        self._newline = newline

    def readline(self, size: int, /) -> bytes:
        """A line, or the first of its characters: `size` bytes, one more where that is odd."""
        size += size % 2
        line = bytearray()
        while len(line) < size:
            # Up to a byte of a line feed, which may be half of another character.
            piece = self._stream.readline(size - len(line))
            line += piece
            if len(line) % 2:
                line += self._stream.read(1)
            if not piece or line.endswith(self._newline):
                break
        return bytes(line)


def is_header(cells: list[str], known: Collection[str]) -> bool:
    """Whether the first record names the columns; see the rule above."""
    return _has_known(cells, known) or _all_names(cells)


def _has_known(cells: list[str], known: Collection[str]) -> bool:
    return any(cell.strip() in known for cell in cells)


def _all_names(cells: list[str]) -> bool:
    given = [name for name in map(str.strip, cells) if name]
    alike = len(set(given)) < len(given)
    return bool(given) and not alike and all(map(_NAME.fullmatch, given))


def column_names(cells: list[str], header: bool) -> list[str]:
    """The header's names, `column_1` and so on where it has none."""
    names = [cell.strip() if header else "" for cell in cells]
    return [name or f"column_{place}" for place, name in enumerate(names, 1)]


def find_dialect(stream: io.BufferedReader, usual: str, known: Collection[str]) -> Dialect:
    """How the file is written whose stream is at its beginning; `usual` is its name's delimiter."""
    start = stream.peek(3)[:3]
    bom = next((mark for mark in _BOMS if start.startswith(mark)), b"")
    encoding = _BOMS.get(bom, "utf-8")
    stream.read(len(bom))
    head = stream.read(_HEAD)
    text = head.decode(encoding, "replace")
    if stated := _STATED.match(text):
        line = stated[0].encode(encoding)
        return Dialect(stated[2], encoding, bom + line, lines=1)
    others = (delimiter for delimiter in _DELIMITERS if delimiter != usual)
    delimiter = usual
    if not _separates(text, usual, known):
        delimiter = next((other for other in others if _separates(text, other, known)), usual)
    return Dialect(delimiter, encoding, bom)


def _separates(text: str, delimiter: str, known: Collection[str]) -> bool:
    """Whether the first record is a header of several cells by this delimiter."""
    records = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    filled = (cells for cells in records if cells)
    try:
        header = next(filled, [])
        if len(header) < 2:
            return False
        if _has_known(header, known):
            return True
        # Two words may also be a text: then what follows is hardly two words every time.
        widths = {len(cells) for cells in islice(filled, _LOOK)}
    except csv.Error:
        return False
    return _all_names(header) and widths <= {len(header)}
