"""A conversation as one text, and the places in it that a trainer would learn from.

Two templates render turns: the tokenizer's own chat template, and, for a
tokenizer that has none, a plain one:

    System: be brief\\n\\nUser: hello\\n\\nAssistant: good morning<eos>

(`Tool: ...` for a tool's answer; reasoning stands before the content, tool calls
follow it as JSON; the end-of-sequence token closes each assistant turn.)

Places are found without reading the rendered text, since a row may hold text
that looks like a template. A turn's own text is what changes when the turn is
replaced by a character that occurs nowhere else; its header is what the template
writes to ask for a response; its closing is what the template writes after it.
So a header within a content is never taken for one.

Where a template prints today's date, a fixed one is printed, so that scores do
not depend on the day.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from geofilter.data.problems import Unscorable, malformed
from geofilter.data.samples import Turn
from geofilter.errors import ModelError
from geofilter.support.display import escape, quote

Tools = tuple[dict[str, object], ...] | None

_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
_CLOSED_REASONING = "</think>"
# `+%}` keeps a newline with which the template itself may begin.
_FIXED_DATE = (
    "{%- macro strftime_now(format) -%}"
    "{{- {'%Y-%m-%d': '2025-01-01'}.get(format, '01 Jan 2025') -}}"
    "{%- endmacro +%}"
)
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
    """Renders turns. `adds_special_tokens`: whether the tokenizer still has to add BOS itself."""

    adds_special_tokens: bool
    closers: tuple[str, ...]

    def render(self, turns: Sequence[Turn], tools: Tools, *, ask: bool = False) -> Rendering:
        """Render; `ask` appends the header of a response. Raises `Unscorable` (malformed)."""
        ...


class ChatTemplate:
    """The tokenizer's own template, rendered as transformers renders it."""

    adds_special_tokens = False

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        special = {token.content for token in tokenizer.added_tokens_decoder.values()}
        self.closers = tuple(sorted(special, key=lambda text: (-len(text), text)))
        try:
            text = self.render(_PROBE, None).text
            problem = "it leaves out their content"
        except Unscorable as error:
            text, problem = "", error.problem.reason
        if not all(turn.content in text for turn in _PROBE):
            raise ModelError(
                f"the chat template of {quote(tokenizer.name_or_path)} cannot render a user and "
                f"an assistant turn ({problem}); give a tokenizer whose template takes messages "
                "of text"
            )

    def render(self, turns: Sequence[Turn], tools: Tools, *, ask: bool = False) -> Rendering:
        given = None if tools is None else list(tools)
        # The annotations of transformers say `str` for what is a pair of lists.
        render: Any = render_jinja_template
        try:
            template = self._tokenizer.get_chat_template(None, given)
            marked = _MARKERS.search(template) is not None
            texts, generated = render(
                conversations=[[_message(turn) for turn in turns]],
                tools=given,
                chat_template=_FIXED_DATE + template if "strftime_now" in template else template,
                return_assistant_tokens_mask=marked,
                add_generation_prompt=ask,
                **self._tokenizer.special_tokens_map,
            )
        except MemoryError:
            raise
        except Exception as error:
            # A template is foreign code: what it raises depends on what it does with the row.
            reason = f"{type(error).__name__}: {escape(str(error), limit=120)}"
            raise malformed(f"the chat template refuses this conversation ({reason})") from error
        spans = tuple(Span(*place) for place in generated[0]) if marked else None
        return Rendering(texts[0], spans)


class PlainTemplate:
    """The template of this package, for a tokenizer without one; see the module's page."""

    adds_special_tokens = True

    def __init__(self, eos: str) -> None:
        self._eos = eos
        self.closers: tuple[str, ...] = (eos,) if eos else ()

    def render(self, turns: Sequence[Turn], tools: Tools, *, ask: bool = False) -> Rendering:
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


def _message(turn: Turn) -> dict[str, object]:
    message: dict[str, object] = {"role": turn.role, "content": turn.content}
    optional = {
        "reasoning_content": turn.reasoning,
        "tool_calls": None if turn.tool_calls is None else list(turn.tool_calls),
        "name": turn.name,
        "tool_call_id": turn.tool_call_id,
    }
    return message | {key: value for key, value in optional.items() if value is not None}


def _with_argument(call: dict[str, object], value: str) -> dict[str, object]:
    """The call with one argument instead of its own, written as the row writes them."""
    arguments: dict[str, object] = {"argument": value}
    inner = call.get("function")
    if isinstance(inner, dict):
        return {**call, "function": _with_argument(inner, value)}
    as_text = isinstance(call.get("arguments"), str)
    return {**call, "arguments": _json(arguments) if as_text else arguments}


def _absent_character(text: str) -> str | None:
    """A character that the text does not hold, from those that no template treats in a special way.

    Private use; the last planes too, for a text that was made to hold all of the first.
    """
    for first, last in ((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)):
        for code in range(first, last + 1):
            if chr(code) not in text:
                return chr(code)
    return None


