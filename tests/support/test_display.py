"""Nothing that comes from data can move the cursor, hide text or reorder it."""

import unicodedata
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.support.display import escape

ANY_TEXT = st.text(st.characters(exclude_categories=()))
# Unicode's Default_Ignorable_Code_Point, and the blank of Braille.
UNSEEN = [
    *"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u3164\ufeff\uffa0\u2800",
    *map(chr, [*range(0x180B, 0x1810), *range(0x200B, 0x2010), *range(0x202A, 0x202F)]),
    *map(chr, [*range(0x2060, 0x2070), *range(0xFE00, 0xFE10), *range(0xFFF0, 0xFFF9)]),
    *map(chr, [*range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000)]),
]
MOVES_OR_HIDES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(ANY_TEXT, st.none() | st.integers(0, 20))
def test_no_character_of_the_result_moves_hides_or_reorders(text, limit):
    assert not {unicodedata.category(c) for c in escape(text, limit)} & MOVES_OR_HIDES


def test_no_character_that_nobody_sees_passes():
    assert [hex(ord(unseen)) for unseen in UNSEEN if unseen in escape(f"a{unseen}b")] == []


@given(ANY_TEXT)
def test_the_result_can_be_encoded(text):
    escape(text).encode("utf-8")


@given(ANY_TEXT, st.integers(0, 20))
def test_at_most_limit_characters_of_the_text_are_shown_and_a_cut_is_marked(text, limit):
    shown = escape(text, limit)
    assert shown.endswith("…") or len(text) <= limit
    assert shown == escape(text[:limit], None) + ("…" if len(text) > limit else "")


@pytest.mark.parametrize("text", ["", "plain words", "naïve café", "漢字", "שלום", "🙂"])
def test_visible_text_stays_as_it_is(text):
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("ab\u202ecd", "ab\\u202ecd"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_a_terminal_would_act_on_is_spelled_out(text, shown):
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"),
        (3.5, "3.5"),
        (["\x1b"], "['\\x1b']"),
        (reduce(lambda inner, _: [inner], range(50_000), []), "a list too large to show"),
        (10**5000, "a number too large to show"),
    ],
    ids=["null", "a number", "a list", "a deep list", "a long number"],
)
def test_values_that_are_no_text_are_shown_by_their_repr(value, shown):
    assert escape(value) == shown
