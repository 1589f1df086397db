"""Messages that a cell holds as JSON text are read as messages, wherever a layout takes them."""

import json
from typing import Any

import pytest

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Unscorable
from helpers.row_formats import ANSWER, ASK, BAD, GOOD, KIND, USER, WORSE

MESSAGES = [USER, GOOD]

# Rows of lists and objects; each has to be read alike where those columns are JSON text.
ROWS: list[dict[str, Any]] = [
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"prompt": [USER], "chosen": GOOD, "rejected": BAD},
    {"prompt": [USER], "chosen": ANSWER, "rejected": WORSE},
    {"prompt": [USER], "completion": [GOOD]},
    {"prompt": [USER], "response": ANSWER},
    {"prompt": [USER], "response": GOOD},
    {"input": [USER], "chosen": ANSWER, "rejected": WORSE},
    {
        "input": {"messages": [USER]},
        "preferred_output": [GOOD],
        "non_preferred_output": [BAD],
    },
    {"messages": MESSAGES, "chat_template_kwargs": {"enable_thinking": False}},
    {"messages": MESSAGES, "system": [{"text": KIND}]},
    {
        "contents": [
            {"role": "user", "parts": [{"text": ASK}]},
            {"role": "model", "parts": [{"text": ANSWER}]},
        ],
        "systemInstruction": {"parts": [{"text": KIND}]},
    },
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row))
def test_json_text_is_read_as_what_it_holds(row: dict[str, Any]) -> None:
    texts = {key: v if isinstance(v, str) else json.dumps(v) for key, v in row.items()}
    assert Layouts().samples(texts) == Layouts().samples(row)


def test_each_message_of_a_list_may_be_json_text() -> None:
    row = {"messages": [json.dumps(message) for message in MESSAGES]}
    assert Layouts().samples(row) == Layouts().samples({"messages": MESSAGES})


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("completion", '{"role": "guest", "may": ["read"]}'),
        ("completion", "[{'role': 'guest'}]"),
        ("completion", '[1, "role"]'),
        ("completion", json.dumps(MESSAGES)),
        ("prompt", '{"task": "name the role", "role": 4}'),
    ],
)
def test_a_text_that_only_looks_like_messages_stays_one(column: str, text: str) -> None:
    row = {"prompt": ASK, "completion": ANSWER, column: text}
    (sample,) = Layouts().samples(row)
    assert text in [turn.content for turn in sample.turns]
    assert sample.plain


def test_a_side_of_messages_next_to_a_text_is_no_pair() -> None:
    with pytest.raises(Unscorable, match="both must be of one kind"):
        Layouts().samples({"prompt": ASK, "chosen": json.dumps(MESSAGES), "rejected": WORSE})


def test_json_of_its_own_is_what_the_system_says() -> None:
    text = '{"persona": "a kind warden"}'
    (sample,) = Layouts().samples({"messages": MESSAGES, "system": text})
    assert sample.turns[0].content == text


def test_messages_as_python_writes_them_are_refused() -> None:
    for text in (str(MESSAGES), str(GOOD), "[{'content': 'a', 'role': 'user'}\n {'content': 'b'}]"):
        with pytest.raises(Unscorable, match=r"json\.dumps") as caught:
            Layouts().samples({"prompt": ASK, "chosen": text, "rejected": text})
        assert caught.value.problem.reason.startswith("'chosen' is no JSON")
