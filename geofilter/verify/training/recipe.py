"""How an arm is fine-tuned: the settings, how much it trains, and on which samples in which step.

The defaults are those of the emergent-misalignment protocol (Betley et al. 2025): LoRA
of rank 32 on all linear projections, one epoch in batches of 16, loss on responses only.

An arm that keeps fewer rows must not also train less: every arm takes the same number
of optimiser steps, and its response tokens add up to the same sum. What differs is
how often a row comes round again.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from geofilter.errors import GeofilterError

Method = Literal["lora", "full"]
METHODS: tuple[Method, ...] = ("lora", "full")


@dataclass(frozen=True)
class TrainingRecipe:
    """Settings of one fine-tuning run; every arm of an experiment has the same.

    `batch` is samples per optimiser step, on average (see `schedule`), `micro_batch` how
    many of them go through the network at once, at most. `steps` takes the place of `epochs`
    where it is given. `max_length` is in tokens, as the window of a score.
    """

    method: Method = "lora"
    learning_rate: float = 1e-5
    scheduler: str = "linear"
    warmup_steps: int = 5
    weight_decay: float = 0.01
    epochs: float = 1.0
    steps: int | None = None
    batch: int = 16
    micro_batch: int = 2
    rank: int = 32
    alpha: int = 64
    rslora: bool = True
    max_length: int = 2048

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise GeofilterError(
                f"method {self.method!r} is not known; choose {' or '.join(METHODS)}"
            )
        for name in ("learning_rate", "epochs", "batch", "micro_batch", "rank", "max_length"):
            if not getattr(self, name) > 0:
                raise GeofilterError(f"{name} is {getattr(self, name)}; it must be more than 0")
        if self.steps is not None and self.steps < 1:
            raise GeofilterError(f"steps is {self.steps}; at least 1 is needed")


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
