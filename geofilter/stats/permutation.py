"""Tests by permutation, and their correction for the number of tests.

Small sets are tested exactly, as `scipy.stats.permutation_test` does it. For others that
draws otherwise, and the published p-values would change; nor has scipy Holm's correction.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofilter.stats.correlation import mean_ranks

Floats64 = NDArray[np.float64]

PERMUTATIONS = 20_000
_AT_ONCE = 1000  # permutations in memory


def greater_mean_p(
    above: ArrayLike, below: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """One-sided p of mean(above) − mean(below) under exchange of the two labels; small = greater.

    (1 + #{as great}) / (1 + N) over N random exchanges (Phipson and Smyth 2010), or over all
    other exchanges, and so exact, where there are no more than `permutations` of them.
    """
    first = np.asarray(above, np.float64)
    both = np.concatenate([first, np.asarray(below, np.float64)])
    both -= both.mean()
    # The total stays, so that the difference of means grows with the sum of the first.
    observed = both[: len(first)].sum()
    sums = _sums_under_exchange(both, len(first), permutations, seed)
    as_great = (sums >= observed - 1e-9 * np.abs(both).sum()).sum()
    return float((1 + as_great) / (1 + len(sums)))


def _sums_under_exchange(both: Floats64, n: int, permutations: int, seed: int) -> Floats64:
    """The sum of the `n` that bear the first label, after each exchange."""
    if math.comb(len(both), n) - 1 <= permutations:
        exchanges = _all_but_the_first(itertools.combinations(range(len(both)), n), n)
        exact: Floats64 = both[exchanges].sum(axis=1)
        return exact
    generator = np.random.default_rng(seed)
    sums = [
        generator.permuted(np.tile(both, (min(_AT_ONCE, permutations - start), 1)), axis=1)[
            :, :n
        ].sum(axis=1)
        for start in range(0, permutations, _AT_ONCE)
    ]
    return np.concatenate(sums)


def _all_but_the_first(places: Iterable[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    """itertools gives things as they are first."""
    others = list(itertools.islice(places, 1, None))
    return np.array(others, np.int64).reshape(-1, width)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction, in the order of `p_values`; at most 1 each.

    Rejecting what lies at or below a level keeps the chance of one false rejection or more
    below that level, however the tests depend on each other.
    """
    corrected = [0.0] * len(p_values)
    greatest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = greatest
    return corrected


@dataclass(frozen=True)
class RankTrend:
    """How values go with their column, in ranks.

    `rho` in [-1, 1] is the mean over rows of Spearman's correlation of value and column;
    negative = they fall. The p-values are one-sided, by permutation of the columns for all
    rows together, and neither can fall below `smallest_p`.
    """

    rho: float
    p_falling: float
    p_rising: float
    smallest_p: float


def rank_trend(values: ArrayLike, permutations: int = PERMUTATIONS, seed: int = 0) -> RankTrend:
    """The trend of `values`, (rows, columns), over its columns.

    Rows are not taken for independent: what they share in a column moves with it. Over
    all orders of the columns, and so exact, where there are no more than `permutations`.
    """
    table = np.asarray(values, np.float64)
    columns = table.shape[1]
    # (columns,): mean over rows of each column's rank.
    heights = np.mean([_standard_ranks(row) for row in table], axis=0)
    order = _standard_ranks(np.arange(columns, dtype=np.float64))
    rho = float(heights @ order)
    others = heights[_other_orders(columns, permutations, seed)] @ order
    return RankTrend(
        rho=rho,
        p_falling=float((1 + (others <= rho + 1e-9).sum()) / (1 + len(others))),
        p_rising=float((1 + (others >= rho - 1e-9).sum()) / (1 + len(others))),
        smallest_p=1 / (1 + len(others)),
    )


def _standard_ranks(values: Floats64) -> Floats64:
    """Ranks of mean 0 and length 1, equal values sharing theirs; all 0 if all are equal."""
    ranks = mean_ranks(values)
    ranks -= ranks.mean()
    ranks /= np.linalg.norm(ranks) or 1.0
    return ranks


def _other_orders(n: int, permutations: int, seed: int) -> NDArray[np.int64]:
    if math.factorial(n) - 1 <= permutations:
        return _all_but_the_first(itertools.permutations(range(n)), n)
    generator = np.random.default_rng(seed)
    return generator.permuted(np.tile(np.arange(n), (permutations, 1)), axis=1)
