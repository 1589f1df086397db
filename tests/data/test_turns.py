"""Messages in every spelling, and what is said of those that cannot be read."""

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.data.turns import (
    read_answer,
    read_history,
    read_input,
    read_system,
    read_tools,
    read_turns,
)

SAY = {"role": "user", "content": "Is the kettle on?"}
YES = {"role": "assistant", "content": "It boils."}
TURNS = (Turn("user", "Is the kettle on?"), Turn("assistant", "It boils."))
CALL = {"type": "function", "function": {"name": "heat", "arguments": {"degrees": 90}}}
CALLED = Turn("assistant", "", None, (CALL,))
NO_CONTENT = replace(CALLED, parts=())


def with_id(place: str) -> dict[str, Any]:
    return {"type": "function", "id": place, "function": CALL["function"]}


SPELLINGS: dict[str, object] = {
    "OpenAI, TRL": [SAY, YES],
    "ShareGPT": [
        {"from": "human", "value": "Is the kettle on?"},
        {"from": "gpt", "value": "It boils."},
    ],
    "ShareGPT's names, OpenAI's content": [
        {"from": "user", "content": "Is the kettle on?"},
        {"from": "assistant", "content": "It boils."},
    ],
    "Gemini": [
        {"role": "user", "parts": [{"text": "Is the kettle on?"}]},
        {"role": "model", "parts": [{"text": "It "}, {"text": "boils."}]},
    ],
    "Gemini's parts as texts": [
        {"role": "user", "parts": ["Is the kettle on?"]},
        {"role": "model", "parts": ["It boils."]},
    ],
    "Cohere": [
        {"role": "USER", "message": "Is the kettle on?"},
        {"role": "CHATBOT", "message": "It boils."},
    ],
    "OASST": [
        {"role": "prompter", "text": "Is the kettle on?"},
        {"role": "assistant", "text": "It boils."},
    ],
    "Bedrock": [
        {"role": "user", "content": [{"text": "Is the kettle on?"}]},
        {"role": "assistant", "content": [{"text": "It boils."}, {"cachePoint": {"type": "x"}}]},
    ],
    "Responses": [
        {"role": "user", "content": [{"type": "input_text", "text": "Is the kettle on?"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "It boils."}]},
    ],
    "LLaMA-Factory's own": [
        {"role": "user", "content": [{"type": "text", "value": "Is the kettle on?"}]},
        {
            "role": "assistant",
            "content": [{"type": "text", "value": "It boils."}],
            "loss_weight": 1.0,
        },
    ],
    "Firefly": [{"human": "Is the kettle on?", "assistant": "It boils.", "id": 7}],
    "ms-swift": [{"user": "Is the kettle on?", "bot": "It boils.", "tool": None}],
    "capitals and blanks": [{**SAY, "role": " User"}, {**YES, "role": "ASSISTANT\n"}],
    "other names": [{"from": "Human", "value": "Is the kettle on?"}, {**YES, "role": "AI"}],
    "JSON text": json.dumps([SAY, YES]),
    "JSON text of ShareGPT": '\n [{"from": "human", "value": "Is the kettle on?"}, '
    '{"from": "gpt", "value": "It boils."}]',
    "a struct of lists": {
        "role": ["user", "assistant"],
        "content": ["Is the kettle on?", "It boils."],
        "name": None,
    },
    "JSON text of a struct of lists": '{"from": ["human", "gpt"], '
    '"value": ["Is the kettle on?", "It boils."]}',
    "Spark's maps, from Arrow": [[*SAY.items()], [*YES.items()]],
    "Spark's maps, from JSON": [[list(pair) for pair in turn.items()] for turn in (SAY, YES)],
    "Spark's maps, as structs": [
        [{"key": key, "value": value} for key, value in turn.items()] for turn in (SAY, YES)
    ],
    "both spellings, as Arrow fills them": [
        {**SAY, "from": None, "value": None, "tool_calls": None, "weight": None},
        {"role": None, "content": None, "from": "gpt", "value": "It boils.", "train": None},
    ],
}


