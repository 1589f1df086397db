"""Whether the data looks like text that the model and its SAE know."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from geofilter.packs.pack import ContrastSummary

# How far beyond what 95 % of contrast rows showed the typical row must be. Without it, a
# tokenizer that knew every word there would warn at the first it does not.
_FIT_MARGIN = 0.05


def domain_fit(
    unknown_share: Sequence[float | None],
    explained_variance: Sequence[float],
    contrast: "ContrastSummary",
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
    usual, floor = contrast.explained_variance, contrast.explained_variance_floor
    if explained and usual is not None and floor is not None:
        typical = float(np.median(explained))
        if typical < floor - _FIT_MARGIN:
            signs.append(
                f"the SAE explains {typical:.0%} of the variance of a typical response, "
                f"against {usual:.0%} of the contrast rows"
            )
    if not signs:
        return None
    return f"these {figures} mean little: {'; '.join(signs)}; choose a model that knows such text"
