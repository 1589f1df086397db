"""What the rows of contrast sets say of latents and of the dense direction: figures of a pack.

The figures of paired sets come from differences within pairs where that says more, and their
intervals allow for pairs of one domain, or of one prompt, being alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.errors import PackError
from geofilter.model.features import SampleFeatures
from geofilter.packs.pack import ContrastSummary, FeatureStatistics
from geofilter.stats.auroc import Interval, auroc, share
from geofilter.stats.groups import (
    grouped_auroc,
    grouped_share,
    share_in_order,
    sums,
    widened,
)

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats64 = NDArray[np.float64]
Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Moments:
    """Of all latents' φ over `rows` rows: (d_sae,) each, the variance with n - 1."""

    rows: int
    mean: Floats64
    variance: Floats64
    firings: NDArray[np.int64]


def standardised_difference(toxic: Moments, benign: Moments) -> Floats64:
    """Difference of means over the root of the mean variance; 0 for a constant latent."""
    scale = np.sqrt((toxic.variance + benign.variance) / 2)
    difference = toxic.mean - benign.mean
    return np.divide(difference, scale, out=np.zeros_like(scale), where=scale > 0)


def moments(features: Sequence[SampleFeatures], d_sae: int) -> Moments:
    """Mean, variance and number of firing rows of every latent; at least two rows."""
    total, squares = np.zeros(d_sae), np.zeros(d_sae)
    firings = np.zeros(d_sae, np.int64)
    for sample in features:
        weights = sample.weights.astype(np.float64)
        total[sample.latents] += weights
        squares[sample.latents] += weights**2
        firings[sample.latents] += 1
    n = len(features)
    variance = np.maximum(squares - total**2 / n, 0) / (n - 1)
    # Rounding leaves specks where the values are all equal.
    variance[variance < 1e-12 * squares / n] = 0
    return Moments(n, total / n, variance, firings)


def paired_difference(
    toxic: Sequence[SampleFeatures], benign: Sequence[SampleFeatures], d_sae: int
) -> Floats64:
    """The mean difference within pairs over √½ times its standard deviation, (d_sae,).

    The k-th rows of both are a pair. For sides that vary independently of each other this is
    `standardised_difference`; what they share makes it greater. 0 for a constant latent.
    """
    total, squares = np.zeros(d_sae), np.zeros(d_sae)
    for bad, good in zip(toxic, benign, strict=True):
        for side, sign in ((bad, 1), (good, -1)):
            weights = side.weights.astype(np.float64)
            total[side.latents] += sign * weights
            squares[side.latents] += weights**2
        both, left, right = np.intersect1d(
            bad.latents, good.latents, assume_unique=True, return_indices=True
        )
        squares[both] -= 2 * bad.weights[left].astype(np.float64) * good.weights[right]
    return _paired(len(toxic), total, squares)


def _paired(pairs: NDArray[np.int64] | int, total: Floats64, squares: Floats64) -> Floats64:
    """The effect of pairs whose differences have this sum, and this sum of squares."""
    variance = np.maximum(squares - total**2 / pairs, 0) / (pairs - 1)
    variance[variance < 1e-12 * squares / pairs] = 0
    scale = np.sqrt(variance / 2)
    return np.divide(total / pairs, scale, out=np.zeros_like(scale), where=scale > 0)


def _dense(features: Sequence[SampleFeatures], ids: NDArray[np.int32], d_sae: int) -> Floats64:
    """φ at `ids` for every sample, (rows, k)."""
    values = np.zeros((len(features), len(ids)))
    place = np.full(d_sae, -1)
    place[ids] = np.arange(len(ids))
    for row, sample in enumerate(features):
        places = place[sample.latents]
        values[row, places[places >= 0]] = sample.weights[places >= 0]
    return values


