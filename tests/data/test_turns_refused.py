"""What is no message is named by its path, and no value gives anything but turns or a reason."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Turn
from geofilter.data.turns import (
    read_answer,
    read_history,
    read_input,
    read_system,
    read_tools,
    read_turns,
)
from geofilter.support.display import escape
from helpers.messages import CALL, SAY, YES

REFUSED: dict[str, tuple[object, str]] = {
    "text": ("hello", "messages is text, a list of messages is needed: 'hello'"),
    "blank": (" ", "messages is text, a list of messages is needed"),
    "a number": (3, "messages is a number, a list of messages is needed: 3"),
    "an object": ({"a": 1}, "messages is an object, a list of messages is needed"),
    "broken JSON": ('[{"role": "user"', "messages is no JSON: Expecting ',' delimiter"),
    "Python": (str([SAY]), "messages is no JSON: it is written as Python writes it; write it with"),
    "a surrogate in JSON text": ('[{"role": "\\ud800"}]', "half of a surrogate pair"),
    "a key twice in JSON text": ('[{"role": "user", "role": "x"}]', "the key 'role' occurs twice"),
    "deep JSON text": ("[" * 100_000, "messages is no JSON: nested deeper than 200 levels"),
    "JSON text of a text": ('"hello"', "messages is text, a list of messages is needed"),
    "lists of unequal length": (
        {"role": ["user", "assistant"], "content": ["a"]},
        "messages is lists of unequal length, one is needed per key: role 2, content 1",
    ),
    "a map with a key twice": (
        [[("role", "user"), ("role", "x")]],
        "messages[0] is a map in which a key occurs twice",
    ),
    "a list in a list": ([["user", "hello"]], "messages[0] is a list, an object is needed"),
    "null": ([SAY, None], "messages[1] is null, an object is needed"),
    "no role": ([{"content": "x"}], "messages[0] has no role"),
    "half an exchange": ([{"human": "x"}], "messages[0] has no role"),
    "two questions": (
        [{"human": "x", "query": "y", "assistant": "z"}],
        "messages[0] has no role",
    ),
    "an answer that is null": ([{"human": "x", "assistant": None}], "messages[0] has no role"),
    "an answer that is no text": ([{"human": "x", "assistant": 3}], "messages[0].assistant is a n"),
    "an unknown role": (
        [{"from": "Judge", "value": "x"}],
        "messages[0].from is 'Judge'; known are system",
    ),
    "a role that is no text": ([{"role": 3, "content": "x"}], "messages[0].role is 3; known are"),
    "no content": ([{"role": "user"}], "messages[0] has no content"),
    "no value": ([{"from": "human"}], "messages[0] has no value"),
    "null parts": ([{"role": "user", "parts": None}], "messages[0].parts is null"),
    "no calls and no content": (
        [{"role": "assistant", "content": None, "tool_calls": []}],
        "messages[0].content is null",
    ),
    "an image": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        "messages[0].content[0] is a part of type 'image_url'; only text parts can be read",
    ),
    "Gemini's image": (
        [{"role": "user", "parts": [{"text": "x"}, {"inlineData": {"data": "x"}}]}],
        "messages[0].parts[1] is a part of type 'inlineData'; only text parts can be read",
    ),
    "an image next to a text": (
        [{"role": "user", "parts": [{"text": "x", "inlineData": {"data": "x"}}]}],
        "messages[0].parts[0] is a part of type 'inlineData'",
    ),
    "Bedrock's document": (
        [{"role": "user", "content": [{"document": {"name": "x"}}]}],
        "messages[0].content[0] is a part of type 'document'",
    ),
    "hidden reasoning": (
        [{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}],
        "a part of type 'redacted_thinking'",
    ),
    "an empty part": ([{"role": "user", "content": [{}]}], "is a part of type None"),
    "a text among parts": (
        [{"role": "user", "content": ["x"]}],
        "messages[0].content[0] is text, a content part is needed: 'x'",
    ),
    "an image in a tool's answer": (
        [
            {
                "role": "user",
                "content": [{"toolResult": {"content": [{"text": "a"}, {"image": {}}]}}],
            }
        ],
        "messages[0].content[0].toolResult.content[1] is a part of type 'image'",
    ),
    "a tool's answer from the assistant": (
        [{"role": "assistant", "content": [{"type": "tool_result", "content": "x"}]}],
        "messages[0] is a turn of the assistant that holds a tool's answer",
    ),
    "a call from the user": (
        [{"role": "user", "content": [{"type": "tool_use", "name": "heat", "input": {}}]}],
        "messages[0] holds a tool call, which only a turn of the assistant may: user",
    ),
    "a call without a name": (
        [{"role": "assistant", "content": [{"toolUse": {"input": {}}}]}],
        "messages[0].content[0].toolUse.name is null, text is needed",
    ),
    "a legacy call that is none": (
        [{**YES, "function_call": "auto"}],
        "messages[0].function_call is no call (name and arguments): 'auto'",
    ),
    "calls that are text": (
        [{**YES, "tool_calls": "now"}],
        "messages[0].tool_calls is text, a list of objects is needed: 'now'",
    ),
    "calls that are broken JSON": (
        [{**YES, "tool_calls": "[{]"}],
        "messages[0].tool_calls is no JSON",
    ),
    "other calls in the parts": (
        [
            {
                "role": "assistant",
                "tool_calls": [CALL, CALL],
                "content": [{"type": "tool_use", "name": "heat", "input": {}}],
            }
        ],
        "messages[0] holds other tool calls in its parts than in tool_calls",
    ),
    "reasoning twice": (
        [
            {
                "role": "assistant",
                "reasoning": "a",
                "content": [{"type": "thinking", "thinking": "b"}],
            }
        ],
        "messages[0] holds its reasoning twice",
    ),
    "reasoning that is no text": ([{**YES, "reasoning": 3}], "messages[0].reasoning is a number"),
    "a weight between": ([SAY, {**YES, "weight": 0.5}], "messages[1].weight is 0.5; known are 0"),
    "a weight in words": ([{**YES, "train": "half"}], "messages[0].train is 'half'; known are 0"),
    "a weight that is a list": ([{**YES, "weight": [0]}], "messages[0].weight is [0]; known are"),
    "weights that differ": ([{**YES, "weight": 1, "train": False}], "messages[0] says both that"),
    "spans under the loss": (
        [{**YES, "train_detail": [{"begin_offset": 0, "end_offset": 1, "train": True}]}],
        "messages[0].train_detail names parts of the turn that are trained",
    ),
}


@pytest.mark.parametrize(("messages", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_message_is_malformed_with_its_path(messages: object, reason: str) -> None:
    with pytest.raises(Unscorable) as caught:
        read_turns(messages, "messages")
    assert caught.value.problem.status == "malformed"
    assert reason in caught.value.problem.reason
    assert caught.value.problem.reason.isprintable()


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "message",
    [
        {**YES, "tool_calls": [{"a": nested(600)}]},
        {**YES, "function_call": {"name": "heat", "arguments": nested(600)}},
        {"role": "tool_call", "content": {"name": "heat", "arguments": nested(600)}},
        {"role": "model", "parts": [{"functionCall": {"name": "heat", "args": nested(600)}}]},
        {"role": "user", "content": [{"toolResult": {"content": [{"json": nested(600)}]}}]},
        {"role": "user", "content": [{"type": "text", "text": "x", "more": nested(600)}]},
    ],
)
def test_deep_nesting_is_malformed(message: dict[str, object]) -> None:
    with pytest.raises(Unscorable, match=r"messages\[0\].* is nested deeper than 200 levels"):
        read_turns([message], "messages")


KEYS = [
    "role",
    "from",
    "content",
    "value",
    "parts",
    "message",
    "text",
    "human",
    "assistant",
    "query",
    "tool",
    "type",
    "thinking",
    "reasoning",
    "reasoning_content",
    "reasoningContent",
    "reasoningText",
    "tool_calls",
    "function_call",
    "functionCall",
    "functionResponse",
    "response",
    "toolUse",
    "toolResult",
    "tool_use_id",
    "name",
    "input",
    "args",
    "arguments",
    "json",
    "thought",
    "weight",
    "train",
    "train_detail",
    "loss",
    "messages",
    "tools",
    "key",
    "cachePoint",
    "image",
]
WORDS = [
    "user",
    "Human",
    "assistant",
    "gpt",
    "model",
    "tool",
    "function_call",
    "text",
    "tool_use",
    "tool_result",
    "thinking",
    "tool_call",
    "image",
    "0",
    "true",
    "{}",
    "[]",
    "[{",
    "null",
    "\ud800",
    "\x1b[2J",
    '{"name":"a","arguments":{}}',
    '{"role":"user","content":"x"}',
    '[["a","b"]]',
    "</think>{}",
]
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(st.sampled_from(KEYS), inner),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
        st.fixed_dictionaries({"role": st.sampled_from(WORDS[:7]), "content": inner}),
        st.fixed_dictionaries({"type": st.sampled_from(WORDS[7:12]), "text": inner, "name": inner}),
    ),
    max_leaves=25,
)


READERS: list[Callable[[object], tuple[Turn, ...]]] = [
    lambda value: read_turns(value, "column"),
    lambda value: read_history(value, "column"),
    lambda value: read_system(value, "column"),
    lambda value: read_answer(value, "column", "user"),
    lambda value: read_input(value, "column")[0],
    lambda value: (read_tools(value) and ()) or (),
]


def reading(
    read: Callable[[object], tuple[Turn, ...]], value: object
) -> tuple[Turn, ...] | Problem:
    try:
        return read(value)
    except Unscorable as error:
        return error.problem


@given(ANY_VALUE)
def test_any_value_gives_turns_or_one_line_of_reason(value: object) -> None:
    for read in READERS:
        found = reading(read, value)
        if isinstance(found, Problem):
            assert found.status == "malformed"
            assert escape(found.reason, limit=None) == found.reason
            continue
        for turn in found:
            assert turn.role in ("system", "developer", "user", "assistant", "tool")
            assert isinstance(turn.content, str)
            assert turn.parts is None or "".join(turn.parts) == turn.content
