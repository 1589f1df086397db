"""Which tokens of a response make its score: one number per token under the loss.

`actions` masks the highest of them. Only scores that are sums over tokens can be divided.

- `spillover`: the part of the row's score that is due to the loss of token t,
  Σ_s ⟨−∂ℓ_t/∂h_s, v⟩ / |Σ_s ∂ℓ/∂h_s|; they sum to the score. It is positive where a step on that
  token alone would move the residual stream towards harm.
- `nearest`: what token t wakes near toxic features, as `explain` divides it, times the number
  of tokens; their mean is the score.

This module knows nothing about files, rows or what is done with a score.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.choices import Proximity, ScorerName
from geofilter.data.problems import Problem
from geofilter.errors import ModelError
from geofilter.model.activations import TokenBudget, in_batches, residuals
from geofilter.model.features import pool
from geofilter.model.gradients import (
    pushes,
    require_whole,
    spillover_budget,
    token_pushes,
    total_pushes,
)
from geofilter.model.loading import LoadedModel
from geofilter.packs.index import ToxicIndex
from geofilter.scoring.explain import parts_of_nearest

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats = NDArray[np.float32]
DIVISIBLE: tuple[ScorerName, ...] = ("nearest", "spillover")
# Gives each sample's (tokens,), higher = nearer to harm, NaN where a token has no score.
TokenScorer = Callable[[Sequence["Encoded"]], list[Floats]]


def token_scorer(
    model: LoadedModel, index: ToxicIndex, scorer: ScorerName, proximity: Proximity
) -> TokenScorer:
    """What divides the scores of `scorer`; give the `proximity` that they were made with.

    Raises `ModelError` for a scorer whose scores are no sums over tokens.
    """
    if scorer not in DIVISIBLE:
        raise ModelError(
            f"scores by {scorer} are no sums over tokens, so that none can be masked; score with "
            f"--scorer {' or '.join(DIVISIBLE)}, or choose another --action"
        )
    budget = TokenBudget.for_device(model.device)
    if scorer == "spillover":
        require_whole(model)
        budget = spillover_budget(model, budget)

    def work(batch: "list[Encoded]") -> list[Floats]:
        if scorer == "spillover":
            return _spillover(model, index, batch)
        return _nearest(model, index, batch, proximity)

    return lambda samples: in_batches(samples, work, budget)


def _spillover(model: LoadedModel, index: ToxicIndex, batch: "list[Encoded]") -> list[Floats]:
    totals = total_pushes(pushes(model, batch).push, batch)
    along = token_pushes(model, batch, index.pack.dense_direction)
    found = []
    for total, parts in zip(totals, along, strict=True):
        length = float(np.linalg.norm(total.astype(np.float64)))
        usable = length > 0 and np.isfinite(length)
        found.append(parts / np.float32(length) if usable else np.full_like(parts, np.nan))
    return found


def _nearest(
    model: LoadedModel, index: ToxicIndex, batch: "list[Encoded]", proximity: Proximity
) -> list[Floats]:
    hidden = residuals(model, batch)  # (batch, longest, d_model)
    every = pool(model, hidden, batch, index.pack.pooling)
    found = []
    for sample, own, features in zip(batch, hidden, every, strict=True):
        scores = np.full(len(sample.ids), np.nan, np.float32)
        if not isinstance(features, Problem):
            places = np.flatnonzero(sample.pooled)
            divided = parts_of_nearest(model, index, own[places.tolist()], features, proximity)
            scores[places] = divided.contributions.sum(axis=1) * len(places)
        found.append(scores)
    return found
