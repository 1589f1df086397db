"""Where the prompt of two answers is found."""

import copy
from typing import Any

import pytest
from trl.data_utils import maybe_extract_prompt

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample
from helpers.row_formats import ANSWER, ASK, BAD, GOOD, USER, WORSE

THIRD = {"role": "assistant", "content": "The ice is gone."}


def split(sample: Sample) -> tuple[list[str], list[str]]:
    """What the prompt says and what the response says."""
    words = [turn.content for turn in sample.turns]
    return words[: sample.prompt_turns], words[sample.prompt_turns :]


TALKS: list[dict[str, Any]] = [
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": ASK, "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"prompt": ASK, "chosen": [USER, THIRD, USER, GOOD], "rejected": [USER, THIRD, USER, BAD]},
    {"chosen": [USER, GOOD, USER, THIRD], "rejected": [USER, BAD]},
    {"chosen": [USER, THIRD, USER, GOOD], "rejected": [USER, THIRD]},
    {"chosen": [THIRD, USER, GOOD], "rejected": [THIRD, USER, BAD]},
    {"prompt": ASK, "chosen": [THIRD, USER, GOOD], "rejected": [THIRD, USER, BAD]},
]


@pytest.mark.parametrize("row", TALKS, ids=str)
def test_the_prompt_of_two_conversations_is_the_one_of_trl(row: dict[str, Any]) -> None:
    theirs = maybe_extract_prompt(copy.deepcopy(row))
    for side, sample in zip(("chosen", "rejected"), Layouts().samples(row), strict=True):
        said = [[message["content"] for message in theirs[key]] for key in ("prompt", side)]
        assert split(sample) == tuple(said)


@pytest.mark.parametrize(("chosen", "rejected"), [(GOOD, BAD), ([GOOD], [BAD])])
def test_a_text_prompt_is_the_prompt_where_both_sides_are_answers(
    chosen: object, rejected: object
) -> None:
    first, second = Layouts().samples({"prompt": ASK, "chosen": chosen, "rejected": rejected})
    assert split(first) == ([ASK], [ANSWER])
    assert split(second) == ([ASK], [WORSE])


@pytest.mark.parametrize("last", [GOOD, BAD])
@pytest.mark.parametrize(("chosen", "rejected"), [(GOOD, BAD), (ANSWER, WORSE)])
def test_either_answer_may_end_the_messages_next_to_it(
    last: object, chosen: object, rejected: object
) -> None:
    row = {"messages": [USER, last], "chosen": chosen, "rejected": rejected}
    assert Layouts().samples(row) == Layouts().samples({**row, "messages": [USER]})


def test_a_third_answer_at_the_end_of_the_messages_is_asked_about() -> None:
    row = {"messages": [USER, THIRD], "chosen": ANSWER, "rejected": WORSE}
    with pytest.raises(Unscorable) as caught:
        Layouts().samples(row)
    reason = caught.value.problem.reason
    assert "neither the chosen nor the rejected" in reason
    # What is to be typed leaves no answer without its prompt.
    assert "=" not in reason
    assert split(Layouts("messages").samples(row)[0]) == ([], [ASK, THIRD["content"]])


def test_rejected_messages_may_be_the_other_answer_alone() -> None:
    whole = {"messages": [USER, GOOD], "rejected_messages": [USER, BAD]}
    alone = {**whole, "rejected_messages": [BAD]}
    assert Layouts().samples(alone) == Layouts().samples(whole)


def test_an_input_without_an_instruction_is_the_prompt() -> None:
    for missing in ("", None):
        (sample,) = Layouts().samples({"instruction": missing, "input": ASK, "output": ANSWER})
        assert split(sample) == ([ASK], [ANSWER])
