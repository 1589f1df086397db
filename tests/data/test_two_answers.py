"""The answers of a preference row change places in every layout, and nothing else changes."""

from typing import Any

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import CannotChange
from geofilter.data.two_answers import exchanged
from helpers.row_formats import FORMATS

LAYOUTS = Layouts()
PAIRS = [name for name, one in FORMATS.items() if one.second is not None]


@pytest.mark.parametrize("name", PAIRS)
def test_the_samples_of_every_format_change_places(name: str) -> None:
    record: dict[str, Any] = FORMATS[name].record
    values = exchanged(LAYOUTS, record)
    before, after = (LAYOUTS.samples({**record, **new}) for new in ({}, values))
    assert after == before[::-1]
    assert after != before
    again = exchanged(LAYOUTS, {**record, **values})
    assert {**record, **values, **again} == record


def test_what_is_said_of_a_side_goes_with_it() -> None:
    record = {
        "prompt": "a",
        "chosen": "b",
        "rejected": "c",
        "score_chosen": 4.5,
        "score_rejected": 1.0,
        "chosen_by": "x",
        "margin": 3.5,
    }
    assert exchanged(LAYOUTS, record) == {
        "chosen": "c",
        "rejected": "b",
        "score_chosen": 1.0,
        "score_rejected": 4.5,
    }


@pytest.mark.parametrize("rejected", ["text", "message", "messages"])
def test_an_answer_next_to_a_conversation_keeps_its_spelling(rejected: str) -> None:
    worse = {"role": "assistant", "content": "No."}
    given = {"text": "No.", "message": worse, "messages": [worse]}[rejected]
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "Yes."}]
    record: dict[str, Any] = {"messages": turns, "rejected_response": given}
    values: dict[str, Any] = exchanged(LAYOUTS, record)
    assert values["messages"] == [turns[0], worse]
    assert type(values["rejected_response"]) is type(given)


def test_a_second_conversation_may_be_the_other_answer_alone() -> None:
    user, good = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    bad = {"role": "assistant", "content": "c"}
    record = {"messages": [user, good], "rejected_messages": [bad]}
    assert exchanged(LAYOUTS, record) == {"messages": [user, bad], "rejected_messages": [good]}


def test_a_row_of_one_answer_is_left_alone() -> None:
    with pytest.raises(CannotChange, match="one answer"):
        exchanged(LAYOUTS, FORMATS["chat"].record)


def test_what_no_way_exchanges_says_so() -> None:
    turns = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    with pytest.raises(CannotChange, match="of the layout messages-rejected cannot change places"):
        exchanged(LAYOUTS, {"messages": turns, "rejected_response": "c"})


def test_columns_that_the_user_named_are_those_that_change() -> None:
    layouts = Layouts(columns={"chosen": "good", "rejected": "bad"})
    record = {"prompt": "a", "good": "b", "bad": "c", "chosen": 1, "rejected": 2}
    assert exchanged(layouts, record) == {"good": "c", "bad": "b", "chosen": 2, "rejected": 1}
