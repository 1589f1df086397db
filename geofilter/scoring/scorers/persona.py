"""`persona`: the mean activation along the dense direction; needs no SAE (Chen et al. 2025)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.scoring.explanation import ExplainedToken, Explanation
from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer, dense_parts
from geofilter.settings import Proximity

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel
    from geofilter.packs.index import ToxicIndex
    from geofilter.packs.pack import FeaturePack


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """Mean h on the dense direction toxic − benign, higher nearer to harm, unbounded.

    In units of the residual stream.
    """
    return projection(evidence.sample.mean_hidden, evidence.index.pack), dense_parts(evidence)


def projection(mean_hidden: NDArray[np.float32], pack: "FeaturePack") -> float:
    """⟨mean h, dense direction⟩, in units of the residual stream; `mean_hidden` is (d_model,)."""
    return float(mean_hidden.astype(np.float64) @ pack.dense_direction.astype(np.float64))


def _explain(
    model: "LoadedModel", index: "ToxicIndex", sample: "Encoded", proximity: Proximity
) -> Explanation | Problem:
    """A token's part is ⟨h_t − c, dense direction⟩ over the number of pooled tokens.

    c is the pack's mean residual stream, whose score is the base: any text has it.
    """
    from geofilter.model.features import NO_TOKENS, NOT_FINITE

    places = np.flatnonzero(sample.pooled)
    if len(places) == 0:
        return NO_TOKENS
    (along,) = _score_tokens(model, index, [sample], proximity)
    pack = index.pack
    base = float(pack.residual_mean.astype(np.float64) @ pack.dense_direction)
    parts = (along[places].astype(np.float64) - base) / len(places)
    if not np.isfinite(parts).all():
        return NOT_FINITE
    tokens = tuple(
        ExplainedToken(int(place), model.tokenizer.decode([int(sample.ids[place])]), float(part))
        for place, part in zip(places, parts, strict=True)
    )
    return Explanation(base + float(parts.sum()), tokens, base=base)


def _score_tokens(
    model: "LoadedModel", index: "ToxicIndex", batch: "Sequence[Encoded]", proximity: Proximity
) -> list[NDArray[np.float32]]:
    """⟨h_t, dense direction⟩ at each pooled token: their mean is the score."""
    import torch

    from geofilter.model.activations import residuals

    hidden = residuals(model, batch)  # (batch, longest, d_model)
    dense = torch.from_numpy(index.pack.dense_direction).to(hidden.device)
    along = (hidden.float() @ dense).cpu().numpy()  # (batch, longest)
    return [
        np.where(sample.pooled, own[: len(sample.ids)], np.float32(np.nan))
        for sample, own in zip(batch, along, strict=True)
    ]


SCORER = Scorer(
    name="persona",
    about="mean activation along the dense direction, the baseline without an SAE",
    rule=_rule,
    needs_sae=False,
    explain=_explain,
    score_tokens=_score_tokens,
)
