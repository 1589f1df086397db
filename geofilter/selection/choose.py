"""From scores to a decision: which rows to keep and which to drop.

Choosing again costs nothing: only scores come in, and indices of rows go out.
Every row is in exactly one of the two, and a row without a score is dropped only
where that is asked for.
"""

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from geofilter.errors import GeofilterError

Indices = npt.NDArray[np.int64]
Unscored = Literal["keep", "drop"]


@dataclass(frozen=True, eq=False)
class Selection:
    """A decision over all rows. Indices are row numbers from 0, ascending.

    `keep` and `drop` hold every row once. `unscored` names the rows without a
    score, which are in `keep` or in `drop` as was asked. `threshold`: every
    scored row above it is dropped and every one below it is kept; None when no
    scored row is dropped by a fraction, and where something else than the score
    decided. `n_tied_kept` counts the kept rows whose score equals that of a dropped
    one: only their place in the file decided.
    """

    keep: Indices  # (rows kept,)
    drop: Indices  # (rows dropped,)
    unscored: Indices  # (rows without a score,)
    threshold: float | None
    n_tied_kept: int

    @property
    def n_rows(self) -> int:
        return len(self.keep) + len(self.drop)

    @property
    def n_scored(self) -> int:
        return self.n_rows - len(self.unscored)


def drop_fraction(
    scores: npt.ArrayLike, fraction: float, *, unscored: Unscored = "keep"
) -> Selection:
    """Drop the `fraction` of the scored rows that lies nearest to harm.

    `scores`: shape (rows,), higher = nearer to harm, masked where unscored, as
    `ScoreTable.scores` gives them.

    Exactly floor(fraction * scored rows) rows are dropped, so never more than
    asked for; the fraction counts as the decimal it is written as (0.29 of 100
    rows is 29). Of equal scores at the cut the earlier rows are dropped: the
    dropped rows are those of the ranks 1, 2, 3, ... of the score table.

    Raises `GeofilterError` for a fraction outside [0, 1], `ValueError` for NaN.
    """
    values, is_scored = split_scores(scores)
    if not 0 <= fraction <= 1:
        raise GeofilterError(
            f"drop fraction {fraction}: is not between 0 and 1; give 0.5 to drop the nearest half"
        )
    scored = np.flatnonzero(is_scored)
    n_drop = math.floor(Decimal(repr(float(fraction))) * len(scored))
    # A stable sort keeps ties in the order of the rows.
    dropped = scored[np.argsort(-values[scored], kind="stable")[:n_drop]]
    cut = float(values[dropped[-1]]) if n_drop else None
    return _select(values, is_scored, dropped, cut, unscored)


def threshold(scores: npt.ArrayLike, value: float, *, unscored: Unscored = "keep") -> Selection:
    """Drop every scored row whose score is `value` or more.

    `scores` as in `drop_fraction`. `value` is rounded to the type of the scores
    first, so that a score shown as 0.7 is dropped at 0.7.

    Raises `GeofilterError` when `value` is NaN, `ValueError` for NaN in `scores`.
    """
    values, is_scored = split_scores(scores)
    if math.isnan(value):
        raise GeofilterError(f"threshold {value}: is not a number; give a score, such as 0.4")
    with np.errstate(over="ignore"):  # beyond the type's range is infinite, as it should be
        cut = values.dtype.type(value)
    dropped = np.flatnonzero(is_scored & (values >= cut))
    return _select(values, is_scored, dropped, float(cut), unscored)


def margin(
    scores: npt.ArrayLike,
    rejected: npt.ArrayLike,
    value: float,
    *,
    unscored: Unscored = "keep",
) -> Selection:
    """Drop every row whose chosen answer scores more than `value` above its rejected one.

    `scores` as in `drop_fraction`; `rejected` alike, masked where there is no second answer, or
    none with a score. Such a row is kept, for nothing is known of the difference.

    Raises `GeofilterError` for a `value` below 0 or NaN, `ValueError` for NaN in the scores.
    """
    values, is_scored = split_scores(scores)
    others, has_other = split_scores(rejected, "rejected scores")
    if not value >= 0:
        raise GeofilterError(
            f"margin {value:g}: is not 0 or more; give how much nearer to harm the chosen answer "
            "has to be, such as 0.1"
        )
    difference = values.astype(np.float64) - others.astype(np.float64)
    dropped = np.flatnonzero(is_scored & has_other & (difference > value))
    found = _select(values, is_scored, dropped, None, unscored)
    return replace(found, n_tied_kept=0)  # no rank decided


def split_scores(
    scores: npt.ArrayLike, what: str = "scores"
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.bool_]]:
    """The scores and where there is one. A NaN is a bug in a scorer, not a row without a score."""
    masked: np.ma.MaskedArray[Any, np.dtype[Any]] = np.ma.asarray(scores)
    if masked.ndim != 1:
        raise ValueError(f"{what} have shape {masked.shape}, one number for each row is needed")
    values = np.asarray(masked.data)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    is_scored = ~np.ma.getmaskarray(masked)
    if np.isnan(values[is_scored]).any():
        raise ValueError(f"{what}: NaN is not a score; mask the rows that are unscored")
    return values, is_scored


def _select(
    values: npt.NDArray[np.floating[Any]],
    is_scored: npt.NDArray[np.bool_],
    dropped: Indices,
    cut: float | None,
    unscored: Unscored,
) -> Selection:
    if unscored not in ("keep", "drop"):
        raise ValueError(f"unscored is {unscored!r}; it is 'keep' or 'drop'")
    is_dropped = np.zeros(len(values), dtype=bool)
    is_dropped[dropped] = True
    n_tied = 0
    if len(dropped):
        lowest = values[dropped].min()
        n_tied = int((is_scored & ~is_dropped & (values == lowest)).sum())
    if unscored == "drop":
        is_dropped |= ~is_scored
    return Selection(
        keep=np.flatnonzero(~is_dropped),
        drop=np.flatnonzero(is_dropped),
        unscored=np.flatnonzero(~is_scored),
        threshold=cut,
        n_tied_kept=n_tied,
    )
