"""Does one thing foretell another? Spearman's rank correlation, with an interval over items.

Plain arithmetic on two columns of numbers; it knows nothing about what they measure.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 10_000
LEVEL = 0.95
# Draws times items held at once.
_AT_ONCE = 2**22

Floats = NDArray[np.float64]


class Correlation(NamedTuple):
    """A rank correlation in [-1, 1] with its interval, and the number of items.

    None where it is not defined: fewer than three items, or a column that is constant.
    """

    value: float | None
    low: float | None
    high: float | None
    items: int


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Correlation:
    """Spearman's correlation of two columns, (items,), ties at their mean rank.

    1 = the same order, -1 = the opposite. The 95 % interval is the percentiles of a
    bootstrap over items, in which both columns are ranked anew; draws in which a column is
    constant are left out. Items that share a value of `clusters`, (items,), are drawn
    together, and a single cluster gives no interval. Equal `seed`, equal interval. Raises
    `ValueError` for columns of different lengths or a value that is no finite number.
    """
    return _estimate([(x, y)], clusters, draws, seed)


def rank_gain(
    x: ArrayLike,
    rival: ArrayLike,
    y: ArrayLike,
    *,
    clusters: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Correlation:
    """By how much `x` correlates better with `y` than `rival` does, in [-2, 2].

    The difference of two rank correlations, with an interval from the same draws for
    both. All else as in `rank_correlation`.
    """
    return _estimate([(x, y), (rival, y)], clusters, draws, seed)


def _estimate(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]],
    clusters: ArrayLike | None,
    draws: int,
    seed: int,
) -> Correlation:
    """The correlation of the first pair, less that of a second one where there is one."""
    groups = [_groups(*pair) for pair in pairs]
    items = len(groups[0][0])
    if items < 3:
        return Correlation(None, None, None, items)
    value = _less(groups, np.ones((1, items)))[0]
    if np.isnan(value):
        return Correlation(None, None, None, items)
    cluster = np.arange(items) if clusters is None else np.asarray(clusters)
    place = np.unique(cluster, return_inverse=True)[1]
    count = int(place.max()) + 1
    random = np.random.default_rng(seed)
    drawn: list[Floats] = []
    while count > 1 and (left := draws - sum(map(len, drawn))) > 0:
        size = min(left, max(1, _AT_ONCE // items))
        weights = random.multinomial(count, np.full(count, 1 / count), size).astype(float)
        drawn.append(_less(groups, weights[:, place]))
    found = np.concatenate(drawn) if drawn else np.empty(0)
    found = found[~np.isnan(found)]
    if not len(found):
        return Correlation(float(value), None, None, items)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(float(value), float(low), float(high), items)


def _groups(x: ArrayLike, y: ArrayLike) -> list[NDArray[np.intp]]:
    """Each item's place among the different values of each column."""
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"columns of shapes {first.shape} and {second.shape} have no correlation")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a rank correlation needs finite numbers")
    return [np.unique(column, return_inverse=True)[1] for column in (first, second)]


def _less(groups: list[list[NDArray[np.intp]]], weights: Floats) -> Floats:
    values = [_correlations(pair, weights) for pair in groups]
    return values[0] if len(values) == 1 else values[0] - values[1]


def _correlations(groups: list[NDArray[np.intp]], weights: Floats) -> Floats:
    """Spearman's correlation of items taken `weights` times each, (draws,).

    `groups` holds each item's place among a column's different values; `weights` is
    (draws, items). NaN where a column is constant.
    """
    ranks = [_mean_ranks(group, weights) for group in groups]
    total = weights.sum(axis=1)
    # Ranks of n items have the mean (n + 1) / 2, ties or not.
    a, b = (rank - (total[:, None] + 1) / 2 for rank in ranks)
    products = (weights * a * b).sum(axis=1)
    spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    # Rounding may leave them a bit outside.
    values: Floats = np.divide(products, spread, out=np.full(len(spread), np.nan), where=spread > 0)
    return values.clip(-1, 1)


def _mean_ranks(group: NDArray[np.intp], weights: Floats) -> Floats:
    """Rank of each item in each draw, (draws, items), the copies of equal values sharing one."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)  # (draws, different values)
    ends = np.cumsum(sizes, axis=1)
    ranks: Floats = (ends - (sizes - 1) / 2)[:, group]
    return ranks
