"""95 % intervals of shifts, measured over seeds and something else, by resampling both.

The pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1):
seeds and the other factor are resampled independently of each other. The same draws serve all arms,
so that differences between them are paired. What is the same in all cells is not covered: the data
set, the model, the judge. With few seeds intervals are too narrow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
LEVEL = 0.95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """A value with its interval; None where it is not defined or the draws do not bound it.

    `covers` says over what, such as `seeds and questions`, `questions` (with one seed only), or
    `seeds`; with one of each `answers`, of a rate, and `nothing`, of what is resampled, which
    then has no interval.
    """

    value: float | None
    low: float | None
    high: float | None
    covers: str


class DrawWeights(NamedTuple):
    """How often each seed and each of the others is drawn: (draws, seeds), (draws, others)."""

    seeds: Floats
    others: Floats


def draw_weights(seeds: int, others: int, draws: int, seed: int) -> DrawWeights:
    """Draw as many seeds, and as many of the others, as there are, with replacement."""
    random = np.random.default_rng(seed)
    sizes = (max(1, seeds), max(1, others))
    drawn = (random.multinomial(n, np.full(n, 1 / n), draws).astype(float) for n in sizes)
    return DrawWeights(*drawn)


def estimate(value: float, drawn: Floats, resampled: Sequence[str]) -> Statistic:
    """Percentile interval of the draws (draws,) in which the value is defined, which is not NaN."""
    covers = " and ".join(resampled) or "nothing"
    if not np.isfinite(value):
        return Statistic(None, None, None, covers)
    defined = drawn[~np.isnan(drawn)]
    if not resampled or not len(defined):
        return Statistic(value, None, None, covers)
    tail = (1 - LEVEL) / 2
    # Actual draws rather than means between two of them, of which one may be infinite.
    low = float(np.quantile(defined, tail, method="lower"))
    high = float(np.quantile(defined, 1 - tail, method="higher"))
    low_bound, high_bound = (b if np.isfinite(b) else None for b in (low, high))
    return Statistic(value, low_bound, high_bound, covers)
