"""Why a sample has its score: which tokens woke which features, or where it pushes.

A score by `nearest` or `spillover` is divided among tokens exactly: the parts sum to it.
This module makes numbers; it knows nothing about the terminal.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.choices import Proximity
from geofilter.data.problems import Problem
from geofilter.model.activations import residuals
from geofilter.model.features import NOT_FINITE, SampleFeatures, pool
from geofilter.model.gradients import pushes
from geofilter.model.loading import LoadedModel
from geofilter.packs.index import ToxicIndex
from geofilter.scoring.rules import NO_FEATURES, NO_PUSH, latent_weights, nearest_score

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats64 = NDArray[np.float64]

LATENTS_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class TokenLatent:
    """One latent at one token.

    `proximity` is that of the score. `toxic_feature` is the toxic feature nearest to its
    decoder direction, at cosine `similarity`, with the pack's `label` (raw: escape it).
    `contribution` is its part of the sample's score.
    """

    feature: int
    activation: float
    proximity: float
    toxic_feature: int
    similarity: float
    label: tuple[str, ...]
    contribution: float


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One token: its place in the sample's ids, its text (raw), what it woke.

    `contribution` is its part of the score. `latents` are those that contribute most; there
    are none to a push.
    """

    position: int
    text: str
    contribution: float
    latents: tuple[TokenLatent, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score, higher nearer to harm, in [-1, 1], as a sum over tokens.

    Over the pooled tokens for `nearest`; over all tokens of the window for `spillover`.
    """

    score: float
    tokens: tuple[ExplainedToken, ...]


class Divided(NamedTuple):
    """A `nearest` score (NaN where there is none) and its parts.

    `activations` and `contributions` are (pooled tokens, active latents); each column of
    contributions sums to the latent's part of the score.
    """

    score: float
    activations: Floats64
    contributions: Floats64


def explain(
    model: LoadedModel,
    index: ToxicIndex,
    sample: "Encoded",
    *,
    proximity: Proximity = "nearest",
    contrast: bool = True,
) -> Explanation | Problem:
    """Divide the sample's `nearest` score among its tokens and their latents.

    A latent's part goes to the tokens in proportion to its activation there (mean
    pooling), or to the first token where it is greatest (max pooling). Give the
    `proximity` and `contrast` that the score was made with.
    """
    hidden = residuals(model, [sample])  # (1, tokens, d_model)
    positions = np.flatnonzero(sample.pooled)
    if len(positions) == 0:
        return NO_FEATURES
    (features,) = pool(model, hidden, [sample], index.pack.pooling)
    if isinstance(features, Problem):
        return features
    divided = parts_of_nearest(
        model, index, hidden[0, positions.tolist()], features, proximity, contrast
    )
    if np.isnan(divided.score):
        return NO_FEATURES
    activations, contributions = divided.activations, divided.contributions
    weighted = latent_weights(features, index.pack, contrast) > 0
    tokens = [
        ExplainedToken(
            position=int(position),
            text=model.tokenizer.decode([int(sample.ids[position])]),
            contribution=float(contributions[row].sum()),
            latents=_top_latents(
                index, features.latents, activations[row], contributions[row], proximity, weighted
            ),
        )
        for row, position in enumerate(positions)
    ]
    return Explanation(divided.score, tuple(tokens))


def parts_of_nearest(
    model: LoadedModel,
    index: ToxicIndex,
    hidden: torch.Tensor,
    features: SampleFeatures,
    proximity: Proximity = "nearest",
    contrast: bool = True,
) -> Divided:
    """Divide a sample's `nearest` score among its pooled tokens, `hidden` (tokens, d_model)."""
    score, parts = nearest_score(features, index, proximity, contrast)
    activations = _activations(model, hidden, features.latents)
    return Divided(score, activations, _shares(activations, index.pack.pooling) * parts)


def explain_push(model: LoadedModel, index: ToxicIndex, sample: "Encoded") -> Explanation | Problem:
    """Divide the sample's `spillover` score among its tokens, prompt and response.

    A token's part is ⟨−∂ℓ/∂h_t, dense direction⟩ over the length of the whole push: what a
    training step does to the residual stream at that token, for the sake of the
    response tokens behind it.
    """
    push = pushes(model, [sample]).push[0].double().cpu().numpy()  # (tokens, d_model)
    length = np.linalg.norm(push.sum(axis=0))
    if length == 0 or not np.isfinite(length):
        return NO_PUSH if length == 0 else NOT_FINITE
    parts = push @ index.pack.dense_direction.astype(np.float64) / length
    tokens = tuple(
        ExplainedToken(place, model.tokenizer.decode([int(token)]), float(part), ())
        for place, (token, part) in enumerate(zip(sample.ids, parts, strict=True))
    )
    return Explanation(float(parts.sum()), tokens)


def _activations(model: LoadedModel, hidden: torch.Tensor, latents: NDArray[np.int32]) -> Floats64:
    """The given latents, ascending, at each token: (tokens, latents)."""
    activations = np.zeros((len(hidden), len(latents)))
    with torch.no_grad():
        for part, found in model.latent_encoder.encode(hidden.float()):
            known = np.isin(found.latent.cpu().numpy(), latents)
            column = np.searchsorted(latents, found.latent.cpu().numpy()[known])
            row = part[found.token].cpu().numpy()[known]
            activations[row, column] = found.value.cpu().numpy()[known]
    return activations


def _shares(activations: Floats64, pooling: str) -> Floats64:
    """How much of each pooled latent is due to each token; every column sums to 1."""
    if pooling == "mean":
        parts: Floats64 = activations / activations.sum(axis=0)
        return parts
    shares: Floats64 = np.zeros_like(activations)
    shares[activations.argmax(axis=0), np.arange(activations.shape[1])] = 1
    return shares


def _top_latents(
    index: ToxicIndex,
    features: NDArray[np.int32],
    activations: Floats64,
    contributions: Floats64,
    proximity: Proximity,
    weighted: NDArray[np.bool_],
) -> tuple[TokenLatent, ...]:
    active = np.flatnonzero((activations > 0) & weighted)
    order = active[np.argsort(-contributions[active], kind="stable")][:LATENTS_PER_TOKEN]
    places, similarities = index.nearest_of_latents(features[order])
    return tuple(
        TokenLatent(
            feature=int(features[latent]),
            activation=float(activations[latent]),
            proximity=float(index.proximity[proximity][features[latent]]),
            toxic_feature=int(index.pack.ids[place]),
            similarity=float(similarity),
            label=index.pack.labels[place],
            contribution=float(contributions[latent]),
        )
        for latent, place, similarity in zip(order, places, similarities, strict=True)
    )
