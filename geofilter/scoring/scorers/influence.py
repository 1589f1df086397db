"""`influence`: whether training on the sample makes the pack's harmful answers likelier.

Gradient influence in the form of TracIn (Pruthi et al. 2020): the dot product of two gradients.
The query is the mean loss of the harmful contrast rows less that of the helpful ones, and the
gradients are those of the weights of all linear layers of block L. Concept Influence
(2602.14869) puts a direction in the place of such a loss; `spillover` is near to that.
"""

from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.scoring.explanation import ExplainedToken, Explanation
from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer, dense_parts
from geofilter.scoring.scorers.spillover import NO_PUSH
from geofilter.settings import Proximity

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """⟨∇ℓ, ∇(harmful loss − helpful loss)⟩, higher nearer to harm, unbounded.

    ℓ is the mean loss of the response tokens. A step of plain gradient descent on the sample
    changes the difference of the two losses by −rate · score, to first order: with a positive
    score harmful answers become likelier than helpful ones. The parts are `persona`'s: what the
    response activates along the dense direction. NaN where nothing is predicted.
    """
    value = evidence.sample.influence
    if value is None:
        raise PackError("these features were made without the query that influence needs")
    return value, dense_parts(evidence)


def _explain(
    model: "LoadedModel", index: "ToxicIndex", sample: "Encoded", proximity: Proximity
) -> Explanation | Problem:
    """A token's part is Σ over the layers of g_tᵀ Q a_t: what its place adds to the score."""
    from geofilter.model.features import NOT_FINITE
    from geofilter.model.influence import influences, is_predicted
    from geofilter.packs.query import query_of

    if not is_predicted(sample):
        return NO_PUSH
    found = influences(model, [sample], query_of(model, index.pack))
    parts = found.influence[0].double().cpu().numpy()
    if not np.isfinite(parts).all():
        return NOT_FINITE
    tokens = tuple(
        ExplainedToken(place, model.tokenizer.decode([int(token)]), float(part), ())
        for place, (token, part) in enumerate(zip(sample.ids, parts, strict=True))
    )
    return Explanation(float(parts.sum()), tokens, whole_conversation=True)


SCORER = Scorer(
    name="influence",
    about="how much likelier training on the row makes harmful answers; runs the whole model",
    rule=_rule,
    undefined=NO_PUSH,
    needs_sae=False,
    needs_push=True,
    needs_query=True,
    explain=_explain,
)
