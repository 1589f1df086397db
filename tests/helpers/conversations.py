"""Rows as people train on: conversations with all that chat templates treat in their own way.

The same seed gives the same rows. What the user, the system and tools say holds a word of their
own, `ASKED` and `FOUND`, that no answer holds.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

ASKED, FOUND = "wombat", "quokka"
_SENTENCE = (
    "a good soup of leeks and potatoes for the cold evening please answer briefly hello there "
    "I would walk home have some tea call a friend 東京 café naïve system user assistant model "
    'tool think final <b>bold</b> {x} 7 1.5 "so" it\'s'
)
_WORDS = tuple(_SENTENCE.split())
_PLACES = ("Emden", "Norden", "the old mill", "東京")
_TOOL_NAMES = ("tide", "kettle", "find_book")


@dataclass(frozen=True)
class Row:
    """`columns`: the row as a trainer reads it. `kinds`: what is special about it, by name."""

    columns: dict[str, Any]
    kinds: frozenset[str]


def rows(count: int, seed: int = 0) -> Iterator[Row]:
    """`count` rows, each kind of conversation among any fifty of them."""
    for place in range(count):
        yield _Writer(random.Random(f"{seed} {place}")).row()


class _Writer:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._kinds: set[str] = set()

    def _maybe(self, share: float, kind: str | None = None) -> bool:
        said = self._rng.random() < share
        if said and kind is not None:
            self._kinds.add(kind)
        return said

    def row(self) -> Row:
        rng = self._rng
        with_tools = self._maybe(0.35)
        columns: dict[str, Any] = {}
        messages: list[Message] = []
        if self._maybe(0.35, "system"):
            messages.append({"role": "system", "content": self._text(ASKED)})
        if self._maybe(0.08, "assistant begins"):
            messages.append(self._answer(with_tools=False))
        pairs = rng.choice((1, 1, 1, 2, 2, 3))
        for _ in range(pairs):
            messages.append({"role": "user", "content": self._text(ASKED)})
            messages += self._answers(with_tools)
        if pairs > 1:
            self._kinds.add("several turns")
        if self._maybe(0.05, "user ends"):
            messages.append({"role": "user", "content": self._text(ASKED)})
        if self._maybe(0.08, "parts"):
            messages = [self._in_parts(message) for message in messages]
        if with_tools and self._maybe(0.8, "tools"):
            columns["tools"] = [self._tool(name) for name in _TOOL_NAMES[: rng.choice((1, 2, 3))]]
        elif self._maybe(0.15, "no tools"):
            columns["tools"] = []
        if self._maybe(0.2, "settings"):
            columns["chat_template_kwargs"] = self._settings()
        last = max(place for place, message in enumerate(messages) if message["role"] == "user")
        if last > 0 and "user ends" in self._kinds:
            last = 0
        if last and self._maybe(0.25, "prompt"):
            columns |= {"prompt": messages[: last + 1], "completion": messages[last + 1 :]}
        else:
            columns["messages"] = messages
        return Row(columns, frozenset(self._kinds))

    def _text(self, own: str = "") -> str:
        rng = self._rng
        text = " ".join([*rng.choices(_WORDS, k=rng.randint(1, 8)), *[own] * bool(own)])
        if self._maybe(0.06):
            text = rng.choice(("\n\n", " ", "  \n")) + text
        if self._maybe(0.06):
            text += rng.choice(("\n\n", " ", "\n"))
        return text

    def _answers(self, with_tools: bool) -> list[Message]:
        rng = self._rng
        if not (with_tools and self._maybe(0.8)):
            answers = [self._answer(with_tools=False)]
            if self._maybe(0.06, "assistant twice"):
                answers.append(self._answer(with_tools=False))
            return answers
        messages: list[Message] = []
        for _ in range(rng.choice((1, 1, 2))):
            call = self._answer(with_tools=True)
            messages.append(call)
            for asked in call["tool_calls"]:
                if self._maybe(0.05, "no tool answer"):
                    continue
                messages.append(self._tool_answer(asked))
        if not self._maybe(0.1, "tool answer ends"):
            messages.append(self._answer(with_tools=False))
        return messages

    def _answer(self, *, with_tools: bool) -> Message:
        rng = self._rng
        message: Message = {"role": "assistant", "content": self._text()}
        if self._maybe(0.3, "reasoning"):
            name = rng.choice(("reasoning_content", "reasoning_content", "thinking", "reasoning"))
            message[name] = "" if self._maybe(0.25, "empty reasoning") else self._text()
        elif self._maybe(0.06, "think tags"):
            message["content"] = f"<think>\n{self._text()}\n</think>\n\n{message['content']}"
        elif self._maybe(0.06, "lone closing tag"):
            message["content"] = f"{self._text()}\n</think>\n\n{message['content']}"
        if with_tools:
            calls = 2 if self._maybe(0.25, "two calls") else 1
            self._kinds.add("calls")
            message["tool_calls"] = [self._call() for _ in range(calls)]
            if self._maybe(0.6):
                message["content"] = "" if self._maybe(0.5) else None
                if message["content"] is None:
                    self._kinds.add("null content")
        elif self._maybe(0.04, "empty turn"):
            message["content"] = ""
        if self._maybe(0.03, "empty calls") and not with_tools:
            message["tool_calls"] = []
        if self._maybe(0.08, "weight"):
            message["weight"] = 0
        return message

    def _call(self) -> dict[str, Any]:
        rng = self._rng
        arguments: Any = {"place": rng.choice(_PLACES)}
        if self._maybe(0.3):
            arguments |= {"hour": rng.randint(0, 23), "deep": {"list": [1, "two"], "yes": True}}
        if self._maybe(0.15, "no arguments"):
            arguments = {}
        if self._maybe(0.15, "arguments as text"):
            arguments = json.dumps(arguments, ensure_ascii=False)
        call: dict[str, Any] = {"name": rng.choice(_TOOL_NAMES), "arguments": arguments}
        if self._maybe(0.05, "arguments left out"):
            del call["arguments"]
        wrapped = {"type": "function", "function": call}
        if self._maybe(0.3):
            wrapped["id"] = f"call_{rng.randint(0, 9)}"
        return call if self._maybe(0.05, "bare call") else wrapped

    def _tool_answer(self, call: dict[str, Any]) -> Message:
        content = json.dumps({FOUND: 3}) if self._maybe(0.3) else self._text(FOUND)
        message = {"role": "tool", "content": content}
        if self._maybe(0.6):
            message["name"] = call.get("function", call)["name"]
        if "id" in call:
            message["tool_call_id"] = call["id"]
        return message

    def _tool(self, name: str) -> dict[str, Any]:
        place = {"type": "string", "description": "Which."}
        return {
            "type": "function",
            "function": {
                "name": name,
                "description": f"Asks for a {name}.",
                "parameters": {
                    "type": "object",
                    "properties": {"place": place},
                    "required": ["place"],
                },
            },
        }

    def _in_parts(self, message: Message) -> Message:
        content = message["content"]
        if not isinstance(content, str) or self._maybe(0.2):
            return message
        texts = [content[:9], content[9:]] if self._maybe(0.3) and content[9:] else [content]
        return message | {"content": [{"type": "text", "text": text} for text in texts]}

    def _settings(self) -> dict[str, Any]:
        rng = self._rng
        choices: tuple[tuple[str, Any], ...] = (
            ("enable_thinking", True),
            ("enable_thinking", False),
            ("thinking", True),
            ("preserve_thinking", True),
            ("keep_past_thinking", True),
            ("clear_thinking", False),
            ("reasoning_effort", "high"),
            ("bos_token", "<s>"),
            ("truncate_history_thinking", False),
            ("add_vision_id", True),
        )
        return dict(rng.sample(choices, k=rng.choice((1, 1, 2))))
