"""JSON lines and JSON lists, row by row.

Lines keep their bytes. They end at a line feed, at nothing else; blank lines are not rows.

A list is read element by element, with the standard library's parser. (`ijson` refuses NaN and
large integers, takes the last of two equal keys without a word, and knows no line numbers.)
An element that is JSON but not a row is one unreadable row. After bad syntax it is unknown where
the next element begins: what follows in the file is one unreadable row, with its bytes. A
`.json` file that is not a list is one row: the object that it holds.
"""

import io
import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from geofilter.data.formats.source import PIECE, ROW_LIMIT, TOO_LONG, RawRow
from geofilter.data.formats.streams import skip_bom
from geofilter.data.formats.strict_json import TOO_DEEP, parse_object, syntax_fault
from geofilter.support.display import quote

_SPACE = b" \t\r\n"


class Lines(Protocol):
    """What gives a line, or its first bytes, with its end."""

    def readline(self, size: int, /) -> bytes: ...


def rest_of_line(stream: Lines, head: bytes, newline: bytes = b"\n") -> Iterator[bytes]:
    """`head`, then what follows it up to and with the next line feed, in pieces."""
    piece = head
    while piece:
        yield piece
        if piece.endswith(newline):
            return
        piece = stream.readline(PIECE)


class JsonLines:
    """One pass over a stream of JSON lines. `preamble`: a byte order mark, or nothing."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.preamble = skip_bom(stream)

    def __iter__(self) -> Iterator[RawRow]:
        return map(self.parsed, self.unparsed())

    def unparsed(self) -> Iterator[RawRow]:
        """The rows with their bytes alone: for copying, which is many times as fast."""
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
                yield RawRow(None, None, number, raw=line)

    @staticmethod
    def parsed(row: RawRow) -> RawRow:
        """The same row with its record, or the reason why it has none."""
        if row.raw is not None:
            row.record, row.fault = parse_object(row.raw)
            if row.fault and begins_with_turn(row.raw):
                row.fault = (
                    f"{row.fault} (a conversation? then give it a name, as in "
                    "jq -c '{messages: .}' OLD > NEW.jsonl)"
                )
            elif row.fault and row.raw.lstrip(_SPACE)[:1] in (b"[", b"]"):
                row.fault = f"{row.fault} (a JSON list? then name the file .json)"
            elif row.fault and row.raw.strip(_SPACE) in (b"{", b"}", b"},"):
                row.fault = (
                    f"{row.fault} (an object over several lines? write each on a line of its "
                    "own, as in jq -c . OLD > NEW.jsonl)"
                )
        return row


def begins_with_turn(raw: bytes) -> bool:
    """Whether JSON is a list of the turns of a conversation, by its first bytes."""
    return _TURNS.match(raw) is not None


_TURNS = re.compile(rb'\s*\[\s*\{\s*"(?:role|from|content|value)"\s*:')
_WHITE = " \t\r\n"
_SPACES = re.compile(rf"[{_WHITE}]*+")
_AFTER = re.compile(rf"[{_WHITE}]*+[,\]]")
# A fault this near to the end of what is held may only be a word or an escape cut in two.
_LONGEST_WORD = len("\\ud83d\\ude00")
# Finds where an element ends, whatever it holds; `parse_object` then reads it strictly.
_LENIENT = json.JSONDecoder(parse_int=float, strict=False)


class JsonElements:
    """One pass over a stream that holds a JSON list, or one JSON object."""

    def __init__(self, stream: io.BufferedReader) -> None:
        skip_bom(stream)
        # Bytes that are not UTF-8 survive as surrogates, for `parse_object` to refuse.
        self._stream = io.TextIOWrapper(stream, "utf-8", "surrogateescape", newline="")
        self._text = ""
        self._place = 0
        self._line = 1

    def __iter__(self) -> Iterator[RawRow]:
        if self._next() == "[":
            self._pass_to(self._place + 1)
            yield from self._list()
        elif self._next():
            yield from self._rest(None)

    def _list(self) -> Iterator[RawRow]:
        comma = False
        while (character := self._next()) != "]":
            if not character:
                fault = "the file ends before the list does; is it cut off?"
                yield RawRow(None, fault, self._line, raw=b"")
                return
            if character == ",":
                yield RawRow(None, "nothing stands between two commas", self._line, raw=b"")
            else:
                size, fault = self._measure()
                if fault:
                    yield from self._rest(fault)
                    return
                yield self._element(size)
            comma = self._next() == ","
            if comma:
                self._pass_to(self._place + 1)
        if comma:
            fault = "nothing stands between the last comma and the end of the list"
            yield RawRow(None, fault, self._line, raw=b"")
        self._pass_to(self._place + 1)
        if self._next():
            near = quote(self._text[self._place : self._place + 60])
            yield from self._rest(f"text after the end of the list: {near}")

    def _measure(self) -> tuple[int, str]:
        """The length of the element that begins here, or why that is unknown."""
        while True:
            place, size = self._place, 0
            try:
                size = _LENIENT.raw_decode(self._text, place)[1] - place
                if _AFTER.match(self._text, place + size):
                    return size, ""
                message, at = "Extra data", size
            except json.JSONDecodeError as error:
                message, at = error.msg, error.pos - place
            except RecursionError:
                return 0, TOO_DEEP
            held = len(self._text.rstrip(_WHITE)) - place
            if at + _LONGEST_WORD < held and not message.startswith("Unterminated string"):
                return 0, syntax_fault(self._text[place:], message, at)
            if held > ROW_LIMIT:
                return 0, f"a list element {TOO_LONG}"
            if not self._more():
                break
        if at == size == held > 0:
            return size, ""  # the file ends here, before its list
        fault = syntax_fault(self._text, message, at)
        if self._text.rstrip(_WHITE).endswith("]"):
            return 0, fault
        return 0, f"the file ends inside this element; is it cut off? {fault}"

    def _element(self, size: int) -> RawRow:
        line, raw = self._line, _encoded(self._text[self._place : self._place + size])
        self._pass_to(self._place + size)
        if len(raw) > ROW_LIMIT:
            return RawRow(None, f"a list element {TOO_LONG}", line, pieces=iter([raw]))
        record, fault = parse_object(raw)
        return RawRow(record, fault, line, raw=raw)

    def _rest(self, fault: str | None) -> Iterator[RawRow]:
        """All that is left of the file as one row; without a `fault` it may be a record."""
        while len(self._text) - self._place <= ROW_LIMIT and self._more():
            pass
        text, self._text = self._text[self._place :], ""
        if len(text) > ROW_LIMIT:
            pieces = map(_encoded, chain([text], iter(lambda: self._stream.read(PIECE), "")))
            fault = fault or f"a file without a list, {TOO_LONG}"
            yield RawRow(None, fault, self._line, pieces=pieces)
            for _ in pieces:
                pass
        else:
            raw = _encoded(text.rstrip(_WHITE))
            record, fault = (None, fault) if fault else parse_object(raw)
            yield RawRow(record, fault, self._line, raw=raw)

    def _more(self) -> bool:
        """Read on, as much again as is held; False at the end of the file."""
        held = self._text[self._place :]
        piece = self._stream.read(max(PIECE, len(held)))
        self._text, self._place = held + piece, 0
        return bool(piece)

    def _pass_to(self, place: int) -> None:
        self._line += self._text.count("\n", self._place, place)
        self._place = place

    def _next(self) -> str:
        """Pass over white space; the character that follows, nothing at the end of the file."""
        while True:
            spaces = _SPACES.match(self._text, self._place)
            assert spaces is not None  # it matches nothing, too
            self._pass_to(spaces.end())
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
