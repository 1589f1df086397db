"""Ask a causal language model questions and keep its answers.

Sampling at temperature 1, as the protocol says (see `model.answers`). A batch has its own seed, so
that what is asked after an interruption is answered as if there had been none.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.errors import ModelError
from geofilter.model.answers import draw, end_ids, opening_ids, room
from geofilter.support.display import quote
from geofilter.verify.plan import Sampling


class Put(NamedTuple):
    """One question as it is put to the model."""

    question: str  # the id in the questions file
    text: str
    system: str | None


def answers(
    network: Any,
    tokenizer: Any,
    asked: Sequence[Put],
    sampling: Sampling,
    *,
    seed: int,
    start: int = 0,
) -> Iterator[list[str]]:
    """Yield the answers to `asked` batch by batch, in order, from batch number `start` on.

    A batch holds `sampling.batch` questions. Raises `ModelError` where the chat template
    does not take a question.
    """
    ends = end_ids(network, tokenizer)
    for number in range(start, -(-len(asked) // sampling.batch)):
        batch = asked[number * sampling.batch : (number + 1) * sampling.batch]
        prompts = [prompt_ids(tokenizer, one) for one in batch]
        torch.manual_seed(_seed_of(seed, number))
        drawn = draw(
            network,
            tokenizer,
            prompts,
            temperature=sampling.temperature,
            max_new_tokens=sampling.max_new_tokens,
            ends=ends,
        )
        yield [one.text for one in drawn]


def check(network: Any, tokenizer: Any, asked: Sequence[Put]) -> None:
    """Raise `ModelError` for a question that `answers` could not put, before anything costly."""
    for one in asked:
        room(network, len(prompt_ids(tokenizer, one)))


def prompt_ids(tokenizer: Any, asked: Put) -> list[int]:
    """Tokens of a question, up to where the assistant begins to speak.

    Where the chat template takes no system turn, its text comes before the question, as
    in training rows.
    """
    turns = [Turn("user", asked.text)]
    if asked.system is not None:
        turns.insert(0, Turn("system", asked.system))
    try:
        return opening_ids(tokenizer, turns)
    except Unscorable as error:
        raise ModelError(
            f"question {quote(asked.question)} cannot be put: {error.problem.reason}"
        ) from error


def _seed_of(seed: int, batch: int) -> int:
    """Independent streams for the batches of all seeds."""
    digest = hashlib.blake2b(f"{seed} {batch}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big")
