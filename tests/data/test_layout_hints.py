"""What is advised for a row that fits no layout reads all of it, or says what it leaves out."""

import re
from typing import Any

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable

SAY = [{"role": "user", "content": "How deep is the lake?"}]
ANSWER = [{"role": "assistant", "content": "Twelve metres."}]

# A row, what is asked and what is answered in it, and the columns that a hint leaves out.
ROWS: list[tuple[dict[str, Any], str, str, str]] = [
    ({"input": "a?", "output": "b"}, "a?", "b", ""),
    ({"prompt": "a?", "output": "b"}, "a?", "b", ""),
    ({"prompt": "a?", "output": "b", "label": 1}, "a?", "b", "'label'"),
    ({"prompt": "a?", "chosen": "b"}, "a?", "b", ""),
    ({"question": "a?", "solution": "b"}, "a?", "b", ""),
    ({"query": "a?", "passage": "p", "answer": "b"}, "a?", "b", "'passage'"),
    ({"instruction": "a?", "input": "i", "code": "b"}, "a?\n\ni", "b", ""),
    ({"request": "a?", "context": "c", "reply": "b"}, "a?\n\nc", "b", ""),
    ({"user": "a?", "assistant": "b", "system": "s"}, "a?", "b", ""),
    ({"input": SAY, "output": ANSWER}, SAY[0]["content"], ANSWER[0]["content"], ""),
    ({"dialogue": [*SAY, *ANSWER]}, SAY[0]["content"], ANSWER[0]["content"], ""),
]


def reason(row: dict[str, Any], layouts: Layouts) -> str:
    with pytest.raises(Unscorable) as error:
        layouts.samples(row)
    assert error.value.problem.status == "malformed"
    return error.value.problem.reason


@pytest.mark.parametrize(("row", "asked", "answered", "left"), ROWS, ids=lambda value: str(value))
def test_what_is_to_be_typed_reads_what_is_asked_and_what_is_answered(
    row: dict[str, Any], asked: str, answered: str, left: str
) -> None:
    said = reason(row, Layouts())
    typed = dict(re.findall(r"--column (\w+)=(\w+)", said))
    (sample,) = Layouts(columns=typed).samples(row)
    *_, last, response = sample.turns
    assert (last.content, response.content) == (asked, answered)
    assert said.partition("(not read then: ")[2].partition(")")[0] == left


def test_two_possible_answers_are_named_and_none_is_advised() -> None:
    said = reason({"prompt": "a?", "output": "b", "solution": "c"}, Layouts())
    assert "'output' and 'solution' may be the response" in said
    assert "--column response=NAME" in said


def test_a_prompt_with_nothing_that_may_answer_it_has_no_response() -> None:
    for row in ({"prompt": "a?"}, {"prompt": "a?", "category": "c"}, {"prompt": "a?", "code": ""}):
        with pytest.raises(Unscorable) as error:
            Layouts().samples(row)
        assert error.value.problem.status == "no_response"
