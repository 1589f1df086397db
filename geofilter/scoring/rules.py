"""The scorers: from sample features and a pack to one number per sample.

Each is a function of the features and the toxic index only, so that several scorers
run from one forward pass. For every scorer, higher is nearer to harm. What cannot
be scored is a `Problem`, never 0. This module knows nothing about files, tables or
what is done with a score.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.choices import PROXIMITIES, SCORERS, Proximity, ScorerName
from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.model.activations import TokenBudget
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.gradients import require_whole, spillover_budget
from geofilter.model.loading import LoadedModel
from geofilter.packs.index import Nearest, ToxicIndex
from geofilter.packs.pack import ContrastSummary, FeaturePack

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats64 = NDArray[np.float64]
TOP_FEATURES = 5

NO_FEATURES = Problem("no_features", "no SAE latent is more active than in benign text")

NO_PUSH = Problem("no_features", "no token of the response is predicted by one before it")

# From 20 queries on, FAISS multiplies matrices, whose rounding depends on how many there
# are; below, a sample's figures are its own.
_SEARCHED_AT_ONCE = 16

# Domain fit: how far beyond what 95 % of contrast rows showed the typical row must be.
# Without it, a tokenizer that knew every word there would warn at the first it does not.
_FIT_MARGIN = 0.05


@dataclass(frozen=True, slots=True)
class TopFeature:
    """One SAE latent behind a score: `weight` is a_f, `proximity` p_f in [-1, 1]."""

    feature: int
    weight: float
    proximity: float


@dataclass(frozen=True, slots=True)
class SampleScore:
    """A sample's score; higher is nearer to harm.

    `nearest_feature` is the toxic feature nearest to Σ_f (φ − φ_ref)_f W_dec[f], and
    `nearest_similarity` the cosine in [-1, 1]. `explained_variance` says how much of the
    sample the SAE sees (at most 1). `top_features` contributed most, greatest first.
    """

    score: float
    n_tokens: int
    nearest_feature: int
    nearest_similarity: float
    explained_variance: float
    top_features: tuple[TopFeature, ...]


# Answers in the order of the features; problems among them are passed on.
Scorer = Callable[[Sequence[SampleFeatures | Problem]], list[SampleScore | Problem]]
# The score, and what each of the sample's active latents contributes to it.
_Rule = Callable[[SampleFeatures, int, float], tuple[float, Floats64]]


def make_scorer(
    name: ScorerName,
    index: ToxicIndex,
    *,
    proximity: Proximity = "nearest",
    contrast: bool = True,
) -> Scorer:
    """The scorer called `name`: one of `SCORERS`.

    `proximity` and `contrast` belong to `nearest`; see `nearest_score`. Raises `PackError`
    for a name that is none of them.
    """
    if proximity not in PROXIMITIES:
        raise PackError(f"proximity {proximity!r} is not known; choose {' or '.join(PROXIMITIES)}")
    rules: dict[str, _Rule] = {
        "nearest": lambda sample, _place, _similarity: nearest_score(
            sample, index, proximity, contrast
        ),
        "direction": lambda sample, place, similarity: (
            similarity,
            excess(sample, index.pack) * index.overlap(sample.latents, place),
        ),
        "activation": lambda sample, _place, _similarity: activation_score(sample, index.pack),
        "spillover": lambda sample, _place, _similarity: spillover_score(sample, index),
        "persona": lambda sample, _place, _similarity: persona_score(sample, index),
    }
    if name not in rules:
        raise PackError(f"no scorer is called {name!r}; choose one of {', '.join(SCORERS)}")
    rule, undefined = rules[name], NO_PUSH if name == "spillover" else NO_FEATURES

    def score(features: Sequence[SampleFeatures | Problem]) -> list[SampleScore | Problem]:
        usable = [sample for sample in features if not isinstance(sample, Problem)]
        nearest = nearest_toxic(usable, index)
        scored = iter(
            _score_one(sample, index, rule, undefined, proximity, int(place), float(similarity))
            for sample, place, similarity in zip(usable, *nearest, strict=True)
        )
        return [sample if isinstance(sample, Problem) else next(scored) for sample in features]

    return score


def nearest_score(
    sample: SampleFeatures, index: ToxicIndex, proximity: Proximity, contrast: bool
) -> tuple[float, Floats64]:
    """Σ_f a_f p_f / Σ_f a_f, higher nearer to harm, in [-1, 1]; and each latent's part of it.

    `a` is φ, or what it exceeds the benign mean by when `contrast`; `p` is the proximity
    of each decoder direction to the toxic ones (Minegishi et al. 2026). NaN when Σ a = 0.
    """
    weights = latent_weights(sample, index.pack, contrast)
    total = weights.sum()
    if total == 0:
        return float("nan"), weights
    parts = weights * index.proximity[proximity][sample.latents] / total
    return float(parts.sum()), parts


def activation_score(sample: SampleFeatures, pack: FeaturePack) -> tuple[float, Floats64]:
    """Σ_k w_k (φ_k − φ_ref,k) / σ_k over toxic latents, higher nearer to harm, unbounded.

    In benign standard deviations: 0 is a typical benign sample.
    """
    benign_mean = pack.reference[pack.ids].astype(np.float64)
    scale = pack.weights.astype(np.float64) / pack.benign_std
    place = np.searchsorted(sample.latents, pack.ids)
    place[place == len(sample.latents)] = 0
    active = np.zeros(len(pack), bool)
    if len(sample.latents):
        active = sample.latents[place] == pack.ids
    phi = np.zeros(len(pack))
    phi[active] = sample.weights[place[active]]
    terms = scale * (phi - benign_mean)
    parts = np.zeros(len(sample.latents))
    parts[place[active]] = terms[active]
    return float(terms.sum()), parts


def persona_score(sample: SampleFeatures, index: ToxicIndex) -> tuple[float, Floats64]:
    """Mean h on the dense direction toxic − benign, higher nearer to harm, unbounded.

    In units of the residual stream (Chen et al. 2025, persona vectors). The parts are
    those of φ's decoder directions; the SAE's bias and error make up the rest.
    """
    dense = index.pack.dense_direction.astype(np.float64)
    parts = excess(sample, index.pack) * index.dense_overlap[sample.latents]
    return float(sample.mean_hidden.astype(np.float64) @ dense), parts


def spillover_score(sample: SampleFeatures, index: ToxicIndex) -> tuple[float, Floats64]:
    """Cosine of the sample's push to the dense direction, higher nearer to harm, in [-1, 1].

    Which share of what one training step does to the residual stream, −Σ_t ∂ℓ/∂h_t, goes
    towards harm (after Minegishi et al. 2026). The cosine is the same for a summed and an
    averaged loss and does not grow with the length of the response. The parts are
    `persona`'s: what the response wakes along that direction. NaN when there is no push.
    """
    if sample.push is None:
        raise PackError("these features were made without the push that spillover needs")
    push = sample.push.astype(np.float64)
    length = np.linalg.norm(push)
    parts = excess(sample, index.pack) * index.dense_overlap[sample.latents]
    if length == 0:
        return float("nan"), parts
    return float(push @ index.pack.dense_direction.astype(np.float64) / length), parts


def excess(sample: SampleFeatures, pack: FeaturePack) -> Floats64:
    """φ − φ_ref at the sample's active latents."""
    benign = pack.reference[sample.latents].astype(np.float64)
    return sample.weights.astype(np.float64) - benign


