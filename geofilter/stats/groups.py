"""Intervals for samples that come in groups: pairs of one prompt, or rows of one domain.

Samples of one group are alike, so that an interval which counts each of them as independent is
too narrow. Here groups are left out one at a time (the jackknife), and an interval is
widened to what that shows.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from geofilter.stats.auroc import Interval, Z, auroc, share

Floats64 = NDArray[np.float64]

# With fewer groups nothing can be said of how they differ.
FEWEST_GROUPS = 3


def numbered(groups: Sequence[str]) -> NDArray[np.int64]:
    """The groups as numbers 0, 1, ..., one for each sample; where there are fewer than
    `FEWEST_GROUPS` each sample is a group of its own."""
    numbers: NDArray[np.int64] = np.unique(np.asarray(groups, np.str_), return_inverse=True)[1]
    if len(groups) == 0 or numbers.max() + 1 < FEWEST_GROUPS:
        return np.arange(len(groups))
    return numbers.reshape(-1)


def widened(found: Interval, without: Floats64) -> Interval:
    """`found` with a 95 % interval that is at least as wide as the jackknife's.

    `without` (groups, ...) is the value without each of the groups. The jackknife's interval
    is Student's, with one degree of freedom less than there are groups.
    """
    groups = len(without)
    if groups < 2:
        return found
    spread = ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    half = student(groups - 1) * np.sqrt((groups - 1) / groups * spread)
    low, high = (
        np.minimum(found.low, found.value - half),
        np.maximum(found.high, found.value + half),
    )
    return Interval(found.value, low, high)


def grouped_auroc(positive: ArrayLike, negative: ArrayLike, groups: NDArray[np.int64]) -> Interval:
    """As `auroc`, of as many positives as negatives in the same groups. In [0, 1].

    `positive` and `negative` are (n, ...), `groups` (n,) is the group of the k-th of both.
    """
    above, below = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    found = auroc(above, below)
    n, shape = len(above), above.shape[1:]
    columns = zip(above.reshape(n, -1).T, below.reshape(n, -1).T, strict=True)
    without = [_auroc_without(*one, groups) for one in columns]
    wide = widened(found, np.array(without).T.reshape(int(groups.max()) + 1, *shape))
    return Interval(wide.value, np.maximum(wide.low, 0), np.minimum(wide.high, 1))


def _auroc_without(above: Floats64, below: Floats64, groups: NDArray[np.int64]) -> Floats64:
    """The AUROC without each group, (groups,)."""
    difference = above[:, None] - below[None, :]
    wins = (difference > 0) + 0.5 * (difference == 0)  # (positives, negatives)
    counts = np.bincount(groups)
    # What a group's positives and its negatives win; what it wins of itself is in both.
    taken = np.bincount(groups, wins.sum(axis=1)) + np.bincount(groups, wins.sum(axis=0))
    inside = (groups[:, None] == groups[None, :]) * wins
    taken -= np.bincount(groups, inside.sum(axis=1))
    left = (len(groups) - counts).astype(np.float64)
    found: Floats64 = (wins.sum() - taken) / left**2
    return found


def share_in_order(positive: ArrayLike, negative: ArrayLike, groups: NDArray[np.int64]) -> Interval:
    """Share of pairs whose positive scores above its negative; a tie counts half. In [0, 1].

    `positive` (n,) and `negative` (n,) are the sides of n pairs, `groups` (n,) their groups.
    """
    difference = np.asarray(positive, np.float64) - np.asarray(negative, np.float64)
    won = (difference > 0) + 0.5 * (difference == 0)
    return grouped_share(won, groups)


def grouped_share(found: NDArray[np.float64], groups: NDArray[np.int64]) -> Interval:
    """The mean of `found` (n, ...), which is 0 to 1, as a share of n, in groups."""
    counts, total = np.bincount(groups), found.sum(axis=0)
    within = sums(found, groups)
    left = (len(groups) - counts).reshape(-1, *[1] * (found.ndim - 1))
    wide = widened(share(total, len(groups)), (total - within) / left)
    return Interval(wide.value, np.maximum(wide.low, 0), np.minimum(wide.high, 1))


def sums(values: NDArray[np.float64], groups: NDArray[np.int64]) -> Floats64:
    """The sums of `values` (n, ...) over the samples of each group, (groups, ...)."""
    found = np.zeros((int(groups.max()) + 1, *values.shape[1:]))
    np.add.at(found, groups, values)
    return found


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution with `freedom` degrees of freedom.

    Exact for one and two, and to 1 % beyond (the expansion of Cornish and Fisher).
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z = Z
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
