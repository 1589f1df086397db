"""Text from data sets and names of files, made safe for a terminal or a one-line message.

Rows are hostile input: they hold escape sequences, bidirectional overrides,
zero-width characters and lone surrogates. Everything that comes from a row and
is shown to a person passes through `escape`.
"""

import os
import shlex
import unicodedata
from collections.abc import Mapping

# Categories that can move the cursor, hide text or reorder it: control, format
# (zero-width, bidirectional), surrogate, private use, unassigned, line and
# paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# What is invisible in other categories: Unicode's Default_Ignorable_Code_Point
# (DerivedCoreProperties.txt, 16.0), which unicodedata does not know, and the blank of Braille.
_IGNORABLE = frozenset(
    chr(code)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0000, 0xE0FFF),
    )
    for code in range(first, last + 1)
)


def _escape_character(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN and character not in _IGNORABLE:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def escape(value: object, limit: int | None = 80) -> str:
    """Return `value` as one line of visible characters.

    Hidden and control characters become backslash escapes; a text longer than
    `limit` characters is cut and ends in an ellipsis. `limit=None` never cuts.
    """
    text = value if isinstance(value, str) else _representation(value)
    cut = limit is not None and len(text) > limit
    shown = text[:limit] if cut else text
    return "".join(map(_escape_character, shown)) + ("…" if cut else "")


def _representation(value: object) -> str:
    try:
        return repr(value)
    except (RecursionError, ValueError):  # nested too deep, or an int of thousands of digits
        return f"{kind_of(value)} too large to show"


def inert(text: str) -> str:
    """One line of visible characters that no build server takes for a command.

    GitHub, Azure and TeamCity look for `##[`, `##vso[` and `##teamcity[` anywhere in a line.
    """
    return escape(text, limit=None).replace("##", "#\\x23")


def shown(path: str | os.PathLike[str]) -> str:
    """A path for a message: one line, nothing hidden."""
    return escape(os.fspath(path), limit=200)


def no_utf8(path: str | os.PathLike[str]) -> str | None:
    """What to do about a name that is no UTF-8, which some libraries do not open."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return f"{shown(path)}: its name is not UTF-8, and cannot be opened; rename it"
    return None


def quote(value: object) -> str:
    """The value for a message: shortened, escaped, in quotes when it is text."""
    return f"'{escape(value, limit=60)}'" if isinstance(value, str) else escape(value, limit=60)


def kind_of(value: object) -> str:
    """What a value is, in words that a reader of JSON knows."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, Mapping):
        return "an object"
    return "bytes" if isinstance(value, bytes) else f"a {type(value).__name__}"


def argument(text: str) -> str:
    """`text` as one word of a command line that can be typed; in bash, where not all is visible."""
    if escape(text, limit=None) == text:
        return shlex.quote(text)
    plain = frozenset(range(0x20, 0x7F)) - frozenset(b"'\\")
    spelled = (chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(text))
    return f"$'{''.join(spelled)}'"
