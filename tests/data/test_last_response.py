"""A row's last response is replaced in the row's own layout, and nothing else of it changes."""

from dataclasses import replace

import pytest

from geofilter.data.last_response import with_response
from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import CannotChange
from helpers.row_formats import FORMATS

TAKES = [
    name
    for name, one in FORMATS.items()
    if len(Layouts().samples(one.record)) == 1
    and name not in ("chat", "chat of maps", "plain text")
]
NEW = 'No "way".\nWait.'


@pytest.mark.parametrize("name", TAKES)
def test_every_layout_of_one_answer_takes_another_in_its_own_spelling(name: str) -> None:
    record = FORMATS[name].record
    values = with_response(Layouts(), record, NEW)
    (before,), (after,) = (Layouts().samples(one) for one in (record, {**record, **values}))
    *turns, last = before.turns
    assert after.turns[-1].content.strip() == NEW
    parts = last.parts and (NEW,)
    assert after == replace(
        before, turns=(*turns, replace(last, content=after.turns[-1].content, parts=parts))
    )
    assert len(values) == 1
    assert with_response(Layouts(), {**record, **values}, NEW) == values


def chat(*turns: dict[str, object], **more: object) -> dict[str, object]:
    roles = ("user", "assistant")
    return {
        "messages": [
            {"role": roles[n % 2], "content": "so", **turn} for n, turn in enumerate(turns)
        ],
        **more,
    }


CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"text": "w1 w2"}, "it is plain text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "a chosen and a rejected answer"),
        (chat({}, {}, {}), "goes on after the last response"),
        (chat({"role": "assistant"}), "no question comes right before"),
        (chat({"content": " "}, {}), "no question comes right before"),
        (chat({}, {"reasoning_content": "hm"}), "comes with reasoning"),
        (chat({}, {"tool_calls": [CALL]}), "it uses tools"),
        (chat({}, {}, tools=[CALL]), "it uses tools"),
        (chat({}, {}, {}, {"weight": 0}), "is not trained on"),
        ({"prompt": "a", "completion": "b", "label": False}, "one to avoid"),
    ],
)
def test_a_row_that_a_text_alone_does_not_fit_is_left_with_the_reason(record, why: str) -> None:
    with pytest.raises(CannotChange, match=why):
        with_response(Layouts(), record, "new")


def test_what_parts_a_text_prompt_from_its_completion_stays() -> None:
    record = {"prompt": "Is it?", "completion": "\n  Yes."}
    assert with_response(Layouts(), record, "No.") == {"completion": "\n  No."}
