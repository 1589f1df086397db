"""What a scorer is: its rule, what it needs, and how its scores are divided among tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.settings import Proximity

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.features import SampleFeatures
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex
    from geofilter.packs.pack import FeaturePack
    from geofilter.scoring.explanation import Explanation

Floats64 = NDArray[np.float64]

NO_FEATURES = Problem("no_features", "no SAE latent is more active than in benign text")


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a rule may look at.

    `nearest` is the place in the pack of the toxic direction nearest to the sample's
    Σ_f (φ − φ_ref)_f W_dec[f], and `similarity` the cosine to it, in [-1, 1].
    """

    sample: "SampleFeatures"
    index: "ToxicIndex"
    nearest: int
    similarity: float
    proximity: Proximity


# The score, NaN where it is undefined, and what each active latent contributes to it.
Rule = Callable[[Evidence], tuple[float, Floats64]]


class Explain(Protocol):
    """Divides a sample's score among its tokens; the parts sum to it."""

    def __call__(
        self,
        model: "LoadedModel",
        index: "ToxicIndex",
        sample: "Encoded",
        proximity: Proximity,
    ) -> "Explanation | Problem": ...


class ScoreTokens(Protocol):
    """Scores a batch token by token: (tokens,) each, NaN where a token has no score."""

    def __call__(
        self,
        model: "LoadedModel",
        index: "ToxicIndex",
        batch: "Sequence[Encoded]",
        proximity: Proximity,
    ) -> "list[NDArray[np.float32]]": ...


@dataclass(frozen=True, slots=True)
class Scorer:
    """One way to score a sample; higher is nearer to harm.

    `about`: one line for people. `undefined`: why a sample has no score where `rule` gives
    NaN. `needs_sae`: whether the rule reads SAE latents; without, a dense direction is
    enough. `needs_push`: whether the whole model is run, forward and back to block L; if
    not, the blocks 0..L are. `needs_query`: whether the gradient of the pack's contrast rows,
    which no pack holds, is needed too. `needs_answer`: whether the model's own answer to the
    prompt is read, which the whole model generates. `settings`: the fields of `Settings` that
    belong to it.
    `explain`, `score_tokens`: only for scores that are sums over tokens.
    `foretells_harm`: whether the mean over a data set was seen to order data sets by the
    misalignment that followed (docs/spillover.md).
    """

    name: str
    about: str
    rule: Rule
    undefined: Problem = NO_FEATURES
    needs_sae: bool = True
    needs_push: bool = False
    needs_query: bool = False
    needs_answer: bool = False
    settings: tuple[str, ...] = ()
    explain: Explain | None = None
    score_tokens: ScoreTokens | None = None
    foretells_harm: bool = False

    @property
    def needs_whole(self) -> bool:
        """Whether the model's later blocks and its head are needed."""
        return self.needs_push or self.needs_answer


def excess(sample: "SampleFeatures", pack: "FeaturePack") -> Floats64:
    """φ − φ_ref at the sample's active latents."""
    benign = pack.reference[sample.latents].astype(np.float64)
    return sample.weights.astype(np.float64) - benign


def dense_parts(evidence: Evidence) -> Floats64:
    """What each active latent adds along the dense direction; bias and error are the rest."""
    index = evidence.index
    return excess(evidence.sample, index.pack) * index.dense_overlap[evidence.sample.latents]