def latent_weights(sample: SampleFeatures, pack: FeaturePack, contrast: bool) -> Floats64:
    """a_f at the sample's active latents; it is 0 at all others, since φ_ref >= 0."""
    if contrast:
        return np.maximum(excess(sample, pack), 0.0)
    return sample.weights.astype(np.float64)


def nearest_toxic(features: Sequence[SampleFeatures], index: ToxicIndex) -> Nearest:
    """The toxic direction nearest to each sample's Σ_f (φ − φ_ref)_f W_dec[f]."""
    if not features:
        return Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32))
    decoded = np.stack([sample.decoded for sample in features]) - index.decoded_reference
    parts = [
        index.nearest(decoded[start : start + _SEARCHED_AT_ONCE])
        for start in range(0, len(decoded), _SEARCHED_AT_ONCE)
    ]
    places, similarities = zip(*parts, strict=True)
    return Nearest(np.concatenate(places), np.concatenate(similarities))


def _score_one(
    sample: SampleFeatures,
    index: ToxicIndex,
    rule: _Rule,
    undefined: Problem,
    proximity: Proximity,
    place: int,
    similarity: float,
) -> SampleScore | Problem:
    # A sample whose features are the benign mean exactly points nowhere.
    if place < 0 or len(sample.latents) == 0:
        return NO_FEATURES
    score, parts = rule(sample, place, similarity)
    if np.isnan(score):
        return undefined
    return SampleScore(
        score=score,
        n_tokens=sample.n_tokens,
        nearest_feature=int(index.pack.ids[place]),
        nearest_similarity=similarity,
        explained_variance=sample.explained_variance(index.pack.residual_mean),
        top_features=_top_features(sample, index, proximity, parts),
    )


