"""Exchanges: a question and its answer in one object, in the place of two turns."""

from collections.abc import Mapping
from typing import Any

_ASKED = ("human", "user", "query", "question", "prompt", "instruction", "input", "tool")
_ANSWERED = ("assistant", "gpt", "bot", "response", "answer", "output")


def exchange_names(message: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of the question and of the answer, where an object holds one of each."""
    asked = [name for name in _ASKED if message.get(name) is not None]
    answered = [name for name in _ANSWERED if message.get(name) is not None]
    return (asked[0], answered[0]) if len(asked) == len(answered) == 1 else None
