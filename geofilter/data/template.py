"""A conversation as one text.

Two templates render turns: the tokenizer's own chat template, and, for a
tokenizer that has none, a plain one:

    System: be brief\\n\\nUser: hello\\n\\nAssistant: good morning<eos>

(`Tool: ...` for a tool's answer; reasoning stands before the content, tool calls
follow it as JSON; the end-of-sequence token closes each assistant turn.)

Where a template prints today's date, a fixed one is printed, so that scores do
not depend on the day.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from geofilter.data.problems import Unscorable, malformed
from geofilter.data.samples import Turn
from geofilter.errors import ModelError
from geofilter.support.display import escape, quote

Tools = tuple[dict[str, object], ...] | None

_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
# `+%}` keeps a newline with which the template itself may begin.
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}"
    "{{- {'%Y-%m-%d': '2025-01-01'}.get(format, '01 Jan 2025') -}}"
    "{%- endmacro +%}"
)
# Arguments of transformers' `apply_chat_template` that are no variables of a template. A template
# in a row would be foreign code for each row.
_RENDERERS_OWN = frozenset(
    (
        *("add_generation_prompt", "chat_template", "continue_final_message", "conversation"),
        *("max_length", "padding", "return_assistant_tokens_mask", "return_dict"),
        *("return_tensors", "sanitize_control_tokens", "tokenize", "tokenizer_kwargs"),
        *("truncation", "conversations", "messages", "self"),
    )
)
# A frame for reasoning that a template opens, or leaves empty, when it asks for a response.
_FRAME = re.compile(r"<\|?[a-z:]*think(?:ing)?\|?>\s*(?:</[a-z:]*think(?:ing)?>\s*)?\Z")
_PROBE = (Turn("user", "a question"), Turn("assistant", "an answer"))


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of a rendered conversation."""

    start: int
    end: int


class Rendering(NamedTuple):
    """`generated`: what stands between the template's own generation markers, if it has them."""

    text: str
    generated: tuple[Span, ...] | None


class Template(Protocol):
    """Renders turns.

    `adds_special_tokens`: whether the tokenizer still has to add BOS itself. `closers`: tokens that
    may close a turn. `header` and `closing`: what is written to ask for a response to a question,
    and after an answer to it, if that is all there is.
    """

    adds_special_tokens: bool
    closers: tuple[str, ...]
    header: str
    closing: str

    def render(
        self,
        turns: Sequence[Turn],
        tools: Tools,
        settings: Mapping[str, object] | None = None,
        *,
        ask: bool = False,
    ) -> Rendering:
        """Render; `ask` appends the header of a response. Raises `Unscorable` (malformed).

        `settings` are the row's own for the template (`Sample.template_kwargs`).
        """
        ...


class ChatTemplate:
    """The tokenizer's own template, rendered as transformers renders it."""

    adds_special_tokens = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        special = {token.content for token in tokenizer.added_tokens_decoder.values()}
        self.closers = tuple(sorted(special, key=lambda text: (-len(text), text)))
        problem = "it leaves out their content"
        # Templates of models that see pictures may take a content in parts only.
        for probe in (_PROBE, tuple(replace(turn, parts=(turn.content,)) for turn in _PROBE)):
            try:
                text = self.render(probe, None).text
            except Unscorable as error:
                text, problem = "", error.problem.reason
            if all(turn.content in text for turn in probe):
                self.header = self._header(probe)
                self.closing = text.rpartition(_PROBE[1].content)[2]
                return
        raise ModelError(
            f"the chat template of {quote(tokenizer.name_or_path)} cannot render a user and "
            f"an assistant turn ({problem}); give a tokenizer whose template takes messages "
            "of text"
        )

    def _header(self, probe: Sequence[Turn]) -> str:
        question = probe[:1]
        try:
            before, asked = (self.render(question, None, ask=ask).text for ask in (False, True))
        except Unscorable:
            return ""
        return without_frame(asked[len(before) :]) if asked.startswith(before) else ""

    def render(
        self,
        turns: Sequence[Turn],
        tools: Tools,
        settings: Mapping[str, object] | None = None,
        *,
        ask: bool = False,
    ) -> Rendering:
        given: dict[str, object] = {"tools": None if tools is None else list(tools)}
        given |= self._tokenizer.special_tokens_map
        # As the trainer does it: what the row sets counts more than special tokens and tools.
        given |= _allowed(settings or {})
        # The annotations of transformers say `str` for what is a pair of lists.
        render: Any = render_jinja_template
        choose: Any = self._tokenizer.get_chat_template
        try:
            template = choose(None, given["tools"])
            prepared, marked = _prepared(template)
            texts, generated = render(
                conversations=[[_message(turn) for turn in turns]],
                chat_template=prepared,
                return_assistant_tokens_mask=marked,
                add_generation_prompt=ask,
                **given,
            )
        except MemoryError:
            raise
        except Exception as error:
            # A template is foreign code: what it raises depends on what it does with the row.
            reason = f"{type(error).__name__}: {escape(str(error), limit=120)}"
            raise malformed(f"the chat template refuses this conversation ({reason})") from error
        _refuse_raw_parts(texts[0], turns)
        spans = tuple(Span(*place) for place in generated[0]) if marked else None
        return Rendering(texts[0], spans)


