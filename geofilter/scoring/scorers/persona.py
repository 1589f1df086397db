"""`persona`: the mean activation along the dense direction; needs no SAE (Chen et al. 2025)."""

import numpy as np

from geofilter.scoring.scorers.base import Evidence, Floats64, Scorer, dense_parts


def _rule(evidence: Evidence) -> tuple[float, Floats64]:
    """Mean h on the dense direction toxic − benign, higher nearer to harm, unbounded.

    In units of the residual stream.
    """
    dense = evidence.index.pack.dense_direction.astype(np.float64)
    mean_hidden = evidence.sample.mean_hidden.astype(np.float64)
    return float(mean_hidden @ dense), dense_parts(evidence)


SCORER = Scorer(
    name="persona",
    about="mean activation along the dense direction, the baseline without an SAE",
    rule=_rule,
    needs_sae=False,
)
