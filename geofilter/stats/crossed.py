"""Means of tables whose rows are seeds and whose columns are clusters, with 95 % intervals.

Seeds and clusters are both taken for samples: an interval is for other seeds and other clusters.
Its variance is that of two-way clustering (Cameron, Gelbach and Miller 2011, "Robust inference with
multiway clustering", JBES 29), what lies between seeds plus what lies between clusters less what is
in both, and never less than either. It is widened by Student's quantile, whose degrees of freedom
are Satterthwaite's: two seeds say little about a third. With one seed, or one cluster, it is for
this one alone. `benchmarks/coverage_shifts.py` measures how often it holds the truth.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.stats.groups import student

_HALVINGS = 60
# A ratio further out than this is taken for one without an end.
_FAR = 1e6

Floats = NDArray[np.float64]


class Mean(NamedTuple):
    """A mean with the ends of its interval; NaN where there is one seed and one cluster."""

    value: float
    low: float
    high: float


def mean_of(table: Floats, sizes: Floats) -> Mean:
    """The mean of `table`, (seeds, clusters), in which cluster c counts `sizes[c]` times."""
    seeds, clusters = table.shape
    shares = sizes / sizes.sum()
    value = float((table @ shares).mean())
    of_seeds = table @ shares - value
    of_clusters = table.mean(axis=0) - value
    rest = table - value - of_seeds[:, None] - of_clusters
    seed_scale = seeds / (seeds - 1) if seeds > 1 else 0.0
    cluster_scale = clusters / (clusters - 1) if clusters > 1 else 0.0
    between_seeds = seed_scale * float((of_seeds**2).sum()) / seeds**2
    between_clusters = cluster_scale * float(((shares * of_clusters) ** 2).sum())
    in_both = seed_scale * cluster_scale * float(((shares * rest) ** 2).sum()) / seeds**2
    if not seed_scale and not cluster_scale:
        return Mean(value, np.nan, np.nan)
    variance = max(between_seeds + between_clusters - in_both, between_seeds, between_clusters)
    parts = ((between_seeds, seeds), (between_clusters, clusters))
    doubt = sum(part**2 / (groups - 1) for part, groups in parts if groups > 1)
    freedom = variance**2 / doubt if doubt else 1.0
    reach = student(max(1, int(freedom + 1e-9))) * float(np.sqrt(variance))
    return Mean(value, value - reach, value + reach)


def ratio_of(one: Floats, other: Floats, sizes: Floats) -> Mean:
    """The mean of `one` over that of `other`, tables of the same seeds and clusters.

    The interval holds every ratio r for which the interval of `one` - r x `other` holds 0, as
    Fieller's does (1954, JRSS B 16); an end is infinite where it has none. NaN where the interval
    of `other` holds 0: nothing to divide by.
    """
    below = mean_of(other, sizes)
    value = mean_of(one, sizes).value / below.value if below.value else np.nan
    if not (below.low > 0 or below.high < 0):
        return Mean(value, np.nan, np.nan)

    def holds(ratio: float) -> bool:
        rest = mean_of(one - ratio * other, sizes)
        return rest.low <= 0 <= rest.high

    return Mean(value, _end(holds, value, -1.0), _end(holds, value, 1.0))


def _end(holds: Callable[[float], bool], start: float, sign: float) -> float:
    """How far from `start` one can go, in the direction of `sign`, while `holds` is true."""
    step = 1e-3 * max(1.0, abs(start))
    while holds(start + sign * step):
        step *= 2
        if step > _FAR:
            return sign * np.inf
    near, far = 0.0, step
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if holds(start + sign * middle) else (near, middle)
    return start + sign * near