@pytest.mark.parametrize("messages", SPELLINGS.values(), ids=SPELLINGS)
def test_one_conversation_in_all_spellings_gives_the_same_turns(messages: object) -> None:
    assert read_turns(messages, "messages") == TURNS


def test_how_a_row_gives_its_content_is_kept_where_templates_see_it() -> None:
    def parts_of(**message: object) -> tuple[str, tuple[str, ...] | None]:
        (turn,) = read_turns([{"role": "assistant", **message}], "messages")
        return turn.content, turn.parts

    texts = [{"type": "text", "text": "It "}, {"type": "text", "text": "boils.", "url": None}]
    assert parts_of(content="It boils.") == ("It boils.", None)
    assert parts_of(content=texts) == ("It boils.", ("It ", "boils."))
    assert parts_of(role=None, **{"from": "gpt", "value": texts}) == (
        "It boils.",
        ("It ", "boils."),
    )
    assert parts_of(content=[]) == ("", ())
    assert parts_of(content=None, tool_calls=[CALL]) == ("", ())
    assert parts_of(reasoning="Hm.") == ("", ())
    # A vendor's own parts reach no template as they are.
    assert parts_of(content=[{"text": "It boils."}]) == ("It boils.", None)
    assert parts_of(parts=[{"text": "It boils."}]) == ("It boils.", None)
    called = {"type": "tool_use", "name": "heat", "input": {}}
    assert parts_of(content=[*texts, called]) == ("It boils.", None)


def test_maps_and_structs_of_lists_are_read_as_arrow_gives_them() -> None:
    maps = pa.array([[[*SAY.items()], [*YES.items()]]], pa.list_(pa.map_(pa.string(), pa.string())))
    assert read_turns(maps.to_pylist()[0], "messages") == TURNS
    lists = pa.array([{"role": ["user", "assistant"], "content": [SAY["content"], "It boils."]}])
    assert read_turns(lists.to_pylist()[0], "messages") == TURNS


ROLES = {
    "system": "System SYSTEM",
    "user": "user Human PROMPTER",
    "assistant": "gpt chatgpt Chatbot AI bot model Bing bard",
    "tool": "Tool function ipython observation tool_response tool_responses function_response",
}


@pytest.mark.parametrize(("role", "names"), ROLES.items())
def test_roles_have_many_names(role: str, names: str) -> None:
    for name in names.split():
        assert read_turns([{"role": name, "content": "x"}], "m") == (Turn(role, "x"),), name


REASONING = [
    ({"reasoning": "c"}, "c"),
    ({"thinking": "b", "reasoning": "c"}, "b"),
    ({"reasoning_content": "a", "thinking": "b", "reasoning": "c"}, "a"),
    ({"reasoning_content": None, "thinking": None, "reasoning": "c"}, "c"),
    # transformers takes the first that is not null, and templates may write an empty one.
    ({"reasoning_content": "", "thinking": "b"}, ""),
    ({"content": [{"type": "thinking", "thinking": "a", "signature": "s"}]}, "a"),
    ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}]}]}, "a"),
    ({"content": [{"type": "reasoning", "value": "a"}]}, "a"),
    ({"content": [{"reasoningContent": {"reasoningText": {"text": "a", "signature": "s"}}}]}, "a"),
    ({"content": None, "parts": [{"text": "a", "thought": True, "thoughtSignature": "s"}]}, "a"),
]


@pytest.mark.parametrize(("keys", "expected"), REASONING)
def test_reasoning_is_read_in_the_order_of_transformers(
    keys: dict[str, object], expected: str
) -> None:
    (turn,) = read_turns([{"role": "assistant", "content": "", **keys}], "messages")
    assert turn == Turn("assistant", "", expected)


