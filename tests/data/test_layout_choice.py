"""Which layout a row has, and what is said of one that has none."""

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample, Turn
from geofilter.errors import DataError
from helpers.layouts import ANSWER, ASK, TURNS, layout_of, read


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["messages"], "messages"),
        (["messages", "text", "prompt", "response"], "messages"),
        (["conversations", "id"], "conversations"),
        (["prompt", "chosen", "rejected"], "chosen-rejected"),
        (["chosen", "rejected"], "chosen-rejected"),
        (["prompt", "completion"], "prompt-completion"),
        (["prompt", "response"], "prompt-response"),
        (["query", "response"], "query-response"),
        (["question", "answer"], "question-answer"),
        (["question", "prompt", "answer"], "question-answer"),
        (["response", "question", "aligned"], "question-response"),
        (["instruction", "input", "output"], "instruction-output"),
        (["text", "instruction", "output"], "instruction-output"),
        (["messages", "chosen", "rejected"], "chosen-rejected"),
        (["messages", "rejected_response"], "messages-rejected"),
        (["input", "preferred_output", "non_preferred_output"], "openai-preference"),
        (["contents", "systemInstruction"], "contents"),
        (["conversation", "model"], "conversation"),
        (["instruction", "context", "response", "category"], "instruction-response"),
        (["context", "response", "label"], "context-response"),
        (["text", "label"], "text"),
        (["category", "prompt"], "prompt-only"),
        (["instruction", "questions"], "instruction-only"),
        (["Question", "Answer"], "unknown"),
        ([], "unknown"),
    ],
)
def test_column_names_decide_on_the_layout(columns: list[str], expected: str) -> None:
    assert layout_of(dict.fromkeys(columns, "a")).name == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": None, "prompt": "a", "response": "b"}, "prompt-response"),
        ({"messages": [], "prompt": "a", "response": "b"}, "prompt-response"),
        ({"messages": "", "prompt": "a", "response": "b"}, "prompt-response"),
        ({"messages": [ASK, ANSWER], "prompt": None, "response": None}, "messages"),
        ({"messages": None, "prompt": "a", "response": None}, "prompt-response"),
        ({"text": None, "question": "a", "answer": ""}, "question-answer"),
        ({"text": "a", "question": None, "answer": None}, "text"),
        ({"prompt": "a", "chosen": None, "rejected": None}, "prompt-only"),
        ({"prompt": "a", "text": None}, "prompt-only"),
        ({"messages": None, "prompt": None, "response": None}, "messages"),
    ],
)
def test_a_row_is_read_by_the_columns_that_it_fills(
    record: dict[str, object], expected: str
) -> None:
    assert layout_of(record).name == expected


@pytest.mark.parametrize(
    ("record", "typed"),
    [
        ({"text": "a", "code": "b"}, "--column prompt=text --column response=code"),
        ({"text": "a", "summary": "b"}, "--column prompt=text --column response=summary"),
        ({"prompt": "a", "text": "b"}, "--column prompt=prompt --column response=text"),
        ({"Question": "a", "Answer": "b"}, "--column prompt=Question --column response=Answer"),
        ({"chat": [ASK, ANSWER], "id": 3}, "--column messages=chat"),
        ({"id": 3, "body": "b"}, "--column prompt=NAME --column response=NAME"),
    ],
)
def test_a_row_that_may_be_read_in_two_ways_or_in_none_says_what_to_type(
    record: dict[str, object], typed: str
) -> None:
    problem = layout_of(record).problem
    assert problem is not None
    assert (problem.status, typed in problem.reason) == ("malformed", True)


def test_what_a_message_advises_is_read_as_it_says() -> None:
    record: dict[str, object] = {"text": "How long do eggs boil?", "code": "Nine minutes."}
    assert read(record, columns={"prompt": "text", "response": "code"})[0].turns == TURNS
    assert read(record, name="text") == (Sample(text="How long do eggs boil?"),)
    chat: dict[str, object] = {"chat": [ASK, ANSWER], "id": 3}
    assert read(chat, columns={"messages": "chat"})[0].turns == TURNS


def test_a_role_without_a_column_is_not_read() -> None:
    record: dict[str, object] = {"system": "Be kind.", "messages": [ASK, ANSWER]}
    assert read(record)[0].turns == (Turn("system", "Be kind."), *TURNS)
    assert read(record, columns={"system": ""})[0].turns == TURNS


def test_unknown_columns_are_a_problem_of_the_rows_that_lists_what_was_found() -> None:
    layout = layout_of({"reply": "x", "ask\x1b[2J": "y"})
    assert layout.name == "unknown"
    assert layout.problem is not None
    assert layout.problem.status == "malformed"
    assert "'reply', 'ask\\x1b[2J'" in layout.problem.reason
    with pytest.raises(Unscorable, match="fit no layout"):
        layout.samples({"reply": "x"})


def test_a_mapping_reads_a_column_under_another_name() -> None:
    record: dict[str, object] = {"ask": "How long do eggs boil?", "reply": "Nine minutes."}
    mapping = {"prompt": "ask", "response": "reply"}
    layout = layout_of(record, columns=mapping)
    assert (layout.name, layout.columns | mapping) == ("prompt-response", layout.columns)
    assert layout.samples(record)[0].turns == TURNS
    assert read({"note": "Eggs boil.", "id": 1}, columns={"text": "note"}) == (
        Sample(text="Eggs boil."),
    )
    # Only one column is called otherwise.
    half = layout_of({"question": "a", "reply": "b"}, columns={"answer": "reply"}).columns
    assert (half["question"], half["answer"]) == ("question", "reply")


def test_the_columns_of_a_layout_can_be_handed_in_again() -> None:
    record: dict[str, object] = {"instruction": "Boil an egg.", "output": "Nine minutes."}
    first = layout_of(record)
    assert layout_of(record, name=first.name, columns=first.columns) == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "chat"}, "layout 'chat' is not known; choose from openai-preference"),
        ({"columns": {"reply": "a"}}, "'reply' is no column of any layout; choose from input"),
        ({"columns": {"text": "body"}}, "data.jsonl: no column 'body'; found 'a', 'b'"),
        (
            {"name": "text", "columns": {"prompt": "a"}},
            "layout text has no column 'prompt'; it has text",
        ),
    ],
)
def test_a_wrong_layout_or_mapping_is_refused_with_the_choices(
    arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        layout_of({"a": 1, "b": 2}, **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "nothing",
    [
        None,
        "",
        " ",
        [],
        {},
        float("nan"),
        "[]",
        "null",
        {"role": None, "content": None},
        {"role": [], "content": []},
    ],
    ids=repr,
)
def test_a_column_that_is_padded_does_not_count(nothing: object) -> None:
    row = {"prompt": "a?", "response": "b"}
    padded = {"messages": nothing, "chosen": nothing, "rejected": nothing, **row}
    assert Layouts().of(padded).name == "prompt-response"
    assert Layouts().samples(padded) == Layouts().samples(row)


def test_an_empty_list_may_be_an_answer() -> None:
    (sample,) = Layouts().samples({"instruction": "Sort nothing.", "output": "[]"})
    assert sample.turns[-1].content == "[]"
