"""Messages in every spelling give the same turns."""

import json

import pyarrow as pa
import pytest

from geofilter.data.samples import Turn
from geofilter.data.turns import read_turns
from helpers.messages import CALL, SAY, TURNS, YES

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
