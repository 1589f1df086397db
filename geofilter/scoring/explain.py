"""Why a sample has its score: which tokens activated which features, or where it pushes.

Only scores that are sums over tokens can be divided. For the others `nearest` is, and a
reader of the explanation has to know that: see `explained_by`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.errors import ModelError
from geofilter.scoring.explanation import Explanation
from geofilter.scoring.scorers import SCORERS, nearest, scorer_named
from geofilter.scoring.scorers.base import Scorer
from geofilter.settings import Proximity

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex

# Gives each sample's (tokens,), higher = nearer to harm, NaN where a token has no score.
TokenScorer = Callable[[Sequence["Encoded"]], list[NDArray[np.float32]]]


def explained_by(name: str) -> Scorer:
    """The scorer whose score is divided to explain one by the scorer `name`."""
    scorer = scorer_named(name)
    return nearest.SCORER if scorer.explain is None else scorer


def explain(
    model: "LoadedModel",
    index: "ToxicIndex",
    sample: "Encoded",
    *,
    scorer: str = "nearest",
    proximity: Proximity = "nearest",
) -> Explanation | Problem:
    """Divide the sample's score by `explained_by(scorer)` among its tokens.

    Give the `proximity` that the score was made with.
    """
    divide = explained_by(scorer).explain
    assert divide is not None
    return divide(model, index, sample, proximity)


def token_scorer(
    model: "LoadedModel", index: "ToxicIndex", name: str, proximity: Proximity
) -> TokenScorer:
    """What scores the tokens of samples, for masks; give the `proximity` of the scores.

    Raises `ModelError` for a scorer whose scores are no sums over tokens.
    """
    from geofilter.model.activations import TokenBudget, in_batches
    from geofilter.model.gradients import require_whole, spillover_budget

    scorer = scorer_named(name)
    score_tokens = scorer.score_tokens
    if score_tokens is None:
        dividable = [one.name for one in SCORERS.values() if one.score_tokens is not None]
        raise ModelError(
            f"scores by {name} are no sums over tokens, so that none can be masked; score with "
            f"--scorer {', '.join(dividable[:-1])} or {dividable[-1]}, or choose another --action"
        )
    budget = TokenBudget.for_device(model.device)
    if scorer.needs_push:
        require_whole(model)
        budget = spillover_budget(model, budget)

    def work(batch: "list[Encoded]") -> list[NDArray[np.float32]]:
        return score_tokens(model, index, batch, proximity)

    return lambda samples: in_batches(samples, work, budget)