def statistics(
    ids: NDArray[np.int32],
    effects: Floats64,
    toxic: Sequence[SampleFeatures],
    benign: Sequence[SampleFeatures],
    d_sae: int,
    groups: Groups | None = None,
) -> FeatureStatistics:
    """The figures of the latents `ids` over rows that had no part in their choice.

    `effects` (d_sae,) are those of the rows that chose. `groups` (pairs,): of paired rows.
    """
    above, below = _dense(toxic, ids, d_sae), _dense(benign, ids, d_sae)
    fires = (above > 0).astype(np.float64), (below > 0).astype(np.float64)
    if groups is None:
        effect = _unpaired_effect(toxic, benign, ids, d_sae)
        area = auroc(above, below)
        firing = [share(each.sum(axis=0), len(each)) for each in fires]
    else:
        effect = _paired_effect(above - below, groups)
        area = grouped_auroc(above, below, groups)
        firing = [grouped_share(each, groups) for each in fires]
    columns = {"selection_effect": effects[ids]}
    for name, found in (
        ("effect", effect),
        ("auroc", area),
        ("toxic_firing", firing[0]),
        ("benign_firing", firing[1]),
    ):
        columns |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return FeatureStatistics(**{name: value.astype(np.float32) for name, value in columns.items()})


def _unpaired_effect(
    toxic: Sequence[SampleFeatures],
    benign: Sequence[SampleFeatures],
    ids: NDArray[np.int32],
    d_sae: int,
) -> Interval:
    n, m = len(toxic), len(benign)
    effect = standardised_difference(moments(toxic, d_sae), moments(benign, d_sae))[ids]
    # Hedges and Olkin (1985): the large-sample error of a standardised mean difference.
    error = 1.96 * np.sqrt((n + m) / (n * m) + effect**2 / (2 * (n + m)))
    return Interval(effect, effect - error, effect + error)


def _paired_effect(difference: Floats64, groups: Groups) -> Interval:
    """The effect of (pairs, k) differences within pairs."""
    n = len(difference)
    total, squares = difference.sum(axis=0), (difference**2).sum(axis=0)
    effect = _paired(n, total, squares)
    # As above, of one mean instead of two.
    error = 1.96 * np.sqrt(2 / n + effect**2 / (2 * n))
    left = (n - np.bincount(groups))[:, None]
    without = _paired(left, total - sums(difference, groups), squares - sums(difference**2, groups))
    return widened(Interval(effect, effect - error, effect + error), without)


def summary(
    dense: Floats64,
    centre: NDArray[np.float32],
    toxic: Sequence[SampleFeatures],
    benign: Sequence[SampleFeatures],
    report: Sequence["Encoded"],
    groups: Groups | None = None,
) -> ContrastSummary:
    """The figures of the direction `dense` over rows that had no part in it, and what was usual.

    `centre` is the mean residual stream, `report` those rows; `groups` (pairs,): of paired rows.
    """
    above, below = (
        np.array([float(sample.mean_hidden @ dense) for sample in side]) for side in (toxic, benign)
    )
    area = auroc(above, below) if groups is None else grouped_auroc(above, below, groups)
    order = None if groups is None else share_in_order(above, below, groups)
    both = [*toxic, *benign]
    spread = sum(sample.spread(centre) for sample in both)
    if spread == 0:
        raise PackError("all contrast rows have the same residual stream; give rows that differ")
    error = sum(sample.squared_error for sample in both)
    per_row = [sample.explained_variance(centre) for sample in both]
    known = [value for value in per_row if not np.isnan(value)]  # none without an SAE
    unknown = [sample.unknown_share for sample in report if sample.unknown_share is not None]
    return ContrastSummary(
        toxic_rows=len(toxic),
        benign_rows=len(benign),
        persona_auroc=float(area.value),
        persona_auroc_low=float(area.low),
        persona_auroc_high=float(area.high),
        explained_variance=1 - error / spread if known else None,
        explained_variance_floor=float(np.quantile(known, 0.05)) if known else None,
        unknown_share_ceiling=float(np.quantile(unknown, 0.95)) if unknown else None,
        **({} if order is None else _of_pairs(order)),
    )


def _of_pairs(order: Interval) -> dict[str, float]:
    return {
        "pairs_in_order": float(order.value),
        "pairs_in_order_low": float(order.low),
        "pairs_in_order_high": float(order.high),
    }
