"""Choose toxic features by contrast, on one half of the rows, and test them on the other.

Everything the pack is (features, weights, reference values, dense direction) comes
from the selection half; everything it claims (effects, AUROC, firing rates) from the
report half. Without an SAE there are no features: the pack is dense.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.model.activations import TokenBudget
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import MINIMUM_ROWS, Contrast, require_rows, split_halves
from geofilter.packs.labels import label_features
from geofilter.packs.pack import ContrastSummary, FeaturePack, FeatureStatistics
from geofilter.settings import Pooling
from geofilter.stats.auroc import auroc, share
from geofilter.support.manifest import library_versions
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats64 = NDArray[np.float64]

TOP_K = 100
# A toxic feature is active in at least this share of the toxic rows, and in three of
# them: a latent that fired in one row says nothing about the next.
FIRING_FLOOR = 0.02
_FEWEST_FIRINGS = 3
# The benign standard deviation of a latent that never fires there is 0, and dividing
# by it would let one feature outweigh all others.
_STD_FLOOR = 0.1
# Samples between two reports of progress.
_CHUNK = 256


@dataclass(frozen=True)
class MadePack:
    """A new pack, and the features of the rows it was tested on, for testing scorers too.

    `toxic` and `benign` are the report halves: no part of the pack was made from them.
    """

    pack: FeaturePack
    toxic: list[SampleFeatures]
    benign: list[SampleFeatures]


@dataclass(frozen=True)
class Moments:
    """Of all latents' φ over `rows` rows: (d_sae,) each, the variance with n - 1."""

    rows: int
    mean: Floats64
    variance: Floats64
    firings: NDArray[np.int64]


