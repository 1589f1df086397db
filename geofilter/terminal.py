"""Text from data sets, made fit for a terminal or a one-line message.

Rows are hostile input: they hold escape sequences, bidirectional overrides,
zero-width characters and lone surrogates. Everything that comes from a row and
is shown to a person passes through `escape`.

This module knows nothing about rows, colours or layouts.
"""

import unicodedata

# Categories that can move the cursor, hide text or reorder it: control, format
# (zero-width, bidirectional), surrogate, private use, unassigned, line and
# paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _escape_character(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def escape(value: object, limit: int | None = 80) -> str:
    """Return `value` as one line of visible characters.

    Hidden and control characters become backslash escapes; a text longer than
    `limit` characters is cut and ends in an ellipsis. `limit=None` never cuts.
    """
    text = value if isinstance(value, str) else repr(value)
    cut = limit is not None and len(text) > limit
    shown = text[:limit] if cut else text
    return "".join(map(_escape_character, shown)) + ("…" if cut else "")