def test_the_order_of_reasoning_is_that_of_the_installed_transformers() -> None:
    from transformers.utils import chat_template_utils

    from geofilter.data import turns

    assert turns._REASONING == chat_template_utils._REASONING_FIELDS


ANSWERED = Turn("tool", "hot", name=None, tool_call_id="1")
ARGUMENTS = {"degrees": 90}
TOOLS: dict[str, tuple[list[dict[str, Any]], tuple[Turn, ...]]] = {
    "OpenAI": ([{"role": "assistant", "content": None, "tool_calls": [CALL]}], (NO_CONTENT,)),
    "OpenAI, as JSON text": (
        [{"role": "assistant", "content": "", "tool_calls": json.dumps([CALL])}],
        (CALLED,),
    ),
    "OpenAI, before tool_calls": (
        [{"role": "assistant", "content": None, "function_call": CALL["function"]}],
        (NO_CONTENT,),
    ),
    "no calls, as a list": (
        [{"role": "assistant", "content": "It boils.", "tool_calls": []}],
        (Turn("assistant", "It boils.", None, ()),),
    ),
    "Anthropic": (
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "I look.", "input": None},
                    {"type": "tool_use", "id": "1", "name": "heat", "input": ARGUMENTS},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "1",
                        "content": [{"type": "text", "text": "hot"}],
                    },
                    {"type": "tool_result", "tool_use_id": "2", "content": "cold"},
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
        (
            Turn("assistant", "I look.", None, (with_id("1"),)),
            ANSWERED,
            Turn("tool", "cold", tool_call_id="2"),
            Turn("user", "And now?"),
        ),
    ),
    "Bedrock": (
        [
            {
                "role": "assistant",
                "content": [{"toolUse": {"toolUseId": "1", "name": "heat", "input": ARGUMENTS}}],
            },
            {
                "role": "user",
                "content": [
                    {"text": "Look:"},
                    {"toolResult": {"toolUseId": "1", "content": [{"text": "hot"}]}},
                    {"toolResult": {"toolUseId": "2", "content": [{"json": {"now": "é"}}]}},
                ],
            },
        ],
        (
            Turn("assistant", "", None, (with_id("1"),)),
            Turn("user", "Look:"),
            ANSWERED,
            Turn("tool", '{"now": "é"}', tool_call_id="2"),
        ),
    ),
    "Gemini": (
        [
            {"role": "model", "parts": [{"functionCall": {"name": "heat", "args": ARGUMENTS}}]},
            {
                "role": "function",
                "parts": [{"functionResponse": {"name": "heat", "response": {"now": 90}}}],
            },
            {"role": "model", "parts": [{"function_call": {"name": "heat", "args": ARGUMENTS}}]},
            {
                "role": "user",
                "parts": [{"function_response": {"name": "heat", "response": {"now": 91}}}],
            },
        ],
        (
            CALLED,
            Turn("tool", '{"now": 90}', name="heat"),
            CALLED,
            Turn("tool", '{"now": 91}', name="heat"),
        ),
    ),
    "LLaMA-Factory, ShareGPT": (
        [
            {"from": "function_call", "value": json.dumps(CALL["function"])},
            {"from": "observation", "value": "hot"},
        ],
        (CALLED, Turn("tool", "hot")),
    ),
    "LLaMA-Factory, several calls in one text": (
        [{"from": "function_call", "value": json.dumps([CALL["function"]] * 2)}],
        (Turn("assistant", "", None, (CALL, CALL)),),
    ),
    "LLaMA-Factory's own": (
        [
            {
                "role": "assistant",
                "content": [{"type": "tool_call", "value": json.dumps(CALL["function"])}],
                "loss_weight": 0.0,
            }
        ],
        (Turn("assistant", "", None, (CALL,), trained=False),),
    ),
    "ms-swift: a message per call joins the turn before it": (
        [
            {"role": "assistant", "content": "I look."},
            {"role": "tool_call", "content": json.dumps(CALL["function"])},
            {"role": "tool_call", "content": CALL["function"]},
            {"role": "tool_response", "content": "hot"},
            {"role": "tool_response", "content": "cold"},
        ],
        (
            Turn("assistant", "I look.", None, (CALL, CALL)),
            Turn("tool", "hot"),
            Turn("tool", "cold"),
        ),
    ),
    "a call that is no JSON stays text": (
        [{"from": "function_call", "value": "heat(90)"}, {"from": "function_call", "value": "[1]"}],
        (Turn("assistant", "heat(90)"), Turn("assistant", "[1]")),
    ),
    "ms-swift's exchange after a tool": (
        [{"tool": "hot", "assistant": "It boils."}],
        (Turn("tool", "hot"), Turn("assistant", "It boils.")),
    ),
}


