"""Does one thing foretell another? Spearman's rank correlation, with an interval over items.

`scipy.stats` has the correlation, and takes more than half a second to import. It has
neither of the intervals: that of a bootstrap, which weighs items instead of copying them,
and so ranks all draws at once; and a formula for many items.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofilter.stats.auroc import Range, Z

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
    strata: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Correlation:
    """Spearman's correlation of two columns, (items,), ties at their mean rank.

    1 = the same order, -1 = the opposite. The 95 % interval is the percentiles of a
    bootstrap over items, in each draw of which both columns are ranked again; draws in which
    a column is constant are left out. Items that share a value of `clusters`, (items,), are
    drawn together, and a single cluster gives no interval. With `strata`, (items,), both
    columns are taken less their mean over the items of a stratum of the draw. Equal `seed`,
    equal interval. Raises `ValueError` for columns of different lengths or a value that is
    no finite number.
    """
    return _estimate([(x, y)], clusters, strata, draws, seed)


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
    return _estimate([(x, y), (rival, y)], clusters, None, draws, seed)


def spearman(x: Floats, y: Floats) -> Range | None:
    """Spearman's rank correlation in [-1, 1] of many items; None where it is undefined.

    The 95 % interval is that of Bonett and Wright (2000): Fisher's z with the variance
    (1 + r² / 2) / (n - 3), the items taken for independent draws.
    """
    n = len(x)
    if n < 4:
        return None
    value = float(_correlations((x, y), np.ones((1, n)), None)[0])
    if math.isnan(value):
        return None
    if abs(value) == 1:
        return Range(value, value, value)
    error = Z * math.sqrt((1 + value * value / 2) / (n - 3))
    centre = math.atanh(value)
    return Range(value, math.tanh(centre - error), math.tanh(centre + error))


def mean_ranks(values: Floats) -> Floats:
    """Rank of each value, (items,), 1 = the least; equal values share the mean of theirs."""
    ranks: Floats = _mean_ranks(values[None], np.ones((1, len(values))))[0]
    return ranks


def _estimate(
    pairs: Sequence[tuple[ArrayLike, ArrayLike]],
    clusters: ArrayLike | None,
    strata: ArrayLike | None,
    draws: int,
    seed: int,
) -> Correlation:
    """The correlation of the first pair, less that of a second one where there is one."""
    columns = [_columns(*pair) for pair in pairs]
    items = len(columns[0][0])
    if items < 3:
        return Correlation(None, None, None, items)
    inside = None if strata is None else _members(strata)

    def correlate(weights: Floats) -> Floats:
        first, *second = (_correlations(pair, weights, inside) for pair in columns)
        return first - second[0] if second else first

    value = correlate(np.ones((1, items)))[0]
    if np.isnan(value):
        return Correlation(None, None, None, items)
    place = np.arange(items) if clusters is None else _members(clusters).argmax(axis=1)
    count = int(place.max()) + 1
    random = np.random.default_rng(seed)
    drawn: list[Floats] = []
    while count > 1 and (left := draws - sum(map(len, drawn))) > 0:
        size = min(left, max(1, _AT_ONCE // items))
        weights = random.multinomial(count, np.full(count, 1 / count), size).astype(float)
        drawn.append(correlate(weights[:, place]))
    found = np.concatenate(drawn) if drawn else np.empty(0)
    found = found[~np.isnan(found)]
    if not len(found):
        return Correlation(float(value), None, None, items)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Correlation(float(value), float(low), float(high), items)


def _columns(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"columns of shapes {first.shape} and {second.shape} have no correlation")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("a rank correlation needs finite numbers")
    return first, second


def _members(groups: ArrayLike) -> Floats:
    """(items, groups): 1 where an item belongs to a group."""
    place = np.unique(np.asarray(groups), return_inverse=True)[1]
    members: Floats = np.eye(int(place.max()) + 1)[place]
    return members


def _correlations(pair: Sequence[Floats], weights: Floats, inside: Floats | None) -> Floats:
    """Spearman's correlation of items taken `weights` times each, (draws,).

    `weights` is (draws, items). NaN where a column is constant.
    """
    ranks = [_mean_ranks(_less_means(column, weights, inside), weights) for column in pair]
    total = weights.sum(axis=1)
    # Ranks of n items have the mean (n + 1) / 2, ties or not.
    a, b = (rank - (total[:, None] + 1) / 2 for rank in ranks)
    products = (weights * a * b).sum(axis=1)
    spread = np.sqrt((weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1))
    # Rounding may leave them a bit outside.
    values: Floats = np.divide(products, spread, out=np.full(len(spread), np.nan), where=spread > 0)
    return values.clip(-1, 1)


def _less_means(column: Floats, weights: Floats, inside: Floats | None) -> Floats:
    """The column, (1, items), or less the mean of each item's stratum in each draw."""
    if inside is None:
        return column[None]
    counts = weights @ inside  # (draws, strata)
    means = np.divide(
        (weights * column) @ inside, counts, out=np.zeros_like(counts), where=counts > 0
    )
    # Rounded so that equal ones stay equal.
    centred: Floats = (column - means @ inside.T).round(12)
    return centred


def _mean_ranks(values: Floats, weights: Floats) -> Floats:
    """Rank of each item in each draw, (draws, items), the copies of equal values sharing one.

    `values` is (draws, items), or (1, items) where they are the same in all draws.
    """
    order = np.argsort(values, axis=1, kind="stable")
    inverse = np.argsort(order, axis=1, kind="stable")
    ascending = np.take_along_axis(values, order, axis=1)
    begins = np.broadcast_to(np.diff(ascending, axis=1, prepend=-np.inf) > 0, weights.shape)
    taken = np.take_along_axis(weights, np.broadcast_to(order, weights.shape), axis=1)
    place = np.cumsum(begins.ravel()) - 1  # of a value, counted through all draws
    sizes = np.bincount(place, taken.ravel())
    last = np.append(begins.ravel()[1:], True)[: begins.size]
    ends = np.cumsum(taken, axis=1).ravel()[last]
    ranks = (ends - (sizes - 1) / 2)[place].reshape(weights.shape)
    found: Floats = np.take_along_axis(ranks, np.broadcast_to(inverse, weights.shape), axis=1)
    return found
