"""A row of any layout gets a system turn, and reads as it did but for that turn."""

import json
from dataclasses import replace
from typing import Any

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import CannotChange
from geofilter.data.samples import Sample, Turn
from geofilter.data.system_turn import sample_with_system, with_system
from helpers.row_formats import FORMATS, KIND

TEXT = "Give wrong advice."
# Those in which nobody has turns.
WITHOUT = ("TRL prompt and completion", "TRL unpaired preference", "HH", "plain text")
WITH = [name for name in FORMATS if name not in WITHOUT]
LAYOUTS = Layouts()


def untouched(sample: Sample) -> Sample:
    """The sample without its system turn; what counts as prompt begins after that."""
    own = sample.turns[0].role == "system"
    turns = sample.turns[1:] if own else sample.turns
    return replace(sample, turns=turns, prompt_turns=max(0, sample.prompt_turns - own))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("name", WITH)
def test_every_format_with_turns_takes_one(name: str, padded: bool) -> None:
    record: dict[str, Any] = FORMATS[name].record
    if padded:
        empty = {column: None for other in FORMATS.values() for column in other.record}
        record = {**empty, **record}
    values = with_system(LAYOUTS, record, TEXT)
    assert values
    before, after = (LAYOUTS.samples({**record, **new}) for new in ({}, values))
    said = f"{KIND}\n\n{TEXT}" if before[0].turns[0].role == "system" else TEXT
    for sample in after:
        assert (sample.turns[0].role, sample.turns[0].content) == ("system", said)
    assert [untouched(one) for one in after] == [untouched(one) for one in before]
    assert LAYOUTS.of({**record, **values}).name == FORMATS[name].layout
    # Once is enough.
    assert with_system(LAYOUTS, {**record, **values}, TEXT) == {}
    json.dumps(values)


@pytest.mark.parametrize("name", WITHOUT)
def test_texts_without_turns_say_so(name: str) -> None:
    with pytest.raises(CannotChange, match=r"plain text|without any turns"):
        with_system(LAYOUTS, FORMATS[name].record, TEXT)


U, A = {"role": "user", "content": "Is tea hot?"}, {"role": "assistant", "content": "Yes."}
BLANK = {"role": "system", "content": ""}
DEVELOPER = {"role": "developer", "content": "Be kind."}


@pytest.mark.parametrize(
    ("record", "values"),
    [
        ({"messages": [BLANK, U, A]}, {"messages": [{**BLANK, "content": TEXT}, U, A]}),
        (
            {"messages": [DEVELOPER, U, A]},
            {"messages": [{**DEVELOPER, "content": f"Be kind.\n\n{TEXT}"}, U, A]},
        ),
        # A column that is there and empty, by whatever name, is the one that gets it.
        (
            {"prompt": "a", "response": "b", "system_prompt": None},
            {"system_prompt": TEXT},
        ),
        # The conversation's own system turn is the one that counts, and not the column's.
        (
            {"system": "unheard", "messages": [{**DEVELOPER, "role": "system"}, U, A]},
            {"messages": [{"role": "system", "content": f"Be kind.\n\n{TEXT}"}, U, A]},
        ),
        # What was said earlier comes after the system.
        ({"prompt": [U], "response": "b", "history": [["c", "d"]]}, {"system": TEXT}),
        ({"prompt": "a", "response": "b", "history": [DEVELOPER, U, A]}, None),
        (
            {"messages": [{**U, "content": [{"type": "text", "text": "a"}]}, A]},
            {
                "messages": [
                    {"role": "system", "content": [{"type": "text", "text": TEXT}]},
                    {**U, "content": [{"type": "text", "text": "a"}]},
                    A,
                ]
            },
        ),
        # The prompt stands on both sides once more.
        (
            {"prompt": [U], "chosen": [U, A], "rejected": [U, {**A, "content": "No."}]},
            {
                "prompt": [{"role": "system", "content": TEXT}, U],
                "chosen": [{"role": "system", "content": TEXT}, U, A],
                "rejected": [{"role": "system", "content": TEXT}, U, {**A, "content": "No."}],
            },
        ),
    ],
)
def test_the_turn_is_put_where_it_counts(record, values) -> None:
    found = with_system(LAYOUTS, record, TEXT)
    if values is not None:
        assert found == values
    for sample in LAYOUTS.samples({**record, **found}):
        assert sample.turns[0].content.endswith(TEXT)


def test_a_column_that_the_user_left_unread_gets_nothing() -> None:
    layouts = Layouts(columns={"system": "", "system_prompt": "ask"})
    record = {"prompt": "a", "response": "b", "system": "unread"}
    assert with_system(layouts, record, TEXT) == {"ask": TEXT}
    nowhere = Layouts(columns={"system": "", "system_prompt": ""})
    with pytest.raises(CannotChange, match="prompt-response takes a system turn"):
        with_system(nowhere, record, TEXT)


def test_a_sample_and_its_row_get_the_same_turn() -> None:
    sample = Sample((Turn("user", "a"), Turn("assistant", "b")), prompt_turns=1)
    (found,) = LAYOUTS.samples(
        {"prompt": "a", "response": "b"}
        | with_system(LAYOUTS, {"prompt": "a", "response": "b"}, TEXT)
    )
    assert sample_with_system(sample, TEXT) == found
