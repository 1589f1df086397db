"""What a record becomes, read by its layout."""

import json
import pickle

import pytest

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample, Turn
from helpers.layouts import ANSWER, ASK, OTHER, TURNS, layout_of, read


def test_messages_keep_reasoning_tool_calls_and_parts() -> None:
    call = {"type": "function", "function": {"name": "timer", "arguments": {"minutes": 9}}}
    messages: list[object] = [
        {
            "role": "system",
            "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}],
        },
        ASK,
        {"role": "assistant", "content": None, "tool_calls": [call], "thinking": "A timer."},
        {"role": "tool", "content": "set", "name": "timer", "tool_call_id": "1"},
        {"role": "assistant", "content": "Done.", "reasoning_content": "It is set."},
    ]
    tool = {"type": "function", "function": {"name": "timer"}}
    (sample,) = read({"messages": messages, "tools": [tool]})
    assert sample.turns == (
        Turn("system", "Be kind.", parts=("Be ", "kind.")),
        TURNS[0],
        Turn("assistant", "", "A timer.", (call,), parts=()),
        Turn("tool", "set", None, None, "timer", "1"),
        Turn("assistant", "Done.", "It is set."),
    )
    assert sample.tools == (tool,)
    assert (sample.text, sample.plain, sample.prompt_turns) == (None, False, 0)


def test_tools_may_be_json_text_as_trl_takes_them() -> None:
    (sample,) = read({"messages": [ASK, ANSWER], "tools": '[{"name": "timer"}]'})
    assert sample.tools == ({"name": "timer"},)


@pytest.mark.parametrize("text", ['[{"a": DEEP}]', '{"a": DEEP}', "DEEP"])
@pytest.mark.parametrize("levels", [199, 600, 100_000])
def test_tools_that_are_nested_too_deep_are_malformed(text: str, levels: int) -> None:
    tools = text.replace("DEEP", "[" * levels + "]" * levels)
    with pytest.raises(Unscorable, match=r"malformed: tools is (nested|no JSON|a list|an object)"):
        read({"messages": [ASK, ANSWER], "tools": tools})
    call = json.loads('[{"a": DEEP}]'.replace("DEEP", "[" * 600 + "]" * 600))
    with pytest.raises(Unscorable, match=r"\[1\].tool_calls is nested deeper than 200 levels"):
        read({"messages": [ASK, {**ANSWER, "tool_calls": call}]})


def test_sharegpt_names_become_roles_in_either_column() -> None:
    turns = [
        {"from": "system", "value": "Be kind."},
        {"from": "human", "value": "How long do eggs boil?"},
        {"from": "gpt", "value": "Nine minutes."},
        {"from": "observation", "value": "rings"},
    ]
    expected = (Turn("system", "Be kind."), *TURNS, Turn("tool", "rings"))
    assert read({"conversations": turns})[0].turns == expected
    assert read({"messages": turns})[0].turns == expected
    assert read({"conversations": [ASK, ANSWER]})[0].turns == TURNS


def test_a_string_prompt_and_completion_are_joined_without_a_template() -> None:
    assert read({"prompt": "1 + 1 =", "completion": " 2"}) == (
        Sample((Turn("user", "1 + 1 ="), Turn("assistant", " 2")), plain=True, prompt_turns=1),
    )
    assert read({"prompt": "", "completion": "Once upon a time."})[0].plain


def test_a_conversational_prompt_is_no_response_even_where_the_assistant_speaks() -> None:
    record: dict[str, object] = {"prompt": [ASK, ANSWER, ASK], "completion": [OTHER]}
    (sample,) = read(record)
    assert sample.turns == (*TURNS, TURNS[0], Turn("assistant", "One hour."))
    assert (sample.prompt_turns, sample.plain) == (3, False)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        (("prompt",), "response"),
        (("query",), "response"),
        (("question",), "answer"),
        (("question",), "response"),
        (("context",), "response"),
        (("instruction",), "output"),
        (("instruction",), "response"),
    ],
)
def test_a_prompt_and_a_response_become_two_turns(prompt: tuple[str], response: str) -> None:
    record: dict[str, object] = {prompt[0]: "How long do eggs boil?", response: "Nine minutes."}
    assert read(record) == (Sample(TURNS, prompt_turns=1),)


