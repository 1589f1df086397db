"""From what was found about a row's sides to its line of the score table.

This module knows nothing about where the findings come from: a model, or features
that were saved.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Problem
from geofilter.scoring.features_file import Side
from geofilter.scoring.table import FeatureShare, ScoreRow
from geofilter.support.display import escape

if TYPE_CHECKING:  # Reading a table back must not load a model library.
    from geofilter.scoring.score import SampleScore

_LARGEST = float(np.finfo(np.float32).max)


def make_line(
    row: int,
    row_hash: str,
    sides: Sequence[Side],
    results: "Sequence[SampleScore | Problem]",
) -> ScoreRow:
    """The line of a row from its sides and the result of each; the row's own side first."""
    results = [_finite(result) for result in results]
    side, result = sides[0], results[0]
    other = results[1] if len(results) > 1 else None
    reason = escape("; ".join(_reasons(sides, results)), limit=500) or None
    rejected = None if other is None or isinstance(other, Problem) else _number(other.score)
    unknown = _number(side.unknown_share)
    if isinstance(result, Problem):
        return ScoreRow(
            row=row,
            row_hash=row_hash,
            score=None,
            status=result.status,
            reason=reason,
            n_tokens=side.pooled_tokens,
            rejected_score=rejected,
            unknown_share=unknown,
        )
    truncated = any(
        one.truncated and not isinstance(scored, Problem)
        for one, scored in zip(sides, results, strict=True)
    )
    return ScoreRow(
        row=row,
        row_hash=row_hash,
        score=_number(result.score),
        status="truncated" if truncated else "scored",
        reason=reason,
        n_tokens=result.n_tokens,
        nearest_feature=result.nearest_feature,
        nearest_similarity=_number(result.nearest_similarity),
        top_features=tuple(
            FeatureShare(top.feature, _required(top.weight), _required(top.proximity))
            for top in result.top_features
        ),
        rejected_score=rejected,
        unknown_share=unknown,
        explained_variance=_number(result.explained_variance),
    )


def _finite(result: "SampleScore | Problem") -> "SampleScore | Problem":
    """The result, or a problem in place of a score that float32 cannot hold as a number."""
    if not isinstance(result, Problem) and not _is_finite(result.score):
        return Problem("not_finite", f"the score is {result.score}")
    return result


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _LARGEST


def _number(value: float | None) -> float | None:
    """The value as the table's float32 holds it, so that a copy equals its original."""
    if value is None or not _is_finite(value):
        return None
    return float(np.float32(value))


def _required(value: float) -> float:
    return float(np.float32(value))


def _reasons(sides: Sequence[Side], results: "Sequence[SampleScore | Problem]") -> list[str]:
    """What there is to say about a row, the rejected side's after the row's own."""
    reasons = []
    names = ("", "rejected: ") if len(sides) > 1 else ("",)
    for name, side, result in zip(names, sides, results, strict=True):
        if isinstance(result, Problem):
            reasons.append(f"{name}{result.status}: {result.reason}" if name else result.reason)
        elif side.truncated:
            seen = f"scored on {side.window_tokens} of its {side.total_tokens} tokens"
            reasons.append(name + seen)
    return reasons
