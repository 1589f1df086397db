"""`spillover`: where one training step on the sample pushes the residual stream.

What a step moves along a toxic direction strengthens that feature, wanted or not (after
Minegishi et al. 2026). The score is a sum over all tokens, prompt and response.

It is Concept Influence (Kowal et al., 2602.14869) with a probe's direction as the concept, where
all that is trained is one vector added to the residual stream after block L, without a curvature
between the gradients, and divided by the length of the row's own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.scoring.explanation import ExplainedToken, Explanation
from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer, dense_parts
from geofilter.settings import Proximity

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex

NO_PUSH = Problem("no_features", "no token of the response is predicted by one before it")


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """Cosine of the sample's push to the dense direction, higher nearer to harm, in [-1, 1].

    The push is −Σ_t ∂ℓ/∂h_t: what one training step does to the residual stream. The cosine
    is the same for a summed and an averaged loss and does not grow with the length of the
    response. The parts are `persona`'s: what the response activates along that direction.
    NaN when there is no push.
    """
    sample = evidence.sample
    if sample.push is None:
        raise PackError("these features were made without the push that spillover needs")
    push = sample.push.astype(np.float64)
    length = np.linalg.norm(push)
    if length == 0:
        return float("nan"), dense_parts(evidence)
    dense = evidence.index.pack.dense_direction.astype(np.float64)
    return float(push @ dense / length), dense_parts(evidence)


def _explain(
    model: "LoadedModel", index: "ToxicIndex", sample: "Encoded", proximity: Proximity
) -> Explanation | Problem:
    """A token's part is ⟨−∂ℓ/∂h_t, dense direction⟩ over the length of the whole push.

    It is what a training step does to the residual stream at that token, for the sake of the
    response tokens after it.
    """
    from geofilter.model.features import NOT_FINITE
    from geofilter.model.gradients import pushes

    push = pushes(model, [sample]).push[0].double().cpu().numpy()  # (tokens, d_model)
    length = np.linalg.norm(push.sum(axis=0))
    if length == 0 or not np.isfinite(length):
        return NO_PUSH if length == 0 else NOT_FINITE
    parts = push @ index.pack.dense_direction.astype(np.float64) / length
    tokens = tuple(
        ExplainedToken(place, model.tokenizer.decode([int(token)]), float(part), ())
        for place, (token, part) in enumerate(zip(sample.ids, parts, strict=True))
    )
    return Explanation(float(parts.sum()), tokens, whole_conversation=True)


def _score_tokens(
    model: "LoadedModel", index: "ToxicIndex", batch: "Sequence[Encoded]", proximity: Proximity
) -> list[NDArray[np.float32]]:
    """Σ_s ⟨−∂ℓ_t/∂h_s, v⟩ / |Σ_s ∂ℓ/∂h_s|: what the loss of token t adds to the score.

    They sum to the score. Positive where a step on that token alone would move the residual
    stream towards harm.
    """
    from geofilter.model.gradients import pushes, token_pushes, total_pushes

    totals = total_pushes(pushes(model, batch).push, batch)
    along = token_pushes(model, batch, index.pack.dense_direction)
    found = []
    for total, parts in zip(totals, along, strict=True):
        length = float(np.linalg.norm(total.astype(np.float64)))
        usable = length > 0 and np.isfinite(length)
        found.append(parts / np.float32(length) if usable else np.full_like(parts, np.nan))
    return found


SCORER = Scorer(
    name="spillover",
    about="how far a training step on the row pushes towards harm; runs the whole model",
    rule=_rule,
    undefined=NO_PUSH,
    needs_sae=False,
    needs_push=True,
    explain=_explain,
    score_tokens=_score_tokens,
    foretells_harm=True,
)
