"""`nearest`: how near the response's latents lie to the toxic ones (Minegishi et al. 2026).

The score is a sum over latents, and each latent's part a sum over tokens.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent
from geofilter.scoring.scorers.base import NO_FEATURES, Evidence, Floats64, Scorer, excess
from geofilter.settings import Proximity

if TYPE_CHECKING:
    import torch

    from geofilter.data.encoder import Encoded
    from geofilter.model.features import SampleFeatures
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex

LATENTS_PER_TOKEN = 3


def score(
    sample: "SampleFeatures", index: "ToxicIndex", proximity: Proximity, *, contrast: bool = True
) -> tuple[float, Floats64]:
    """Σ_f a_f p_f / Σ_f a_f, higher nearer to harm, in [-1, 1]; and each latent's part of it.

    `a` is what φ exceeds the benign mean by, or φ itself without `contrast`; `p` is the
    proximity of each decoder direction to the toxic ones. NaN when Σ a = 0.
    """
    weights = _weights(sample, index, contrast)
    total = weights.sum()
    if total == 0:
        return float("nan"), weights
    parts = weights * index.proximity[proximity][sample.latents] / total
    return float(parts.sum()), parts


def _weights(sample: "SampleFeatures", index: "ToxicIndex", contrast: bool = True) -> Floats64:
    """a_f at the sample's active latents; it is 0 at all others, since φ_ref >= 0."""
    if contrast:
        return np.maximum(excess(sample, index.pack), 0.0)
    return sample.weights.astype(np.float64)


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    return score(evidence.sample, evidence.index, evidence.proximity)


class _Divided(NamedTuple):
    """A score, NaN where it is undefined, and its parts.

    `activations` and `contributions` are (pooled tokens, active latents); each column of
    contributions sums to the latent's part of the score.
    """

    score: float
    activations: Floats64
    contributions: Floats64


def _explain(
    model: "LoadedModel", index: "ToxicIndex", sample: "Encoded", proximity: Proximity
) -> Explanation | Problem:
    """A latent's part goes to the tokens in proportion to its activation there (mean pooling),
    or to the first token where it is greatest (max pooling)."""
    from geofilter.model.activations import residuals
    from geofilter.model.features import pool

    hidden = residuals(model, [sample])  # (1, tokens, d_model)
    positions = np.flatnonzero(sample.pooled)
    if len(positions) == 0:
        return NO_FEATURES
    (features,) = pool(model, hidden, [sample], index.pack.pooling)
    if isinstance(features, Problem):
        return features
    divided = _divide(model, index, hidden[0, positions.tolist()], features, proximity)
    if np.isnan(divided.score):
        return NO_FEATURES
    weighted = _weights(features, index) > 0
    tokens = tuple(
        ExplainedToken(
            position=int(position),
            text=model.tokenizer.decode([int(sample.ids[position])]),
            contribution=float(divided.contributions[row].sum()),
            latents=_top_latents(
                index,
                features.latents,
                divided.activations[row],
                divided.contributions[row],
                proximity,
                weighted,
            ),
        )
        for row, position in enumerate(positions)
    )
    return Explanation(divided.score, tokens)


def _score_tokens(
    model: "LoadedModel", index: "ToxicIndex", batch: "Sequence[Encoded]", proximity: Proximity
) -> list[NDArray[np.float32]]:
    """A token's part of the score times the number of tokens: their mean is the score."""
    from geofilter.model.activations import residuals
    from geofilter.model.features import pool

    hidden = residuals(model, batch)  # (batch, longest, d_model)
    every = pool(model, hidden, batch, index.pack.pooling)
    found = []
    for sample, own, features in zip(batch, hidden, every, strict=True):
        scores = np.full(len(sample.ids), np.nan, np.float32)
        if not isinstance(features, Problem):
            places = np.flatnonzero(sample.pooled)
            divided = _divide(model, index, own[places.tolist()], features, proximity)
            scores[places] = divided.contributions.sum(axis=1) * len(places)
        found.append(scores)
    return found


def _divide(
    model: "LoadedModel",
    index: "ToxicIndex",
    hidden: "torch.Tensor",
    features: "SampleFeatures",
    proximity: Proximity,
) -> _Divided:
    """Divide a sample's score among its pooled tokens, `hidden` (tokens, d_model)."""
    found, parts = score(features, index, proximity)
    activations = _activations(model, hidden, features.latents)
    return _Divided(found, activations, _shares(activations, index.pack.pooling) * parts)


def _activations(
    model: "LoadedModel", hidden: "torch.Tensor", latents: NDArray[np.int32]
) -> Floats64:
    """The given latents, ascending, at each token: (tokens, latents)."""
    import torch

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
    index: "ToxicIndex",
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


SCORER = Scorer(
    name="nearest",
    about="proximity of the response's latents to the toxic features, the paper's geometry",
    rule=_rule,
    settings=("proximity",),
    explain=_explain,
    score_tokens=_score_tokens,
)
