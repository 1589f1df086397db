"""JSON lines and JSON lists, row by row with the bytes of each row.

A list is split into its elements by its brackets, commas and strings alone, so
that one element with bad syntax is one unreadable row and the others are read.
A `.json` file that is no list is one row: the object that it holds. Blank lines
of JSON lines are no rows. Lines end at a line feed, at nothing else.

This module knows nothing about compression, layouts or writing.
"""

import io
import re
from collections.abc import Iterator

from geofilter.data.formats.source import PIECE, ROW_LIMIT, TOO_LONG, RawRow
from geofilter.data.formats.streams import skip_bom
from geofilter.data.formats.strict_json import parse_object
from geofilter.support.display import quote

_SPACE = b" \t\r\n"
_LEAD_LIMIT = 4096  # bytes of commas and white space that are copied as they are


def rest_of_line(stream: io.BufferedReader, head: bytes) -> Iterator[bytes]:
    """`head`, then what follows it up to and with the next line feed, in pieces."""
    piece = head
    while piece:
        yield piece
        if piece.endswith(b"\n"):
            return
        piece = stream.readline(PIECE)


class JsonLines:
    """One pass over a stream of JSON lines. `preamble`: a byte order mark, or nothing."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.preamble = skip_bom(stream)

    def __iter__(self) -> Iterator[RawRow]:
        number = 0
        while line := self._stream.readline(ROW_LIMIT + 1):
            number += 1
            if len(line) > ROW_LIMIT and not line.endswith(b"\n"):
                pieces = rest_of_line(self._stream, line)
                del line  # or two lines of the greatest length would be held
                yield RawRow(None, f"a line {TOO_LONG}", number, pieces=pieces)
                for _ in pieces:
                    pass
            elif line.strip(_SPACE):
                record, fault = parse_object(line)
                if fault and line.lstrip(_SPACE)[:1] in (b"[", b"]"):
                    fault = f"{fault} (a JSON list? then name the file .json)"
                yield RawRow(record, fault, number, raw=line)


_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SPACES = re.compile(rb"[ \t\r\n]*+")
_TOP = re.compile(rb'["\[\]{,]')
_NESTED = re.compile(rb'["\[\]{}]')


class JsonElements:
    """One pass over a stream that holds a JSON list, or one JSON object.

    `preamble`: a byte order mark, or nothing. `head`: from there to the first
    element. `closing`: what follows the last element; complete after the pass.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.preamble = skip_bom(stream)
        self.head = b""
        self.closing = b""
        self._buffer = b""
        self._place = 0
        self._line = 1

    def _more(self) -> bool:
        """Have at least one unread byte in the buffer; False at the end of the file."""
        if self._place < len(self._buffer):
            return True
        self._buffer, self._place = self._stream.read1(PIECE), 0
        return bool(self._buffer)

    def _advance(self, place: int) -> bytes:
        passed = self._buffer[self._place : place]
        self._line += passed.count(b"\n")
        self._place = place
        return passed

    def _next(self) -> bytes:
        """The next byte, not consumed; nothing at the end of the file."""
        return self._buffer[self._place : self._place + 1] if self._more() else b""

    def _space(self) -> bytes:
        """Consume white space; return it, cut where it is absurdly long."""
        found = b""
        while self._more():
            spaces = _SPACES.match(self._buffer, self._place)
            assert spaces is not None  # it matches nothing, too
            found = (found + self._advance(spaces.end()))[:_LEAD_LIMIT]
            if self._place < len(self._buffer):
                break
        return found

    def _element(self) -> Iterator[bytes]:
        """Consume up to a comma or bracket that ends the element, or the end of the file."""
        depth, in_string, escaped = 0, False, False
        while self._more():
            buffer, place, ended = self._buffer, self._place, False
            while place < len(buffer):
                if escaped:
                    place, escaped = place + 1, False
                elif in_string:
                    whole = _IN_STRING.match(buffer, place)
                    if whole is None:
                        run = len(buffer) - max(place, len(buffer.rstrip(b"\\")))
                        escaped = run % 2 == 1
                    in_string = whole is None
                    place = whole.end() if whole else len(buffer)
                else:
                    found = (_NESTED if depth else _TOP).search(buffer, place)
                    place = found.end() if found else len(buffer)
                    character = found[0] if found else b""
                    if character == b'"':
                        in_string = True
                    elif character and character in b"[{":
                        depth += 1
                    elif character and depth:
                        depth -= 1
                    elif character:
                        place, ended = place - 1, True
                        break
            yield self._advance(place)
            if ended:
                return

    def _row(self, lead: bytes) -> RawRow:
        """Consume one element. Its white space at the end becomes `closing` for now."""
        line = self._line
        parts: list[bytes] = []
        size = 0
        pieces = self._element()
        for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size > ROW_LIMIT:
                self.closing = b""
                return RawRow(
                    None,
                    f"a list element {TOO_LONG}",
                    line,
                    lead=lead,
                    pieces=_chain(parts, pieces),
                )
        text = b"".join(parts)
        raw = text.rstrip(_SPACE)
        self.closing = text[len(raw) :][:_LEAD_LIMIT]
        if not raw:
            return RawRow(None, "nothing stands between two commas", line, raw=raw, lead=lead)
        record, fault = parse_object(raw)
        return RawRow(record, fault, line, raw=raw, lead=lead)

    def __iter__(self) -> Iterator[RawRow]:
        before = self._space()
        if self._next() == b"[":
            self._advance(self._place + 1)
            self.head = before + b"[" + self._space()
            yield from self._list()
        elif self._next():
            yield self._whole(before)

    def _whole(self, before: bytes) -> RawRow:
        """All of a file that is no list, as one row."""
        line = self._line
        parts = [before]
        while self._more() and sum(map(len, parts)) <= ROW_LIMIT:
            parts.append(self._advance(len(self._buffer)))
        if self._more():
            rest = iter(lambda: self._stream.read(PIECE), b"")
            pieces = _chain([*parts, self._advance(len(self._buffer))], rest)
            return RawRow(None, f"a file without a list, {TOO_LONG}", line, pieces=pieces)
        raw = b"".join(parts)
        record, fault = parse_object(raw)
        return RawRow(record, fault, line, raw=raw)

    def _list(self) -> Iterator[RawRow]:
        lead, first = self.head, True
        while True:
            following = self._next()
            if not following:
                yield self._cut_off(lead)
                return
            if following == b"]":
                if not first:
                    fault = "nothing stands between the last comma and the end of the list"
                    yield RawRow(None, fault, self._line, raw=b"", lead=lead)
                self.closing = b""
                break
            row = self._row(lead)
            if row.pieces is not None:
                yield row
                for _ in row.pieces:
                    pass
                following = self._next()
            else:
                following = self._next()
                if not following and row.fault:
                    row.fault = f"the file ends inside this element; is it cut off? {row.fault}"
                    row.closes = True
                yield row
                if row.closes:
                    return
            first = False
            if not following:
                yield self._cut_off(self.closing)
                return
            if following == b"]":
                break
            self._advance(self._place + 1)
            lead = self.closing + b"," + self._space()
        self._advance(self._place + 1)
        self.closing += b"]" + self._space()
        if self._next():
            yield self._after_the_list()

    def _cut_off(self, lead: bytes) -> RawRow:
        fault = "the file ends before the list does; is it cut off?"
        return RawRow(None, fault, self._line, raw=b"", lead=lead, closes=True)

    def _after_the_list(self) -> RawRow:
        lead, line = self.closing, self._line
        row = self._whole(b"")
        near = (row.raw or b"")[:60].decode("utf-8", "replace")
        return RawRow(
            None,
            f"text after the end of the list: {quote(near)}",
            line,
            raw=row.raw,
            lead=lead,
            pieces=row.pieces,
            closes=True,
        )


def _chain(parts: list[bytes], rest: Iterator[bytes]) -> Iterator[bytes]:
    """The parts, then the rest; the parts are let go as they are passed on."""
    parts.reverse()
    while parts:
        yield parts.pop()
    yield from rest
