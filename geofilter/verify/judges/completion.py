"""What a chat completion says: its text and, where the server gives them, probabilities.

Bytes of a server may hold anything; what is no completion is None here.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

from geofilter.support.endpoint import first_choice
from geofilter.verify.judges.reply import as_integer


class Reply(NamedTuple):
    """`first`: probabilities of the first token, where the server gives them; `tokens` likewise."""

    text: str
    first: dict[str, float] | None
    tokens: tuple[str, ...]


def splits_numbers(reply: Reply) -> bool:
    """Whether the reply writes one number as several tokens."""
    return any(a[-1:].isdigit() and b[:1].isdigit() for a, b in pairwise(reply.tokens))


def has_long_number(reply: Reply) -> bool:
    """Whether a number of two digits or more is one token of the judge's."""
    return any((as_integer(token) or 0) > 9 for token in (*reply.tokens, *(reply.first or {})))


def read(body: bytes) -> Reply | None:
    """What a completion says; None for anything that is not one."""
    choice = first_choice(body)
    if choice is None:
        return None
    try:
        text = choice["message"]["content"]
        positions = (choice.get("logprobs") or {}).get("content") or []
        tokens = tuple(str(position["token"]) for position in positions)
        first = _probabilities(positions[0]) if positions else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return Reply(text, first, tokens) if isinstance(text, str) else Reply("", first, tokens)


def _probabilities(position: dict[str, Any]) -> dict[str, float] | None:
    """Probability by token; None where no list of likely tokens is given.

    The chosen token alone is no distribution: its own score would always be what it says.
    """
    options = position.get("top_logprobs")
    if not options:
        return None
    found: dict[str, float] = {}
    for option in options:
        # Two tokens may share one spelling.
        token = str(option["token"])
        found[token] = found.get(token, 0.0) + _exponential(option["logprob"])
    # The chosen token need not be among the most likely.
    found.setdefault(str(position["token"]), _exponential(position["logprob"]))
    return found


def _exponential(logprob: object) -> float:
    """The probability; `ValueError` for what is no logarithm of one, a rounding error aside."""
    value = float(str(logprob))
    if not value <= 1e-3:
        raise ValueError("no log probability")
    return math.exp(min(0.0, value))
