"""Shares of answers that come in groups (seeds, questions), their differences and their ratios.

A bootstrap has no width where no answer, or every answer, was found: 0 of 8 would read 0 to 0 %.
With few groups it is too narrow. Here the count is taken for beta-binomial: the rate in the groups
at hand is a beta variable around the true one, and answers are binomial given it. An interval
holds all rates of which a count as small, and one as large, has a chance of 2.5 % or more. Where
groups do not differ, that is the interval of Clopper and Pearson (1934).

How much groups differ is measured (Cameron, Gelbach and Miller 2011, for two kinds of groups at
once) and, for few groups, widened by Student's quantile. Where answers say little about it, for
few were found, it is drawn towards `ASSUMED`, which stands for as many groups as `WORTH` says.

Two shares are compared by variance estimates recovery: Zou and Donner 2008 (Statistics in Medicine
27) for differences, Donner and Zou 2012 (Statistical Methods in Medical Research 21) for ratios,
with the correlation that their common groups show. `benchmarks/coverage.py` chose the constants
and measures how often each interval holds the truth.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.stats.auroc import Z
from geofilter.stats.groups import student

# Variance of a rate p from seed to seed, and from question to question, over (p(1-p))²: about
# that of their log-odds. And how many groups' worth of evidence that is.
ASSUMED = (0.25, 1.25)
WORTH = (0.5, 1.0)

_TAIL = 0.025
_HALVINGS = 50
# Less than this between groups is nothing, and more than all answers of a group alike cannot be.
_LEAST, _MOST = 1e-9, 0.999

Floats = NDArray[np.float64]


class Bounds(NamedTuple):
    """The ends of a 95 % interval."""

    low: float
    high: float


class _Groups(NamedTuple):
    """Groups of one kind: `weights` are their shares of all answers, (groups,), and `errors` what
    each adds to the error of the rate. `between` is their relative variance, and `known` the
    weight in it of what was measured."""

    weights: Floats
    errors: Floats
    between: float
    known: float

    @property
    def spread(self) -> float:
        """Relative variance of the rate over groups such as these."""
        return self.between * float((self.weights**2).sum())


@dataclass(frozen=True)
class Share:
    """`found` of `total` answers, with the 95 % interval of the true rate, in [0, 1].

    `kinds` has the groups of each kind, None where all answers are of one group: the interval
    says nothing about other groups of that kind.
    """

    found: int
    total: int
    kinds: tuple[_Groups | None, ...]
    bounds: Bounds

    @property
    def value(self) -> float:
        """The rate that was seen, in [0, 1]."""
        return self.found / self.total


def share_of(found: Floats, totals: Floats) -> Share | None:
    """The share of counts in a table, `found` of `totals`, each (seeds, questions).

    A seed or question without an answer counts for nothing. None without any answer.
    """
    total, count = int(totals.sum()), int(found.sum())
    if not total:
        return None
    kinds = tuple(
        _groups(found.sum(axis=1 - axis), totals.sum(axis=1 - axis), *prior)
        for axis, prior in enumerate(zip(ASSUMED, WORTH, strict=True))
    )
    spread = sum(kind.spread for kind in kinds if kind is not None)
    return Share(count, total, kinds, _bounds(count, total, spread))


def difference(one: Share, other: Share) -> Bounds:
    """The 95 % interval of the rate of `one` minus that of `other`, in [-1, 1]."""
    contrast = _Contrast(one, other)
    return Bounds(max(-1.0, contrast.low(1.0)), min(1.0, contrast.high(1.0)))


def ratio(one: Share, other: Share) -> Bounds:
    """The 95 % interval of the rate of `one` over that of `other`, 0 or more.

    It excludes 1 just where `difference` excludes 0. Raises `ValueError` without any
    answer that was found in `other`.
    """
    if not other.found:
        raise ValueError("a ratio to a share of which nothing was found")
    contrast = _Contrast(one, other)
    return Bounds(_root(contrast.low) if one.found else 0.0, _root(contrast.high))


def _groups(found: Floats, totals: Floats, assumed: float, worth: float) -> _Groups | None:
    """What the counts of each group, (groups,), say about how much groups differ."""
    groups, total = int((totals > 0).sum()), totals.sum()
    if groups < 2:
        return None
    rate = found.sum() / total
    scale = rate * (1 - rate)
    weights, errors = totals / total, (found - rate * totals) / total
    if scale == 0:
        return _Groups(weights, errors, assumed, 0.0)
    variance = groups / (groups - 1) * (errors**2).sum()
    measured = max(0.0, (variance - scale / total) / (weights**2).sum() / scale**2)
    # Groups of few found answers differ by chance more than by themselves.
    evidence = (groups - 1) * (assumed / (assumed + groups / (total * scale))) ** 2
    share = float(evidence / (evidence + worth))
    known = share * (student(groups - 1) / Z) ** 2
    return _Groups(weights, errors, float((1 - share) * assumed + known * measured), known)


def _bounds(count: int, total: int, spread: float) -> Bounds:
    """Of `count` of `total`, whose rate has the relative variance `spread` over groups."""
    return Bounds(_least(count, total, spread), 1 - _least(total - count, total, spread))


def _least(count: int, total: int, spread: float) -> float:
    """The least rate of which a count as large or larger has a chance of 2.5 %."""
    low, high = 0.0, count / total
    for _ in range(_HALVINGS if count else 0):
        middle = (low + high) / 2
        if 1 - _chance_below(count, total, middle, spread) < _TAIL:
            low = middle
        else:
            high = middle
    return low


def _chance_below(count: int, total: int, rate: float, spread: float) -> float:
    """P(X < count), X beta-binomial of `total` with the mean `rate`, in (0, 1); `count` > 0."""
    alike = min(_MOST, rate * (1 - rate) * spread)  # correlation within
    k = np.arange(1, count)
    steps = np.log((total - k + 1) / k)  # of log P(X = k) from that of k - 1
    if alike < _LEAST:
        first = total * math.log1p(-rate)
        steps += math.log(rate / (1 - rate))
    else:
        a, b = (part * (1 - alike) / alike for part in (rate, 1 - rate))
        first = math.lgamma(b + total) - math.lgamma(b)
        first -= math.lgamma(a + b + total) - math.lgamma(a + b)
        steps += np.log((a + k - 1) / (b + total - k))
    logs = first + np.concatenate(([0.0], np.cumsum(steps)))
    return float(np.exp(logs).sum())


class _Contrast:
    """The ends of the interval of `one` minus so many times `other`."""

    def __init__(self, one: Share, other: Share) -> None:
        self._rates = (one.value, other.value)
        self._down = (one.value - one.bounds.low, other.bounds.high - other.value)
        self._up = (one.bounds.high - one.value, other.value - other.bounds.low)
        self._correlation = _correlation(one, other)

    def low(self, times: float) -> float:
        return self._middle(times) - self._reach(self._down, times)

    def high(self, times: float) -> float:
        return self._middle(times) + self._reach(self._up, times)

    def _middle(self, times: float) -> float:
        return self._rates[0] - times * self._rates[1]

    def _reach(self, distances: Sequence[float], times: float) -> float:
        a, b = distances[0], times * distances[1]
        return math.sqrt(max(0.0, a * a + b * b - 2 * self._correlation * a * b))


def _correlation(one: Share, other: Share) -> float:
    """How alike the errors of two shares are by their common groups; in [0, 1).

    Answers are drawn apart in each, so that only what lies between groups can be alike.
    """
    scales = [share.value * (1 - share.value) for share in (one, other)]
    if 0 in scales:
        return 0.0
    common = 0.0
    for a, b in zip(one.kinds, other.kinds, strict=True):
        if a is None or b is None:
            continue
        groups = int(((a.weights > 0) & (b.weights > 0)).sum())
        if groups < 2:
            continue
        seen = groups / (groups - 1) * float((a.errors * b.errors).sum()) * min(a.known, b.known)
        most = scales[0] * scales[1] * math.sqrt(a.spread * b.spread)
        common += min(most, max(0.0, seen))
    variances = [
        scale / share.total + scale**2 * sum(kind.spread for kind in share.kinds if kind)
        for scale, share in zip(scales, (one, other), strict=True)
    ]
    return common / math.sqrt(variances[0] * variances[1])


def _root(falling: Callable[[float], float]) -> float:
    """Where a function that is above 0 at 0, and below it far out, crosses 0."""
    high = 1.0
    while falling(high) > 0:
        high *= 2
    low = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if falling(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
