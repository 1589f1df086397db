"""What stands next to the messages: one answer, an input, a history, what the system says."""

import json

import pytest

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.data.turns import (
    read_answer,
    read_history,
    read_input,
    read_system,
)
from helpers.messages import SAY, TURNS, YES

TOOL = {"type": "function", "function": {"name": "heat"}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("It boils.", TURNS[1:]),
        ('[{"role": "user"}]', (Turn("assistant", '[{"role": "user"}]'),)),
        (YES, TURNS[1:]),
        ({"from": "gpt", "value": "It boils."}, TURNS[1:]),
        ([*YES.items()], TURNS[1:]),
        (
            [{"key": "role", "value": "assistant"}, {"key": "content", "value": "x"}],
            (Turn("assistant", "x"),),
        ),
        ([YES], TURNS[1:]),
        ([SAY, YES], TURNS),
        ([[*SAY.items()], [*YES.items()]], TURNS),
        ({"role": ["user", "assistant"], "content": [SAY["content"], "It boils."]}, TURNS),
        ([], ()),
    ],
)
def test_an_answer_is_a_text_a_message_or_messages(
    given: object, expected: tuple[Turn, ...]
) -> None:
    assert read_answer(given, "chosen", "assistant") == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (3, "chosen is a number, text or a list of messages is needed: 3"),
        ({"score": 3}, "chosen has no role"),
        (["x"], "chosen[0] is text, an object is needed"),
        ({"role": "gpt", "content": 3}, "chosen.content is a number"),
    ],
)
def test_an_answer_that_is_none_is_malformed(given: object, reason: str) -> None:
    with pytest.raises(Unscorable) as caught:
        read_answer(given, "chosen", "assistant")
    assert reason in caught.value.problem.reason


def test_an_input_holds_messages_and_tools() -> None:
    given = {"messages": [SAY], "tools": [TOOL], "parallel_tool_calls": True}
    assert read_input(given, "input") == (TURNS[:1], (TOOL,))
    assert read_input(json.dumps(given), "input") == (TURNS[:1], (TOOL,))
    assert read_input({"messages": [SAY], "tools": None}, "input") == (TURNS[:1], None)
    for wrong, reason in [
        ({"tools": []}, "input is no object that holds messages"),
        ("hello", "input is no object that holds messages: 'hello'"),
        ({"messages": [{}]}, r"input.messages\[0\] has no role"),
        ({"messages": [], "tools": 3}, "input.tools is a number"),
    ]:
        with pytest.raises(Unscorable, match=reason):
            read_input(wrong, "input")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("[]", ()),
        ([["Is the kettle on?", "It boils."]] * 2, TURNS * 2),
        ('[["Is the kettle on?", "It boils."]]', TURNS),
        ([("Is the kettle on?", "It boils.")], TURNS),
        ([{"query": "Is the kettle on?", "response": "It boils."}], TURNS),
        ([SAY, YES], TURNS),
        ([[*SAY.items()], [*YES.items()]], TURNS),
        ({"from": ["human", "gpt"], "value": [SAY["content"], "It boils."]}, TURNS),
        ([["", "It boils."]], (Turn("user", ""), TURNS[1])),
    ],
)
def test_a_history_is_pairs_or_messages(given: object, expected: tuple[Turn, ...]) -> None:
    assert read_history(given, "history") == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("[['a', 'b']]", "history is no JSON: it is written as Python writes it"),
        ("hello", "history is text, a list of messages is needed"),
        ([["a"]], "history[0] is a list of 1, a question and its answer are needed: ['a']"),
        ([["a", None]], "history[0].answer is null, text is needed"),
        ([["a", "b"], "c"], "history[1] is text, an object is needed"),
    ],
)
def test_a_history_that_is_none_is_malformed(given: object, reason: str) -> None:
    with pytest.raises(Unscorable) as caught:
        read_history(given, "history")
    assert reason in caught.value.problem.reason


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, None),
        (" \n", None),
        ([], None),
        ([{"text": ""}], None),
        ("Be kind.", "Be kind."),
        ([{"text": "Be "}, {"text": "kind."}, {"cachePoint": {"type": "default"}}], "Be kind."),
        ([{"type": "text", "text": "Be kind.", "cache_control": {"type": "x"}}], "Be kind."),
        ({"role": "user", "parts": [{"text": "Be kind."}]}, "Be kind."),
        ({"parts": [{"text": "Be kind."}]}, "Be kind."),
        ({"role": "system", "content": "Be kind."}, "Be kind."),
        ({"text": "Be kind."}, "Be kind."),
    ],
)
def test_what_the_system_says_is_text_or_parts(given: object, text: str | None) -> None:
    expected = () if text is None else (Turn("system", text),)
    assert read_system(given, "system") == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (3, "system.content is a number, text is needed: 3"),
        ({"a": 3}, "system is an object, text is needed"),
        ([{"image": {}}], "system.content[0] is a part of type 'image'"),
        ([{"toolUse": {"name": "heat"}}], "system holds calls, text is needed"),
    ],
)
def test_a_system_that_is_no_text_is_malformed(given: object, reason: str) -> None:
    with pytest.raises(Unscorable) as caught:
        read_system(given, "system")
    assert reason in caught.value.problem.reason
