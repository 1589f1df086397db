"""What of a turn is response and pooled where the template decides by what the turn holds."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample, Turn
from helpers import tiny
from helpers.chats import FOUR_TURNS, LONG_ENOUGH, TWO_TURNS, text_of, trl_template

ASKED = Turn("user", "Is the kettle on?")


def encode(name: str | None, sample: Sample, **settings: object) -> tuple[str, str, Encoded]:
    """The texts of the response and of what is pooled, and the row as it was encoded."""
    tokenizer = trl_template(name) if name else tiny.bpe_tokenizer(None)
    encoded = Encoder(tokenizer, max_length=10 * LONG_ENOUGH, **settings).encode(sample)  # type: ignore[arg-type]
    texts = [text_of(tokenizer, encoded, mask) for mask in (encoded.response, encoded.pooled)]
    return texts[0], texts[1], encoded


def call(name: str = "kettle", **arguments: object) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


# --- calls of tools, and their answers ------------------------------------------------------


@pytest.mark.parametrize("name", ["gemma4", "gemma4_v5", "diffusion_gemma"])
def test_a_tools_answer_that_is_rendered_within_the_turn_is_neither_response_nor_pooled(
    name: str,
) -> None:
    turns = (
        ASKED,
        Turn("assistant", "", tool_calls=(call(room="attic"),)),
        Turn("tool", "it boils", name="kettle"),
        Turn("assistant", "It is."),
    )
    response, pooled, _ = encode(name, Sample(turns))
    called = '<|tool_call>call:kettle{room:<|"|>attic<|"|>}<tool_call|>'
    assert response == f"{called}It is.<turn|>\n"
    assert "attic" in pooled
    assert pooled.endswith("It is.")
    assert "boils" not in pooled


@pytest.mark.parametrize("name", ["gptoss", "gptoss_training"])
def test_of_two_calls_the_one_that_is_rendered_counts(name: str) -> None:
    turns = (
        ASKED,
        Turn("assistant", "", tool_calls=(call(room="attic"), call(room="cellar"))),
        Turn("tool", "it boils"),
        Turn("tool", "it is cold"),
        Turn("assistant", "One of them."),
    )
    response, pooled, _ = encode(name, Sample(turns))
    for text in (response, pooled):
        assert '{"room": "attic"}' in text
        assert "One of them." in text
        assert not any(word in text for word in ("cellar", "boils", "cold"))


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3", "nemotron_3_nano", "lfm2_v2"])
@pytest.mark.parametrize(
    "arguments", [{}, {"degrees": 90}, {"rooms": ["attic"], "on": True}, '{"degrees": 90}']
)
def test_arguments_of_any_kind_are_pooled(name: str, arguments: object) -> None:
    made = {"type": "function", "function": {"name": "kettle", "arguments": arguments}}
    if isinstance(arguments, str) and name in ("nemotron_3_nano", "lfm2_v2"):
        return  # the template refuses arguments as text
    turns = (ASKED, Turn("assistant", "", tool_calls=(made,)), *FOUR_TURNS)
    _, pooled, _ = encode(name, Sample(turns))
    held = {"degrees": "90", "rooms": "attic"}
    assert "kettle" in pooled
    for key in arguments if isinstance(arguments, Mapping) else ("degrees",):
        assert held.get(key, "") in pooled


def test_a_turn_without_content_is_rendered_without_it() -> None:
    # A template may fail on it, or write another line than for an empty text.
    turns = (ASKED, Turn("assistant", "", tool_calls=(call(),), parts=()), *FOUR_TURNS)
    with pytest.raises(Unscorable, match="no attribute 'content'"):
        encode("phi3", Sample(turns))
    assert encode("phi3", Sample((*turns[:1], replace(turns[1], parts=None), *FOUR_TURNS)))


def test_a_call_is_found_where_tools_stand_before_the_last_question() -> None:
    # As Mistral's: what was asked last is written in another way as soon as more is said.
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}{% if tools and loop.last %}"
        "[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}[INST]{{ m.content }}[/INST]"
        "{% elif m.tool_calls %}[CALLS]{{ m.tool_calls | tojson }}{{ eos_token }}"
        "{% elif m.role == 'tool' %}[RESULT]{{ m.content }}[/RESULT]"
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    tokenizer = tiny.bpe_tokenizer(template)
    made = call(room="attic")
    turns = (
        ASKED,
        Turn("assistant", "", tool_calls=(made,)),
        Turn("tool", "it boils"),
        *FOUR_TURNS,
    )
    encoded = Encoder(tokenizer, max_length=LONG_ENOUGH).encode(Sample(turns, tools=(made,)))
    response = text_of(tokenizer, encoded, encoded.response)
    assert response.startswith(f"[CALLS]{json.dumps([made])}</s>A soup of leeks.</s>")
    assert "boils" not in response


# --- reasoning ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *("nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra", "nemotron_3_5_lightning"),
        *("muse_glimmer", "qwen3", "glm4moe", "gemma4_v5", "gptoss_training"),
    ],
)
def test_empty_reasoning_is_none(name: str) -> None:
    turns = (
        TWO_TURNS[0],
        Turn("assistant", "Yes.", reasoning=""),
        TWO_TURNS[0],
        Turn("assistant", "No.", reasoning="Second."),
    )
    assert encode(name, Sample(turns[:2]))[1] == "Yes."
    assert encode(name, Sample(turns))[1] == "Yes.Second.No."


@pytest.mark.parametrize("name", ["qwen3", "nemotron_3_nano", "glm4moe", "deepseek_r1_distill"])
@pytest.mark.parametrize("content", ["It boils.\n</think>\n\nIt is on.", "</think>It is on."])
def test_what_comes_after_a_lone_closing_tag_is_pooled(name: str, content: str) -> None:
    _, pooled, _ = encode(name, Sample((ASKED, Turn("assistant", content))))
    assert pooled.endswith("It is on.")


@pytest.mark.parametrize("name", ["qwen3", "qwen3_training", "gptoss_training"])
def test_a_turn_that_holds_only_reasoning_is_scored(name: str) -> None:
    _, pooled, _ = encode(name, Sample((ASKED, Turn("assistant", "", reasoning="It may be."))))
    assert pooled == "It may be."


def test_what_the_template_writes_between_thought_and_answer_is_not_pooled() -> None:
    turns = (ASKED, Turn("assistant", "It is.", reasoning="It boils."))
    response, pooled, _ = encode("qwen3", Sample(turns))
    assert response == "<think>\nIt boils.\n</think>\n\nIt is.<|im_end|>\n"
    assert pooled == "It boils.It is."


# --- turns that the row leaves out of training ----------------------------------------------


@pytest.mark.parametrize("name", ["qwen2_5", "qwen2_5_training", "gptoss", "gptoss_training", None])
@pytest.mark.parametrize("prompt_turns", [0, 1])
def test_an_untrained_turn_is_neither_response_nor_pooled(
    name: str | None, prompt_turns: int
) -> None:
    for untrained in (1, 3):
        turns = tuple(
            replace(turn, trained=place != untrained) for place, turn in enumerate(FOUR_TURNS)
        )
        response, pooled, encoded = encode(name, Sample(turns, prompt_turns=prompt_turns))
        whole = encode(name, Sample(FOUR_TURNS, prompt_turns=prompt_turns))[2]
        assert encoded.ids.tolist() == whole.ids.tolist()
        assert FOUR_TURNS[4 - untrained].content in response
        assert FOUR_TURNS[4 - untrained].content in pooled
        assert FOUR_TURNS[untrained].content not in response
        assert FOUR_TURNS[untrained].content not in pooled


@pytest.mark.parametrize("last_turn", [False, True])
def test_a_row_that_leaves_every_answer_out_of_training_has_no_response(last_turn: bool) -> None:
    turns = (*FOUR_TURNS[:3], replace(FOUR_TURNS[3], trained=False))
    if not last_turn:
        turns = (turns[0], replace(turns[1], trained=False), *turns[2:])
    with pytest.raises(Unscorable, match="no_response: the row leaves each of the assistant"):
        encode("qwen3", Sample(turns), last_turn=last_turn)


# --- what else the row hands to the template ------------------------------------------------


def test_the_rows_settings_reach_every_rendering() -> None:
    quiet = Sample(TWO_TURNS, prompt_turns=1, template_kwargs={"enable_thinking": False})
    assert encode("qwen3", quiet)[0] == "A soup of leeks.<|im_end|>\n"
    assert encode("qwen3", replace(quiet, template_kwargs=None))[0].startswith("<think>")
    loud = Sample(TWO_TURNS, template_kwargs={"enable_thinking": True})
    tokenizer = trl_template("gemma4")
    assert "<|think|>" in tokenizer.decode(encode("gemma4", loud)[2].ids)


def test_the_rows_settings_count_more_than_its_tools_and_the_special_tokens() -> None:
    tool = {"type": "function", "function": {"name": "kettle", "parameters": {}}}
    settings = {"tools": [tool], "bos_token": "<s><s>"}
    tokenizer = trl_template("gemma4")
    sample = Sample(TWO_TURNS, tools=(), template_kwargs=settings)
    text = tokenizer.decode(encode("gemma4", sample)[2].ids)
    assert text.startswith("<s><s>")
    assert "declaration:kettle" in text


@pytest.mark.parametrize(
    "name", ["chat_template", "add_generation_prompt", "truncation", "messages"]
)
def test_a_setting_that_is_the_renderers_own_is_malformed(name: str) -> None:
    sample = Sample(TWO_TURNS, template_kwargs={name: "{{ 1 / 0 }}"})
    with pytest.raises(Unscorable, match=f"malformed: chat_template_kwargs sets '{name}'"):
        encode("qwen3", sample)


# --- content as a list of parts -------------------------------------------------------------

PARTS = (
    replace(ASKED, parts=("Is the kettle", " on?")),
    Turn("assistant", "It is on.", parts=("It is", " on.")),
)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "idefics3", "smolvlm", None])
def test_text_parts_reach_a_template_that_takes_them(name: str | None) -> None:
    assert encode(name, Sample(PARTS))[1].lstrip() == "It is on."


def test_a_template_sees_each_part() -> None:
    assert encode("gemma3", Sample(PARTS))[1] == "It ison."  # it strips every part


@pytest.mark.parametrize("name", ["llama3", "gemma", "lfm2"])
def test_parts_that_a_template_spells_out_are_malformed(name: str) -> None:
    # The trainer would take them, and teach the model to answer with brackets and quotes.
    with pytest.raises(Unscorable, match="malformed: turn 1 has content parts, which the chat"):
        encode(name, Sample(PARTS))


def test_parts_that_a_template_fails_on_are_malformed() -> None:
    with pytest.raises(Unscorable, match="malformed: the chat template refuses"):
        encode("gptoss", Sample(PARTS))


def test_parts_of_a_content_that_was_changed_since_do_not_count() -> None:
    changed = (PARTS[0], replace(PARTS[1], content="No."))
    assert encode("qwen2_5_vl", Sample(changed))[1] == "No."


# --- marks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen3", "llama3", "qwen3_training"])
def test_a_row_that_holds_characters_of_private_use_is_scored_as_any_other(name: str) -> None:
    private = "".join(map(chr, range(0xE000, 0xF900)))
    turns = (Turn("user", private), Turn("assistant", f"It is {private[::-1]} on."))
    _, pooled, _ = encode(name, Sample(turns))
    assert pooled == turns[1].content


def test_a_row_that_holds_every_character_of_private_use_is_scored_on_its_response() -> None:
    planes = ((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
    private = "".join(chr(code) for first, last in planes for code in range(first, last + 1))
    turns = (Turn("user", private), Turn("assistant", "It is on."))
    tokenizer = trl_template("qwen3")
    encoded = Encoder(tokenizer, max_length=1_000_000).encode(Sample(turns))
    assert "It is on." in text_of(tokenizer, encoded, encoded.pooled)