@pytest.mark.parametrize(("messages", "expected"), TOOLS.values(), ids=TOOLS)
def test_calls_and_answers_of_tools_are_read(
    messages: list[dict[str, Any]], expected: tuple[Turn, ...]
) -> None:
    assert read_turns(messages, "messages") == expected


@pytest.mark.parametrize("name", ["weight", "train", "train_on_turn", "loss", "loss_weight"])
@pytest.mark.parametrize(
    ("value", "trained"),
    [
        (0, False),
        (False, False),
        ("0", False),
        (" FALSE", False),
        (1, True),
        (True, True),
        ("true", True),
        ("1.0", True),
        (None, True),
        ("", True),
    ],
)
def test_a_message_may_say_that_no_loss_falls_on_it(
    name: str, value: object, trained: bool
) -> None:
    turns = read_turns([SAY, {**YES, name: value}], "messages")
    assert [turn.trained for turn in turns] == [True, trained]
    # Only the assistant's turns are trained anyway.
    assert read_turns([{**SAY, name: value}, YES], "messages") == TURNS


REFUSED: dict[str, tuple[object, str]] = {
    "text": ("hello", "messages is text, a list of messages is needed: 'hello'"),
    "blank": (" ", "messages is text, a list of messages is needed"),
    "a number": (3, "messages is a number, a list of messages is needed: 3"),
    "an object": ({"a": 1}, "messages is an object, a list of messages is needed"),
    "broken JSON": ('[{"role": "user"', "messages is no JSON: not JSON: Expecting ',' delimiter"),
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


TOOL = {"type": "function", "function": {"name": "heat"}}
BEDROCK = {"toolSpec": {"name": "heat", "inputSchema": {"json": {}}}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("", None),
        (" null\n", None),
        # Some templates write something for an empty list, as trainers hand it on.
        ([], ()),
        ("[]", ()),
        ([TOOL], (TOOL,)),
        (json.dumps([TOOL, BEDROCK]), (TOOL, BEDROCK)),
        ([json.dumps(TOOL), json.dumps(BEDROCK)], (TOOL, BEDROCK)),
        ([{**TOOL, "strict": None}], (TOOL,)),
        ({"type": ["function"], "function": [{"name": "heat"}]}, (TOOL,)),
        ([[*TOOL.items()]], (TOOL,)),
        ([{"functionDeclarations": [{"name": "heat"}]}],) * 2,
    ],
)
def test_tools_stay_as_the_row_spells_them(given: object, expected: object) -> None:
    assert read_tools(given) == (tuple(expected) if isinstance(expected, list) else expected)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("{", "tools is no JSON"),
        ("heat", "tools is text, a list of objects is needed: 'heat'"),
        ('{"name": "heat"}', "tools is an object, a list of objects is needed"),
        ([3], "tools is a list, a list of objects is needed: [3]"),
        (["{'name': 1}"], "tools[0] is no JSON: it is written as Python"),
    ],
)
def test_tools_that_are_none_are_malformed(given: object, reason: str) -> None:
    with pytest.raises(Unscorable) as caught:
        read_tools(given)
    assert reason in caught.value.problem.reason


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
