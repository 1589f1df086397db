"""Markup of the report: whatever a value holds is text, and nothing made here acts or asks."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.report import html
from helpers.markup import Seen
from helpers.report_payloads import PAYLOADS

texts = st.text(st.characters(), max_size=60) | st.sampled_from(PAYLOADS)


@given(texts, texts)
def test_whatever_a_text_holds_it_is_text_and_every_character_of_it_is_seen(body, label):
    seen = Seen(html.tag("p", body, html.tag("b", html.prose(body)), aria_label=label))
    assert seen.elements == ["p", "b"]
    assert [name for name, _ in seen.attributes] == ["aria-label"]
    hidden = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    shown = seen.text + (seen.attributes[0][1] or "")
    assert not {c for c in shown if unicodedata.category(c) in hidden} - {"\n", "\t"}
    if body.isprintable():
        assert seen.text == body * 2


@pytest.mark.parametrize(
    "attributes",
    [
        {"href": "https://example.org"},
        {"href": "javascript:alert(1)"},
        {"href": "//x"},
        {"style": "left:1%;background:url(x)"},
        {"style": "left:1%\n}"},
        {"onclick": "x"},
        {"src": "x"},
        {"srcdoc": "x"},
    ],
)
def test_markup_that_could_act_or_ask_cannot_be_made(attributes):
    with pytest.raises(ValueError, match=r"."):
        html.tag("a", "x", **attributes)


@settings(max_examples=40)
@given(st.dictionaries(texts, st.lists(texts, max_size=3), max_size=3))
def test_no_value_ends_the_block_of_data_or_is_changed_by_it(value):
    block = html.data("page-data", value)
    inside = block.removeprefix('<script type="application/json" id="page-data">')
    assert inside.count("<") == inside.count(">") == 1
    assert json.loads(Seen(block).scripts[0]) == value
    with pytest.raises(ValueError, match="JSON"):
        html.data("page-data", [float("nan")])


@pytest.mark.parametrize("source", ["'</ScRipt>'", "x <!-- y"])
def test_a_script_that_ends_its_element_is_refused(source):
    with pytest.raises(ValueError, match="ends a script"):
        html.script(source)
