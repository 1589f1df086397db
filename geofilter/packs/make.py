"""Choose toxic features by contrast, on one half of the rows, and test them on the other.

Everything the pack is (features, weights, reference values, dense direction) comes
from the selection half; everything it claims (effects, AUROC, firing rates) from the
report half. Without an SAE there are no features: the pack is dense.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.model.activations import TokenBudget
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import Contrast
from geofilter.packs.dense import dense_direction
from geofilter.packs.figures import (
    Floats64,
    Groups,
    Moments,
    moments,
    paired_difference,
    standardised_difference,
    statistics,
    summary,
)
from geofilter.packs.halves import HALVES, MINIMUM_ROWS, Halves, require_rows, split_halves
from geofilter.packs.labels import label_features
from geofilter.packs.pack import FeaturePack
from geofilter.packs.plain import Plain, measure
from geofilter.settings import Pooling
from geofilter.stats.groups import numbered
from geofilter.support.manifest import library_versions
from geofilter.support.progress import Progress, no_progress

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

    `toxic` and `benign` are the report halves: no part of the pack was made from them. `groups`
    (pairs,): of paired rows the domain or prompt of each pair; None for others. `plain` says
    how well length and words alone tell them apart.
    """

    pack: FeaturePack
    toxic: list[SampleFeatures]
    benign: list[SampleFeatures]
    groups: Groups | None
    plain: Plain


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
    halves = split_halves(toxic, benign)
    plain = measure(halves, model.tokenizer)
    read = _read(model, halves, pooling, budget, progress)
    toxic_rows, benign_rows = read.parts["toxic selection"], read.parts["benign selection"]
    tested = read.parts["toxic report"], read.parts["benign report"]
    above, below = moments(toxic_rows, model.d_sae), moments(benign_rows, model.d_sae)
    paired = read.groups is not None
    effects = (
        paired_difference(toxic_rows, benign_rows, model.d_sae)
        if paired
        else standardised_difference(above, below)
    )
    ids = np.zeros(0, np.int32) if model.sae is None else _choose(effects, above, top_k)
    rows = model.decoder[ids.tolist()]
    floor = _STD_FLOOR * np.sqrt((above.variance + below.variance)[ids] / 2)
    spread = np.maximum(np.sqrt(below.variance[ids]), floor)
    dense = dense_direction(mean_hidden(toxic_rows), mean_hidden(benign_rows), pairs=paired)
    centre = _token_mean(toxic_rows + benign_rows)
    report = halves.parts["toxic report"] + halves.parts["benign report"]
    pack = FeaturePack(
        ids=ids,
        directions=(rows / rows.norm(dim=1, keepdim=True)).cpu().numpy(),
        weights=(effects[ids] / effects[ids].sum()).astype(np.float32),
        reference=below.mean.astype(np.float32),
        benign_std=spread.astype(np.float32),
        dense_direction=dense.astype(np.float32),
        residual_mean=centre,
        statistics=statistics(ids, effects, *tested, model.d_sae, read.groups),
        contrast=summary(dense, centre, *tested, report, read.groups),
        labels=label_features(model, ids, halves.parts["toxic selection"]),
        pooling=pooling,
        model_name=model.name,
        sae_name=model.sae_name,
        fingerprint=model.fingerprint,
        provenance={
            "toxic": toxic.describe(),
            "benign": benign.describe(),
            "counts": {**halves.counts, **read.not_finite},
            "paired": paired,
            "plain": plain.record(),
            "settings": _settings(model, top_k, pooling),
            "versions": library_versions(["geofilter", "torch", "transformers", "sae-lens"]),
        },
    )
    return MadePack(pack, *tested, read.groups, plain)


@dataclass(frozen=True)
class _Read:
    """The features of the rows in each part, and how many rows of it are not finite.

    `groups` (pairs,): of paired rows those of the report half, as numbers.
    """

    parts: Mapping[str, list[SampleFeatures]]
    not_finite: Mapping[str, int]
    groups: Groups | None


def _read(
    model: LoadedModel,
    halves: Halves,
    pooling: Pooling,
    budget: TokenBudget | None,
    progress: Progress,
) -> _Read:
    budget = budget or TokenBudget.for_device(model.device)
    total = sum(map(len, halves.parts.values()))
    done = 0
    answers: dict[str, list[SampleFeatures | Problem]] = {}
    for name, samples in halves.parts.items():
        answers[name] = []
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            answers[name] += sample_features(model, chunk, pooling=pooling, budget=budget)
            done += len(chunk)
            progress("discover", done, total)
    usable = {
        name: [not isinstance(answer, Problem) for answer in found]
        for name, found in answers.items()
    }
    not_finite = {f"{name} not_finite": found.count(False) for name, found in usable.items()}
    if halves.groups:  # a pair without one side is no pair
        for half in HALVES:
            toxic, benign = usable[f"toxic {half}"], usable[f"benign {half}"]
            both = [bad and good for bad, good in zip(toxic, benign, strict=True)]
            usable[f"toxic {half}"] = usable[f"benign {half}"] = both
    parts = {
        name: [
            answer for answer in compress(found, usable[name]) if not isinstance(answer, Problem)
        ]
        for name, found in answers.items()
    }
    for name, rows in parts.items():
        require_rows(name, len(rows), MINIMUM_ROWS // 2)
    groups = None
    if halves.groups:
        groups = numbered(list(compress(halves.groups["report"], usable["toxic report"])))
    return _Read(parts, not_finite, groups)


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


def mean_hidden(features: Sequence[SampleFeatures]) -> Floats64:
    """The mean residual stream of each row, (rows, d_model)."""
    return np.stack([sample.mean_hidden for sample in features]).astype(np.float64)


def _token_mean(features: Sequence[SampleFeatures]) -> NDArray[np.float32]:
    """Mean residual stream over all pooled tokens, (d_model,)."""
    counts = np.array([sample.n_tokens for sample in features], np.float64)
    mean: NDArray[np.float32] = (counts @ mean_hidden(features) / counts.sum()).astype(np.float32)
    return mean