def _top_features(
    sample: SampleFeatures, index: ToxicIndex, proximity: Proximity, parts: Floats64
) -> tuple[TopFeature, ...]:
    """The latents that raise the score most, with what they exceed the benign mean by."""
    above = excess(sample, index.pack)
    order = [place for place in np.argsort(-parts, kind="stable")[:TOP_FEATURES] if parts[place]]
    return tuple(
        TopFeature(
            feature=int(sample.latents[place]),
            weight=float(above[place]),
            proximity=float(index.proximity[proximity][sample.latents[place]]),
        )
        for place in order
    )


class BatchScorer:
    """Scores encoded samples: `batch_scorer(samples)` gives one answer each, in order.

    `features` gives what all scorers work on; `make_scorer(name, batch_scorer.index)` makes
    further scorers for the same forward pass.
    """

    def __init__(
        self,
        model: LoadedModel,
        pack: FeaturePack,
        *,
        scorer: ScorerName = "nearest",
        proximity: Proximity = "nearest",
        contrast: bool = True,
    ) -> None:
        """Raises `PackError` when the pack was made with another model or SAE."""
        pack.verify(model)
        self.model = model
        self.index = ToxicIndex(pack, model.decoder)
        self._scorer = make_scorer(scorer, self.index, proximity=proximity, contrast=contrast)
        self._with_push = scorer == "spillover"
        self._budget = TokenBudget.for_device(model.device)
        if self._with_push:
            require_whole(model)
            self._budget = spillover_budget(model, self._budget)

    def __call__(self, samples: "Sequence[Encoded]") -> list[SampleScore | Problem]:
        return self._scorer(self.features(samples))

    def features(self, samples: "Sequence[Encoded]") -> list[SampleFeatures | Problem]:
        """Features of the samples, pooled as the pack was made, in order."""
        pooling = self.index.pack.pooling
        return sample_features(
            self.model,
            samples,
            pooling=pooling,
            budget=self._budget,
            with_push=self._with_push,
        )


def domain_fit(
    unknown_share: Sequence[float | None],
    explained_variance: Sequence[float],
    contrast: ContrastSummary,
    *,
    figures: str = "scores",
) -> str | None:
    """One line of warning when the data looks like nothing that the model or SAE knows.

    Both sequences hold one value per scored sample. The typical (median) row is compared
    with the contrast rows of the pack: the line comes when it holds a greater share of unknown
    tokens, or is explained less by the SAE, than 95 % of those rows, by 0.05 at least.
    """
    signs = []
    unknown = [share for share in unknown_share if share is not None]
    ceiling = contrast.unknown_share_ceiling
    if unknown and ceiling is not None:
        typical = float(np.median(unknown))
        if typical > ceiling + _FIT_MARGIN:
            signs.append(f"the model knows no word for {typical:.0%} of a typical response")
    explained = [share for share in explained_variance if not np.isnan(share)]
    if explained:
        typical = float(np.median(explained))
        if typical < contrast.explained_variance_floor - _FIT_MARGIN:
            signs.append(
                f"the SAE explains {typical:.0%} of the variance of a typical response, "
                f"against {contrast.explained_variance:.0%} of the contrast rows"
            )
    if not signs:
        return None
    return f"these {figures} mean little: {'; '.join(signs)}; choose a model that knows such text"
