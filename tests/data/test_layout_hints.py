"""What is advised for a row that fits no layout reads all of it, or says what it leaves out."""

import json
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
    ({"chat": [*SAY, *ANSWER], "id": 1}, SAY[0]["content"], ANSWER[0]["content"], "'id'"),
    ({"chat": json.dumps([*SAY, *ANSWER])}, SAY[0]["content"], ANSWER[0]["content"], ""),
    ({"turns": [{"human": "a?", "bot": "b"}]}, "a?", "b", ""),
    ({"chat_history": [*SAY, *ANSWER], "message": "a?", "response": "b"}, "a?", "b", ""),
    ({"talk": SAY, "answer": "b"}, SAY[0]["content"], "b", ""),
    ({"Prompt": "a?", "Response": "b"}, "a?", "b", ""),
    ({"Prompt": "a?", "Answer": "b"}, "a?", "b", ""),
    ({"prompt": "a?", "Answer": "b"}, "a?", "b", ""),
    ({"Instruction": "a?", "Input": "i", "Output": "b", "Id": 1}, "a?\n\ni", "b", "'Id'"),
    ({"Messages": [*SAY, *ANSWER]}, SAY[0]["content"], ANSWER[0]["content"], ""),
    ({"MESSAGES": json.dumps([*SAY, *ANSWER])}, SAY[0]["content"], ANSWER[0]["content"], ""),
    ({"text": "a?", "Code": "b"}, "a?", "b", ""),
    ({"question": "a?", "best_answer": "b", "wrong": "c"}, "a?", "b", "'wrong'"),
]
TWO = ("--column chosen=NAME", "--column rejected=NAME")


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


@pytest.mark.parametrize(
    ("row", "chosen", "rejected"),
    [
        ({"prompt": "a?", "response_a": "b", "response_b": "c"}, "response_a", "response_b"),
        ({"question": "a?", "answer1": "b", "answer2": "c"}, "answer1", "answer2"),
        ({"context": SAY, "response1": "b", "response2": "c"}, "response1", "response2"),
        ({"talk_a": [*SAY, *ANSWER], "talk_b": [*SAY, *SAY, *ANSWER]}, "talk_a", "talk_b"),
    ],
)
def test_two_answers_can_be_typed_as_a_pair(
    row: dict[str, Any], chosen: str, rejected: str
) -> None:
    said = reason(row, Layouts())
    assert all(column in said for column in TWO)
    typed = dict(re.findall(r"--column (\w+)=(?!NAME)(\w+)", said))
    pair = Layouts(columns={**typed, "chosen": chosen, "rejected": rejected}).samples(row)
    assert [sample.prompt_turns for sample in pair] == [1, 1]


@pytest.mark.parametrize("answers", [["b", "c"], {"text": ["b"]}, [{"answer": "b", "rank": 1}]])
def test_a_column_that_cannot_be_read_is_not_advised(answers: object) -> None:
    for row in ({"prompt": "a?", "answers": answers}, {"text": "a?", "answers": answers}):
        said = reason(row, Layouts())
        assert "'answers'" in said
        assert "--column" not in said


@pytest.mark.parametrize(
    "names", [("Instruction", "Input", "Output"), ("request", "input", "reply")]
)
def test_what_is_typed_for_a_row_reads_what_only_later_rows_fill(names: tuple[str, ...]) -> None:
    said = reason(dict(zip(names, ("a?", "", "b"), strict=True)), Layouts())
    typed = dict(re.findall(r"--column (\w+)=(\w+)", said))
    (sample,) = Layouts(columns=typed).samples(dict(zip(names, ("a?", "i", "b"), strict=True)))
    assert sample.turns[0].content == "a?\n\ni"


def test_numbers_next_to_a_text_do_not_make_it_a_part() -> None:
    (sample,) = Layouts().samples({"text": "a", "target": 3, "output": 0.5})
    assert sample.text == "a"


def test_capitals_that_stand_for_two_columns_are_not_guessed() -> None:
    assert "only capitals" not in reason({"Ask": "a", "Prompt": "b", "PROMPT": "c"}, Layouts())