@pytest.mark.parametrize("added", ["input", "context"])
def test_an_input_follows_the_instruction_after_an_empty_line(added: str) -> None:
    record: dict[str, object] = {"instruction": "Translate.", added: "egg", "output": "Ei"}
    assert read(record)[0].turns == (Turn("user", "Translate.\n\negg"), Turn("assistant", "Ei"))
    for absent in ("", None):
        assert read({**record, added: absent})[0].turns[0].content == "Translate."


def test_an_input_that_first_appears_late_in_the_file_is_not_lost() -> None:
    late: dict[str, object] = {"instruction": "Translate.", "input": "egg", "output": "Ei"}
    (sample,) = layout_of({"instruction": "Boil.", "output": "Done."}).samples(late)
    assert sample.turns[0].content == "Translate.\n\negg"


def test_chosen_and_rejected_are_two_samples_chosen_first() -> None:
    plain = read({"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"})
    assert [sample.turns[-1].content for sample in plain] == [" 2", " 3"]
    assert all(sample.plain and sample.prompt_turns == 1 for sample in plain)
    expected = (
        Sample(TURNS, prompt_turns=1),
        Sample((TURNS[0], Turn("assistant", "One hour.")), prompt_turns=1),
    )
    assert read({"prompt": [ASK], "chosen": [ANSWER], "rejected": [OTHER]}) == expected
    # The prompt once more at the start of both sides is not doubled.
    both: dict[str, object] = {"chosen": [ASK, ANSWER], "rejected": [ASK, OTHER]}
    assert read({"prompt": ASK["content"], **both}) == expected
    # Without a prompt, what both begin with is the prompt.
    assert read(both) == expected
    assert read({"prompt": None, **both}) == expected


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("Q: eggs? A: nine", "Q: eggs? A: ten", "Q: eggs? A:"),
        ("nine", "ten", ""),
        ("ab", "abc", "a"),
        ("same", "same", "sam"),
    ],
)
def test_the_prompt_of_two_texts_is_their_common_start_as_in_trl(
    chosen: str, rejected: str, prompt: str
) -> None:
    from trl.data_utils import extract_prompt

    expected = extract_prompt({"chosen": chosen, "rejected": rejected})
    samples = read({"chosen": chosen, "rejected": rejected})
    assert [sample.turns[0].content for sample in samples] == [prompt, prompt]
    assert expected["prompt"] == prompt
    assert [sample.turns[1].content for sample in samples] == [
        expected["chosen"],
        expected["rejected"],
    ]


MESSAGES = {"messages": [ASK, ANSWER]}
PAIR = {"prompt": "a", "response": "b"}


