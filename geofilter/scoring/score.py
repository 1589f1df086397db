"""From sample features and a pack to one number per sample.

A scorer works on the features and the toxic index only, so that several run from one
forward pass. For every scorer, higher is nearer to harm. What cannot be scored is a
`Problem`, never 0.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.model.activations import TokenBudget
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.gradients import require_whole, spillover_budget
from geofilter.model.loading import LoadedModel
from geofilter.model.own_answers import OwnAnswers
from geofilter.packs.index import Nearest, ToxicIndex
from geofilter.packs.pack import FeaturePack
from geofilter.packs.query import query_of
from geofilter.scoring.scorers import refuse_without_sae, scorer_named
from geofilter.scoring.scorers.base import NO_FEATURES, Evidence, Floats64, Scorer, excess
from geofilter.settings import PROXIMITIES, Proximity
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

TOP_FEATURES = 5

# From 20 queries on, FAISS multiplies matrices, whose rounding depends on how many there
# are; below, a sample's figures are its own.
_SEARCHED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class TopFeature:
    """One SAE latent that makes a score: `weight` is a_f, `proximity` p_f in [-1, 1]."""

    feature: int
    weight: float
    proximity: float


@dataclass(frozen=True, slots=True)
class SampleScore:
    """A sample's score; higher is nearer to harm.

    `nearest_feature` is the toxic feature nearest to Σ_f (φ − φ_ref)_f W_dec[f], and
    `nearest_similarity` the cosine in [-1, 1]. `explained_variance` says how much of the
    sample the SAE sees (at most 1). `top_features` contributed most, greatest first. By a
    dense pack these are None, NaN, NaN and empty.
    """

    score: float
    n_tokens: int
    nearest_feature: int | None
    nearest_similarity: float
    explained_variance: float
    top_features: tuple[TopFeature, ...]


# Answers in the order of the features; problems among them are passed on.
ScoreFeatures = Callable[[Sequence[SampleFeatures | Problem]], list[SampleScore | Problem]]


def make_scorer(name: str, index: ToxicIndex, *, proximity: Proximity = "nearest") -> ScoreFeatures:
    """What scores features by the scorer `name` of the table.

    `proximity` belongs to `nearest`. Raises `PackError` for a name or proximity that is
    unknown, and for a scorer that needs an SAE where the index is of a dense pack.
    """
    if proximity not in PROXIMITIES:
        raise PackError(f"proximity {proximity!r} is not known; choose {' or '.join(PROXIMITIES)}")
    scorer = scorer_named(name)
    if index.pack.is_dense:
        refuse_without_sae(name)

    def score(features: Sequence[SampleFeatures | Problem]) -> list[SampleScore | Problem]:
        usable = [sample for sample in features if not isinstance(sample, Problem)]
        nearest = nearest_toxic(usable, index)
        scored = iter(
            _score_one(scorer, Evidence(sample, index, int(place), float(similarity), proximity))
            for sample, place, similarity in zip(usable, *nearest, strict=True)
        )
        return [sample if isinstance(sample, Problem) else next(scored) for sample in features]

    return score


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


def _score_one(scorer: Scorer, evidence: Evidence) -> SampleScore | Problem:
    sample, pack = evidence.sample, evidence.index.pack
    # A sample whose features are the benign mean exactly points nowhere.
    if not pack.is_dense and (evidence.nearest < 0 or len(sample.latents) == 0):
        return NO_FEATURES
    score, parts = scorer.rule(evidence)
    if np.isnan(score):
        return scorer.undefined
    return SampleScore(
        score=score,
        n_tokens=sample.n_tokens,
        nearest_feature=None if pack.is_dense else int(pack.ids[evidence.nearest]),
        nearest_similarity=evidence.similarity,
        explained_variance=sample.explained_variance(pack.residual_mean),
        top_features=_top_features(evidence, parts),
    )


def _top_features(evidence: Evidence, parts: Floats64) -> tuple[TopFeature, ...]:
    """The latents that raise the score most, with what they exceed the benign mean by."""
    sample = evidence.sample
    proximity = evidence.index.proximity[evidence.proximity]
    above = excess(sample, evidence.index.pack)
    order = [place for place in np.argsort(-parts, kind="stable")[:TOP_FEATURES] if parts[place]]
    return tuple(
        TopFeature(
            feature=int(sample.latents[place]),
            weight=float(above[place]),
            proximity=float(proximity[sample.latents[place]]),
        )
        for place in order
    )


class BatchScorer:
    """Scores encoded samples: `batch_scorer(samples)` gives one answer each, in order.

    `features` gives what all scorers work on; `make_scorer(name, batch_scorer.index)` makes
    further scorers for the same forward pass. `answers`: the model's own, where the scorer
    reads them.
    """

    def __init__(
        self,
        model: LoadedModel,
        pack: FeaturePack,
        *,
        scorer: str = "nearest",
        proximity: Proximity = "nearest",
        progress: Progress = no_progress,
    ) -> None:
        """`progress` hears of the query that is made of the pack's contrast rows, if any.

        Raises `PackError` when the pack was made with another model or SAE, or when those rows
        are needed and cannot be found.
        """
        pack.verify(model)
        self.model = model
        self.index = ToxicIndex(pack, model.decoder)
        self._scorer = make_scorer(scorer, self.index, proximity=proximity)
        self._with_push = scorer_named(scorer).needs_push
        self.answers = OwnAnswers(model) if scorer_named(scorer).needs_answer else None
        self._budget = TokenBudget.for_device(model.device)
        if self._with_push:
            require_whole(model)
            self._budget = spillover_budget(model, self._budget)
        self._query = None
        if scorer_named(scorer).needs_query:
            self._query = query_of(model, pack, progress)

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
            query=self._query,
            answers=self.answers,
        )
