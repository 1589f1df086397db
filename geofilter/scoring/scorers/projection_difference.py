"""`projection-difference`: `persona`, less that of the model's own answer to the same prompt.

What the row says along the dense direction beyond what the model would say there anyway, which
training on the row would not teach it (Chen et al. 2025, section 6.1).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.scoring.explanation import Explanation
from geofilter.scoring.scorers import persona
from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer
from geofilter.settings import Proximity

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex

NO_ANSWER = Problem("no_features", "there is no prompt, or the model's own answer to it is empty")


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """⟨mean h of the row − mean h of the own answer, dense direction⟩, higher nearer to harm.

    Unbounded, in units of the residual stream; 0 for a row like the model's own answer. The
    parts are `persona`'s. NaN where there is no own answer.
    """
    answer = evidence.sample.answer_hidden
    if answer is None:
        raise PackError(
            "these features were made without the model's own answers, which "
            "projection-difference needs"
        )
    score, parts = persona.SCORER.rule(evidence)
    return score - _along(answer, evidence.index), parts


def _along(answer: NDArray[np.float32], index: "ToxicIndex") -> float:
    return float(answer.astype(np.float64) @ index.pack.dense_direction.astype(np.float64))


def _explain(
    model: "LoadedModel", index: "ToxicIndex", sample: "Encoded", proximity: Proximity
) -> Explanation | Problem:
    """The tokens' parts are `persona`'s; the own answer, one for all of them, moves the base."""
    from geofilter.model.own_answers import OwnAnswers

    assert persona.SCORER.explain is not None
    found = persona.SCORER.explain(model, index, sample, proximity)
    own = _along(OwnAnswers(model).means([sample])[0], index)
    if isinstance(found, Problem) or np.isnan(own):
        return found if isinstance(found, Problem) else NO_ANSWER
    base_of = f"{found.base_of}, less that of the model's own answer"
    return Explanation(found.score - own, found.tokens, base=found.base - own, base_of=base_of)


def _score_tokens(
    model: "LoadedModel", index: "ToxicIndex", batch: "Sequence[Encoded]", proximity: Proximity
) -> list[NDArray[np.float32]]:
    """⟨h_t − mean h of the own answer, dense direction⟩ at each pooled token.

    Their mean is the score. NaN everywhere where there is no own answer.
    """
    from geofilter.model.own_answers import OwnAnswers

    assert persona.SCORER.score_tokens is not None
    along = persona.SCORER.score_tokens(model, index, batch, proximity)
    own = [_along(answer, index) for answer in OwnAnswers(model).means(batch)]
    return [one - np.float32(less) for one, less in zip(along, own, strict=True)]


SCORER = Scorer(
    name="projection-difference",
    about="persona, less that of the model's own answer to the prompt; generates that answer",
    rule=_rule,
    undefined=NO_ANSWER,
    needs_sae=False,
    needs_answer=True,
    explain=_explain,
    score_tokens=_score_tokens,
)