@pytest.mark.parametrize(
    ("first", "record", "status", "reason"),
    [
        (MESSAGES, {"messages": [ASK]}, "no_response", "no turn is the assistant's"),
        (MESSAGES, {"messages": []}, "no_response", "no turn is the assistant's"),
        (MESSAGES, {"messages": [ASK, {**ANSWER, "content": " \n"}]}, "empty", "no visible"),
        (MESSAGES, {"messages": "hello"}, "malformed", "messages is text, a list of messages"),
        (MESSAGES, {"messages": None}, "malformed", "'messages' is null"),
        (MESSAGES, {"prompt": "x"}, "malformed", "no column 'messages'; found 'prompt'"),
        (MESSAGES, {"messages": [3]}, "malformed", "messages[0] is a number, an object is needed"),
        (MESSAGES, {"messages": [{"content": "x"}]}, "malformed", "messages[0] has no role"),
        (MESSAGES, {"messages": [{"role": "user"}]}, "malformed", "messages[0] has no content"),
        (
            MESSAGES,
            {"messages": [{"role": "\x1b[31mjudge", "content": "x"}]},
            "malformed",
            "messages[0].role is '\\x1b[31mjudge'; known are system",
        ),
        (
            MESSAGES,
            {"messages": [ASK, {**ANSWER, "content": None}]},
            "malformed",
            "messages[1].content is null",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": 7}]},
            "malformed",
            "messages[0].content is a number, text is needed: 7",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "image", "url": "x"}]}]},
            "malformed",
            "messages[0].content[0] is a part of type 'image'; only text parts can be read",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": ["x"]}]},
            "malformed",
            "messages[0].content[0] is text, a content part is needed",
        ),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "malformed",
            "messages[0].content[0].text is null",
        ),
        (
            MESSAGES,
            {"messages": [{**ANSWER, "tool_calls": "now"}]},
            "malformed",
            "messages[0].tool_calls is text, a list of objects is needed",
        ),
        (
            MESSAGES,
            {"messages": [{**ANSWER, "thinking": 3}]},
            "malformed",
            "messages[0].thinking is a number",
        ),
        (MESSAGES, {**MESSAGES, "tools": "{"}, "malformed", "tools is no JSON"),
        (PAIR, {"prompt": "a"}, "no_response", "'response' is missing; found 'prompt'"),
        (PAIR, {"prompt": "a", "response": None}, "no_response", "'response' is null"),
        (PAIR, {"prompt": "a", "response": ""}, "empty", "no visible character"),
        (PAIR, {"prompt": "a", "response": ["b"]}, "malformed", "response[0] is text"),
        (PAIR, {"prompt": "a", "response": 4}, "malformed", "'response' is a number, text is"),
        (PAIR, {"prompt": None, "response": "b"}, "malformed", "'prompt' is null"),
        (PAIR, {"response": "b"}, "malformed", "no column 'prompt'; found 'response'"),
        (PAIR, {}, "malformed", "no column 'prompt'; found no columns"),
        ({"prompt": "a"}, {"prompt": "a"}, "no_response", "only a prompt ('prompt')"),
        ({"prompt": "a"}, {"prompt": 3}, "malformed", "'prompt' is a number"),
        ({"text": "a"}, {"text": None}, "malformed", "'text' is null"),
        ({"text": "a"}, {"text": "  "}, "empty", "the text holds no visible character"),
        (
            {"prompt": "a", "completion": "b"},
            {"prompt": "a", "completion": [ANSWER]},
            "malformed",
            "'prompt' is text and 'completion' is a list",
        ),
        (
            {"prompt": "a", "completion": "b"},
            {"prompt": [ASK], "completion": [ASK]},
            "no_response",
            "no turn is the assistant's",
        ),
        (
            {"chosen": "a", "rejected": "b"},
            {"chosen": "ab", "rejected": ["a"]},
            "malformed",
            "'chosen' is text and 'rejected' is a list",
        ),
        (
            {"chosen": "a", "rejected": "b"},
            {"prompt": "a", "chosen": "a", "rejected": ""},
            "empty",
            "rejected: the response holds no visible character",
        ),
        (
            {"chosen": "a", "rejected": "b"},
            {"chosen": None, "rejected": "b"},
            "no_response",
            "'chosen' is null",
        ),
        ({"chosen": "a", "rejected": "b"}, {"chosen": "a"}, "malformed", "no column 'rejected'"),
    ],
)
def test_a_record_that_cannot_be_scored_says_why(
    first: dict[str, object], record: dict[str, object], status: str, reason: str
) -> None:
    with pytest.raises(Unscorable) as caught:
        layout_of(first).samples(record)
    assert caught.value.problem.status == status
    assert reason in caught.value.problem.reason
    assert caught.value.problem.reason.isprintable()


def test_an_assistant_turn_of_only_a_tool_call_or_reasoning_is_a_response() -> None:
    for extra in ({"tool_calls": [{"name": "timer"}]}, {"reasoning_content": "Think."}):
        assert read({"messages": [ASK, {"role": "assistant", **extra}]})


def test_why_a_row_cannot_be_scored_survives_a_change_of_process() -> None:
    with pytest.raises(Unscorable) as caught:
        layout_of({"messages": []}).samples({"messages": []})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.problem, str(again)) == (caught.value.problem, str(caught.value))
