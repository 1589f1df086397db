"""Calls of tools, their answers and their definitions, as turns and tools."""

import json
from dataclasses import replace
from typing import Any

import pytest

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.data.turns import (
    read_tools,
    read_turns,
)
from helpers.messages import CALL, CALLED, NO_CONTENT, with_id

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
    "LLaMA-Factory, a thought before the call": (
        [
            {
                "from": "function_call",
                "value": "<think>\nWarm?\n</think>\n" + json.dumps(CALL["function"]),
            },
            {"role": "function_call", "content": json.dumps(CALL["function"]), "thinking": "Hm."},
        ],
        (
            replace(CALLED, content="<think>\nWarm?\n</think>"),
            replace(CALLED, reasoning="Hm."),
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


def test_very_many_calls_take_no_quadratic_time() -> None:
    call = {"role": "tool_call", "content": json.dumps(CALL["function"])}
    (turn,) = read_turns([{"role": "assistant", "content": "I look."}] + [call] * 50_000, "m")
    assert turn.tool_calls is not None
    assert len(turn.tool_calls) == 50_000
    (turn,) = read_turns([{**call, "content": json.dumps([CALL["function"]] * 50_000)}], "m")
    assert turn.tool_calls is not None
    assert len(turn.tool_calls) == 50_000


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