class Conversation:
    """Rendered turns, and where each of them stands.

    Raises `Unscorable` (malformed) when the template refuses the turns. A system
    turn that the template refuses (Gemma's does) is put before the first user
    turn's text, an empty line between; `folded` then is 1, the turns are one less.
    """

    def __init__(self, template: Template, turns: Sequence[Turn], tools: Tools) -> None:
        self._template = template
        self._tools = tools
        self.turns = tuple(turns)
        self.folded = 0
        try:
            self.full = template.render(self.turns, tools)
        except Unscorable:
            folded = _fold_system(self.turns)
            if folded is None:
                raise
            with suppress(Unscorable):
                self.full = template.render(folded, tools)
                self.turns, self.folded = folded, 1
            if not self.folded:
                raise  # the first refusal, which is about the row as it is
        self._mark = _absent_character(self.full.text)

    def prompt(self, count: int) -> str | None:
        """The first `count` turns and the header of a response; None where they are refused."""
        return self._rendered(self.turns[:count], ask=True)

    def own(self, index: int) -> Span | None:
        """The characters that the turn itself holds, its reasoning and tool calls included.

        None where they cannot be found: the template refuses the conversation
        without the turn's tool calls, or writes other turns in another way then.
        """
        if self._mark is None:
            return None
        # A template that takes reasoning out of the content must find some in the mark too.
        framed = f"<think>{self._mark}{_CLOSED_REASONING}{self._mark}"
        reasons = _CLOSED_REASONING in self.turns[index].content
        contents = (self._mark, framed) if reasons else (self._mark,)
        spans = (self._changed(index, content, self._mark) for content in contents)
        return next((span for span in spans if span is not None), None)

    def _changed(self, index: int, content: str, mark: str) -> Span | None:
        """What changes when the turn says `content`, which holds the mark."""
        turns = list(self.turns)
        turns[index] = self._replaced(index, content)
        text = self._rendered(turns)
        if text is None or mark not in text:
            return None
        start, rest = text.index(mark), text[text.rindex(mark) + 1 :]
        span = Span(start, len(self.full.text) - len(rest))
        same = self.full.text.startswith(text[:start]) and self.full.text.endswith(rest)
        return span if same and span.start <= span.end else None

    def trained(self, index: int, own: Span | None) -> Span | None:
        """The turn from the end of its header to the end of its closing.

        This is where TRL's training templates put their markers. `own` is the
        turn's own text as `own(index)` gives it. None where it cannot be found.
        """
        start, end = self._start(index, own), self._end(index, own)
        return None if start is None or end is None or end < start else Span(start, end)

    def _start(self, index: int, own: Span | None) -> int | None:
        # A template may refuse to ask for a response to nothing, or write only the header then.
        head = self.prompt(index) if index else None
        if head is not None and self.full.text.startswith(head):
            # A content may begin with the end of the header.
            return len(head) if own is None else min(len(head), own.start)
        return None if own is None else own.start

    def _end(self, index: int, own: Span | None) -> int | None:
        text = self.full.text
        if index == len(self.turns) - 1:
            return len(text)
        if own is None:
            return self._end_of_calls(index)
        closing = self._closing(index)
        if closing is None or not text.startswith(closing, own.end):
            closing = self._other_closing(own.end, closing or "")
        return own.end + len(closing)

    def _end_of_calls(self, index: int) -> int | None:
        """The end of a turn whose tool calls the template insists on.

        Found with the mark as the last call's only argument, once with all turns
        and once with this one as the last: the closing is what both have after it.
        """
        mark = self._mark
        calls = self.turns[index].tool_calls
        if mark is None or not calls:
            return None
        turn = replace(self.turns[index], tool_calls=(*calls[:-1], _with_argument(calls[-1], mark)))
        whole = self._rendered([*self.turns[:index], turn, *self.turns[index + 1 :]])
        alone = self._rendered([*self.turns[:index], turn])
        if whole is None or alone is None or mark not in whole or mark not in alone:
            return None
        rest, closing = (text[text.rindex(mark) + 1 :] for text in (whole, alone))
        # The argument's own quote stands first, which a number does not have.
        same = self.full.text.endswith(rest.removeprefix('"'))
        return (
            len(self.full.text) - len(rest) + len(closing)
            if same and rest.startswith(closing)
            else None
        )

    def _other_closing(self, place: int, last: str) -> str:
        """The closing at `place`, of a template that closes the last turn in another way (`last`).

        The special token that stands there, and the line end that both have after it.
        """
        text, closers = self.full.text, self._template.closers
        token = next((token for token in closers if text.startswith(token, place)), "")
        rest = last[len(token) :] if last.startswith(token) else ""
        blank = rest[: len(rest) - len(rest.lstrip())]
        return token + blank if text.startswith(token + blank, place) else token

    def _closing(self, index: int) -> str | None:
        """What the template writes after the turn, were it the last one."""
        mark = self._mark or ""
        text = self._rendered([*self.turns[:index], self._replaced(index, mark)])
        return text[text.rindex(mark) + 1 :] if text is not None and mark in text else None

    def _replaced(self, index: int, content: str) -> Turn:
        turn = self.turns[index]
        reasoning = None if turn.reasoning is None else self._mark
        return replace(turn, content=content, reasoning=reasoning, tool_calls=None)

    def _rendered(self, turns: Sequence[Turn], *, ask: bool = False) -> str | None:
        try:
            return self._template.render(turns, self._tools, ask=ask).text
        except Unscorable:
            return None


def _fold_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...] | None:
    if len(turns) < 2 or turns[0].role not in ("system", "developer") or turns[1].role != "user":
        return None
    user = replace(turns[1], content=f"{turns[0].content}\n\n{turns[1].content}")
    return (user, *turns[2:])
