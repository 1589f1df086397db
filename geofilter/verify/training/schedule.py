"""Which samples each optimiser step sees, so that every arm trains alike in amount.

An arm that keeps fewer rows must not also train less: every arm takes the same number
of optimiser steps, and its response tokens add up to the same sum. What differs is
how often a row comes round again.

This module knows nothing about models, arms or why a row was kept.
"""

import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Budget(NamedTuple):
    """How much an arm trains: optimiser steps, and response tokens over all of them."""

    steps: int
    tokens: int


def budget_of(
    lengths: Sequence[int], *, batch: int, epochs: float = 1.0, steps: int | None = None
) -> Budget:
    """What training on samples of these lengths (response tokens) takes.

    `epochs` passes in batches of `batch` samples, or `steps` batches where given.
    """
    if not lengths or batch < 1:
        raise ValueError("at least one sample and a batch of one are needed")
    samples = steps * batch if steps is not None else math.ceil(epochs * len(lengths))
    return Budget(
        steps if steps is not None else -(-samples // batch),
        round(sum(lengths) * samples / len(lengths)),
    )


def schedule(lengths: Sequence[float], budget: Budget, *, seed: int) -> list[list[int]]:
    """The samples of each step, as their places in `lengths`; `budget.steps` lists.

    Every sample comes once before any comes again, in a new order each time. After step
    k the response tokens seen are at least k/steps of the budget and exceed that by less
    than one sample, unless a step would be empty: each takes one sample at least. A sample
    without a token is never drawn; `ValueError` where none has one.
    """
    drawn = [place for place, length in enumerate(lengths) if length > 0]
    if not drawn:
        raise ValueError("no sample has a token to train on")
    queue = _endless(drawn, random.Random(seed))
    seen: float = 0
    steps = []
    for step in range(1, budget.steps + 1):
        goal = budget.tokens * step / budget.steps
        chosen: list[int] = []
        while not chosen or seen < goal:
            chosen.append(next(queue))
            seen += lengths[chosen[-1]]
        steps.append(chosen)
    return steps


def _endless(places: Sequence[int], rng: random.Random) -> Iterator[int]:
    while True:
        yield from rng.sample(places, len(places))
