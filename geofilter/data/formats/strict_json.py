"""JSON from bytes, read strictly, with a reason where it cannot be read.

What is refused beyond bad syntax, because trainers fail on it or read it differently: a key
that occurs twice, a lone surrogate (tokenizers reject it), nesting deeper than `MAX_DEPTH`.
`NaN` and `Infinity` are read as Python and `datasets` read them: they occur in columns of
numbers next to the text.
"""

import json
import re

from geofilter.support.display import escape, kind_of, quote

MAX_DEPTH = 200  # levels of lists and objects; far below what Python's own recursion could follow
TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class _Refused(ValueError):
    """A value that JSON allows and geofilter does not."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    record = dict(pairs)
    if len(record) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refused(f"the key {quote(twice)} occurs twice in one object")
    return record


_decoder = json.JSONDecoder(object_pairs_hook=_object)


def _too_deep(data: bytes) -> bool:
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        if match[0] in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif match[0] in b"}]":
            depth -= 1
    return False


def decode(data: bytes) -> tuple[str, str | None]:
    """The text of the bytes and None, or the text with replacements and what is wrong."""
    if b"\0" in data:
        reason = f"NUL byte at byte {data.index(0) + 1}"
        return data.decode("utf-8", "replace"), reason
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        reason = (
            f"not UTF-8: byte 0x{data[error.start]:02x} at byte {error.start + 1}: "
            f"{quote(data[max(0, error.start - 20) : error.start + 20].decode('utf-8', 'replace'))}"
            f"{_other_encoding(data, error)}"
        )
        return data.decode("utf-8", "replace"), reason


def _other_encoding(data: bytes, error: UnicodeDecodeError) -> str:
    """A hint where all that is no ASCII would be letters in the usual encoding of Windows."""
    if error.reason == "unexpected end of data" or not data.decode("utf-8", "ignore").isascii():
        return ""
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return ""
    return " (windows-1252? then: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW)"


def syntax_fault(text: str, message: str, place: int) -> str:
    """What the parser says of `place` in the text, with what stands there."""
    near = text[max(0, place - 20) : place + 20].strip()
    hint = ""
    if place == 0 and text.startswith("\ufeff"):
        hint = " (a byte order mark inside the file)"
    return f"not JSON: {message} at character {place + 1}{hint}: {quote(near)}"


def parse_json(data: bytes) -> tuple[object, str | None]:
    """Return the value that the bytes hold and None, or None and the reason."""
    text, fault = decode(data)
    if fault is not None:
        return None, fault
    if _too_deep(data):
        return None, TOO_DEEP
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        return None, syntax_fault(text, error.msg, error.pos)
    except (ValueError, RecursionError) as error:  # _Refused, and numbers of too many digits
        return None, escape(str(error), limit=200)
    if _SURROGATE.search(text) is not None:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            lone = f"\\u{ord(error.object[error.start]):04x}"
            return None, f"half of a surrogate pair ({lone}), which is no character"
    return value, None


def parse_object(data: bytes) -> tuple[dict[str, object] | None, str | None]:
    """Return the object that the bytes hold, or None and the reason."""
    value, fault = parse_json(data)
    if fault is not None:
        return None, fault
    if not isinstance(value, dict):
        text = data.decode("utf-8").strip()
        return None, f"{kind_of(value)}, a row must be an object: {quote(text)}"
    return value, None