class PlainTemplate:
    """The template of this package, for a tokenizer without one; see the module's page."""

    adds_special_tokens = True

    def __init__(self, eos: str) -> None:
        self._eos = eos
        self.header, self.closing = "\n\nAssistant: ", eos
        self.closers: tuple[str, ...] = (eos,) if eos else ()

    def render(
        self,
        turns: Sequence[Turn],
        tools: Tools,
        settings: Mapping[str, object] | None = None,
        *,
        ask: bool = False,
    ) -> Rendering:
        parts = [f"{turn.role.capitalize()}: {self._body(turn)}" for turn in turns]
        if tools:
            parts.insert(0, f"Tools: {_json(tools)}")
        return Rendering("\n\n".join([*parts, "Assistant: "] if ask else parts), None)

    def _body(self, turn: Turn) -> str:
        calls = _json(turn.tool_calls) if turn.tool_calls else ""
        body = "\n\n".join(filter(None, (turn.reasoning, turn.content, calls)))
        return body + (self._eos if turn.role == "assistant" else "")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


@lru_cache(maxsize=8)
def _prepared(template: str) -> tuple[str, bool]:
    """The template with a fixed date, and whether it has generation markers."""
    dated = _FIXED_DATE + template if "strftime_now" in template else template
    return dated, _MARKERS.search(template) is not None


def _allowed(settings: Mapping[str, object]) -> Mapping[str, object]:
    """The row's settings; raises for those that are no template's but the renderer's own."""
    for name in settings:
        if name in _RENDERERS_OWN:
            raise malformed(
                f"chat_template_kwargs sets {quote(name)}, which decides how a trainer renders all "
                "rows and is not read from one; leave it out"
            )
    return settings


def _refuse_raw_parts(text: str, turns: Sequence[Turn]) -> None:
    """Raise for a template of strings, which writes content parts as Python or JSON spells them.

    A trainer would take that, and teach the model to answer with brackets and quotes.
    """
    for place, turn in enumerate(turns):
        for part in given_parts(turn) or ():
            given = {"type": "text", "text": part}
            if str(given) in text or _json(given) in text:
                raise malformed(
                    f"turn {place + 1} has content parts, which the chat template writes as they "
                    f"are spelled ({quote(str(given))}); give its content as one string"
                )


def without_frame(asked: str) -> str:
    """A text that asks for a response, without a frame for reasoning at its end.

    TRL's training templates count the frame as a part of the response.
    """
    return _FRAME.sub("", asked)


def given_parts(turn: Turn) -> tuple[str, ...] | None:
    """The turn's `parts`; None where its content is one string, or was changed since."""
    parts = turn.parts
    return parts if parts is not None and "".join(parts) == turn.content else None


def _message(turn: Turn) -> dict[str, object]:
    """The message as the trainer hands it to the template: a key that the row lacks is left out."""
    parts = given_parts(turn)
    message: dict[str, object] = {"role": turn.role, "content": turn.content}
    if parts:
        message["content"] = [{"type": "text", "text": text} for text in parts]
    elif parts is not None:
        del message["content"]
    optional = {
        # transformers gives a template that reads `thinking` the same.
        "reasoning_content": turn.reasoning,
        "tool_calls": None if turn.tool_calls is None else list(turn.tool_calls),
        "name": turn.name,
        "tool_call_id": turn.tool_call_id,
    }
    return message | {key: value for key, value in optional.items() if value is not None}