def make_pack(
    model: LoadedModel,
    toxic: Contrast,
    benign: Contrast,
    *,
    top_k: int | None = None,
    pooling: Pooling = "mean",
    budget: TokenBudget | None = None,
    progress: Progress = no_progress,
) -> MadePack:
    """Make a pack of at most `top_k` features that are stronger in toxic than benign rows.

    A model without an SAE gives a dense pack. `top_k` is by default as many as the catalogue
    says for the model, or `TOP_K` where it does not know the model. Raises `DataError` for too
    few rows or sets that hold the same ones, `PackError` when no feature qualifies.
    """
    if top_k is None:
        top_k = model.entry.top_k if model.entry else TOP_K
    if top_k < 1:
        raise PackError(f"top-k is {top_k}; at least 1 feature is needed")
    parts, counts = split_halves(toxic, benign)
    budget = budget or TokenBudget.for_device(model.device)
    total = sum(len(part) for part in parts.values())
    done = 0
    features: dict[str, list[SampleFeatures]] = {}
    for name, samples in parts.items():
        features[name] = []
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            answers = sample_features(model, chunk, pooling=pooling, budget=budget)
            features[name] += [answer for answer in answers if not isinstance(answer, Problem)]
            done += len(chunk)
            progress("discover", done, total)
        counts[f"{name} not_finite"] = len(samples) - len(features[name])
        require_rows(name, len(features[name]), MINIMUM_ROWS // 2)

    toxic_rows, benign_rows = features["toxic selection"], features["benign selection"]
    tested = features["toxic report"], features["benign report"]
    above, below = moments(toxic_rows, model.d_sae), moments(benign_rows, model.d_sae)
    effects = standardised_difference(above, below)
    ids = np.zeros(0, np.int32) if model.sae is None else _choose(effects, above, top_k)
    rows = model.decoder[ids.tolist()]
    floor = _STD_FLOOR * np.sqrt((above.variance + below.variance)[ids] / 2)
    spread = np.maximum(np.sqrt(below.variance[ids]), floor)
    dense = _dense_direction(toxic_rows, benign_rows)
    centre = _token_mean(toxic_rows + benign_rows)
    report = parts["toxic report"] + parts["benign report"]
    pack = FeaturePack(
        ids=ids,
        directions=(rows / rows.norm(dim=1, keepdim=True)).cpu().numpy(),
        weights=(effects[ids] / effects[ids].sum()).astype(np.float32),
        reference=below.mean.astype(np.float32),
        benign_std=spread.astype(np.float32),
        dense_direction=dense.astype(np.float32),
        residual_mean=centre,
        statistics=_statistics(ids, effects, *tested, model.d_sae),
        contrast=_summary(dense, centre, *tested, report),
        labels=label_features(model, ids, parts["toxic selection"]),
        pooling=pooling,
        model_name=model.name,
        sae_name=model.sae_name,
        fingerprint=model.fingerprint,
        provenance={
            "toxic": toxic.describe(),
            "benign": benign.describe(),
            "counts": counts,
            "settings": _settings(model, top_k, pooling),
            "versions": library_versions(["geofilter", "torch", "transformers", "sae-lens"]),
        },
    )
    return MadePack(pack, *tested)


def _settings(model: LoadedModel, top_k: int, pooling: Pooling) -> dict[str, object]:
    """For the record; a choice of features that was not made has no settings."""
    choice = {} if model.sae is None else {"top_k": top_k, "firing_floor": FIRING_FLOOR}
    return {"pooling": pooling, **choice}


def _choose(effects: Floats64, toxic: Moments, top_k: int) -> NDArray[np.int32]:
    """Latents of greatest effect, best first, among those that fire often enough."""
    needed = max(_FEWEST_FIRINGS, FIRING_FLOOR * toxic.rows)
    possible = np.flatnonzero((effects > 0) & (toxic.firings >= needed))
    if len(possible) == 0:
        raise PackError(
            "no latent is stronger in the toxic rows than in the benign ones; "
            "check that --toxic and --benign are not swapped or alike"
        )
    order = np.argsort(-effects[possible], kind="stable")
    chosen: NDArray[np.int32] = possible[order[:top_k]].astype(np.int32)
    return chosen


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


def _dense_direction(toxic: Sequence[SampleFeatures], benign: Sequence[SampleFeatures]) -> Floats64:
    """The direction from benign to toxic rows, (d_model,), of length 1."""
    difference = _mean_hidden(toxic) - _mean_hidden(benign)
    unit: Floats64 = difference / np.linalg.norm(difference)
    return unit


def _mean_hidden(features: Sequence[SampleFeatures]) -> Floats64:
    mean: Floats64 = np.mean([sample.mean_hidden for sample in features], axis=0, dtype=np.float64)
    return mean


def _token_mean(features: Sequence[SampleFeatures]) -> NDArray[np.float32]:
    """Mean residual stream over all pooled tokens, (d_model,)."""
    counts = np.array([sample.n_tokens for sample in features], np.float64)
    means = np.stack([sample.mean_hidden for sample in features]).astype(np.float64)
    mean: NDArray[np.float32] = (counts @ means / counts.sum()).astype(np.float32)
    return mean


def _dense(features: Sequence[SampleFeatures], ids: NDArray[np.int32], d_sae: int) -> Floats64:
    """φ at `ids` for every sample, (rows, k)."""
    values = np.zeros((len(features), len(ids)))
    place = np.full(d_sae, -1)
    place[ids] = np.arange(len(ids))
    for row, sample in enumerate(features):
        places = place[sample.latents]
        values[row, places[places >= 0]] = sample.weights[places >= 0]
    return values


def _statistics(
    ids: NDArray[np.int32],
    effects: Floats64,
    toxic: Sequence[SampleFeatures],
    benign: Sequence[SampleFeatures],
    d_sae: int,
) -> FeatureStatistics:
    above, below = _dense(toxic, ids, d_sae), _dense(benign, ids, d_sae)
    n, m = len(toxic), len(benign)
    effect = standardised_difference(moments(toxic, d_sae), moments(benign, d_sae))[ids]
    # Hedges and Olkin (1985): the large-sample error of a standardised mean difference.
    error = 1.96 * np.sqrt((n + m) / (n * m) + effect**2 / (2 * (n + m)))
    columns = {
        "selection_effect": effects[ids],
        "effect": effect,
        "effect_low": effect - error,
        "effect_high": effect + error,
    }
    for name, found in (
        ("auroc", auroc(above, below)),
        ("toxic_firing", share((above > 0).sum(axis=0), n)),
        ("benign_firing", share((below > 0).sum(axis=0), m)),
    ):
        columns |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return FeatureStatistics(**{name: value.astype(np.float32) for name, value in columns.items()})


def _summary(
    dense: Floats64,
    centre: NDArray[np.float32],
    toxic: Sequence[SampleFeatures],
    benign: Sequence[SampleFeatures],
    report: Sequence["Encoded"],
) -> ContrastSummary:
    area = auroc(
        [float(sample.mean_hidden @ dense) for sample in toxic],
        [float(sample.mean_hidden @ dense) for sample in benign],
    )
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
    )
