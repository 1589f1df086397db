"""A threshold with a bound on how much of what is dropped is clean.

A reference of clean rows says how high clean rows score. The rate of clean rows among
the dropped (false discoveries) is then bounded on average, if the reference is
exchangeable with the clean rows of the data: no way of telling, from anything but
their labels, which clean row stands in which of the two. Rows that are equal stand in one
of the two together, so that all counting is of different rows.

Conformal p-values: Bates, Candès, Lei, Romano and Sesia (2023), Testing for outliers with
conformal p-values. The step-up rule: Benjamini and Hochberg (1995).

Nothing here can see whether the condition holds; `reference_check` sees some of the ways in
which it does not.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geofilter.errors import GeofilterError
from geofilter.selection.choose import Selection, Unscored, drop_fraction, split_scores, threshold

# What a curve shows unless it is asked for something else.
FRACTIONS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7)
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)

_Values = npt.NDArray[np.floating[Any]]


def fdr(
    scores: npt.ArrayLike,
    reference: npt.ArrayLike,
    q: float,
    *,
    hashes: Iterable[str] | None = None,
    unscored: Unscored = "keep",
) -> Selection:
    """Drop as many rows as can go with at most a share `q` of clean rows among them, on average.

    `scores`: shape (rows,), higher = nearer to harm, masked where unscored, as
    `ScoreTable.scores` gives them. `reference`: the scores of n clean rows by the same
    scorer, shape (n,), each row once and none of the data; masked ones are left out.
    `hashes`: a text for each row of the data, equal for equal rows, such as
    `ScoreTable.column("row_hash")`; equal rows count as one, by the highest of their scores.
    Left out, every row counts. Equal scores go or stay together; `threshold` of the answer is the
    lowest score dropped, None where none is.

    The p-value of a row is (1 + #{reference >= score}) / (n + 1). The Benjamini-Hochberg rule
    at `q` over the m different scored rows: the greatest k such that k of them have a p-value
    of q·k / m or less. The expected share of
    clean rows among the different rows dropped (0 where none is dropped) is then at most q
    times the share of clean ones among the m, and so at most `q`, if the reference is
    exchangeable with the different clean rows of the data: as though all of these, each once,
    had been shuffled, and some of them taken for the reference. To draw rows that have copies
    is no such shuffle: the more copies a row has, the likelier one of them is drawn, and the
    less likely all. Nothing is said of the share among all rows dropped, each copy counted.
    Ties change nothing. It is an average over references and data sets: one draw may lie
    above it, the farther the smaller n is. It holds for a `q` chosen beforehand.

    Raises `GeofilterError` for a `q` outside (0, 1), or when n is so small that nothing
    could be dropped whatever the scores; `ValueError` for NaN.
    """
    level = _level(q)
    _, has_score = split_scores(reference, "reference")
    require_reference(int(has_score.sum()), q)
    cut = _Steps.of(scores, reference, hashes).cut(level)
    if cut is None:
        return drop_fraction(scores, 0.0, unscored=unscored)
    return threshold(scores, cut, unscored=unscored)


def different(hashes: Iterable[str], present: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """One row of all that are equal, the first that is `present`: shape (rows,), as `present`.

    `hashes` as in `fdr`.
    """
    names, places = _names(hashes, len(present)), np.flatnonzero(present)
    found = np.zeros(len(present), np.bool_)
    found[places[np.unique(names[places], return_index=True)[1]]] = True
    return found


def require_reference(n: int, q: float) -> None:
    """Raise `GeofilterError` when n reference rows let `fdr` at `q` drop nothing, ever."""
    if n < (needed := reference_needed(q, 1.0)):
        raise GeofilterError(
            f"a reference of {n:,} usable rows is too small for an FDR of {q}: no p-value can "
            f"fall below 1/{n + 1:,}, so that nothing could ever be dropped; give {needed:,} "
            f"rows at the least, {reference_needed(q, 0.01):,} to be able to drop 1 % of the data"
        )


def smallest_drop(rows: int, n: int, q: float) -> int:
    """The fewest of `rows` different scored rows that `fdr` can drop by n others, other than none.

    k rows need a p-value of q·k / rows, and none is below 1 / (n + 1). More than `rows`
    where nothing can be dropped.
    """
    return math.ceil(Fraction(rows, n + 1) / _level(q))


def reference_needed(q: float, share: float) -> int:
    """The reference rows with which `fdr` at `q` can drop as little as `share` of the data.

    For a share of 1: with fewer than that nothing can be dropped at all.
    """
    return math.ceil(1 / (_level(q) * _decimal(share))) - 1


@dataclass(frozen=True)
class CurvePoint:
    """What one choice would drop. Of `drop_fraction` and `fdr` one is the choice.

    `threshold`: the lowest score dropped; None where no row is. `share` is that of the
    scored rows. `estimated_fdr`: an upper estimate of the share of clean rows among the
    different rows dropped; None without a reference, or where nothing is dropped.
    """

    drop_fraction: float | None
    fdr: float | None
    threshold: float | None
    dropped: int
    share: float
    estimated_fdr: float | None


def curve(
    scores: npt.ArrayLike,
    reference: npt.ArrayLike | None = None,
    *,
    hashes: Iterable[str] | None = None,
    fractions: Sequence[float] = FRACTIONS,
    levels: Sequence[float] = LEVELS,
) -> list[CurvePoint]:
    """What each drop fraction, and with a reference each level of `fdr`, would drop.

    `scores`, `reference` and `hashes` as in `fdr`. The estimate counts every row of the data as
    clean, so it errs upwards: rows · (1 + #{reference >= threshold}) / ((n + 1) · dropped),
    in different rows, at most 1. `fdr` takes the lowest threshold at which it is `q` or less;
    a threshold picked by looking at the curve has no such bound. A level for which the
    reference is too small drops nothing here.
    """
    chosen: list[tuple[float | None, float | None, Selection]] = [
        (fraction, None, drop_fraction(scores, fraction)) for fraction in fractions
    ]
    steps = None
    if reference is not None:
        steps = _Steps.of(scores, reference, hashes)
        for q in levels:
            cut = steps.cut(_level(q))
            found = drop_fraction(scores, 0.0) if cut is None else threshold(scores, cut)
            chosen.append((None, q, found))
    return [
        CurvePoint(
            fraction,
            q,
            found.threshold,
            len(found.drop),
            len(found.drop) / found.n_scored if found.n_scored else 0.0,
            steps.estimate(found) if steps is not None else None,
        )
        for fraction, q, found in chosen
    ]


class _Steps(NamedTuple):
    """Every threshold there is, lowest first, and what lies at it or above; of different rows."""

    cuts: _Values  # (distinct scores,)
    dropped: npt.NDArray[np.int64]  # rows of the data, (distinct scores,)
    as_high: npt.NDArray[np.int64]  # rows of the reference, (distinct scores,)
    rows: int  # scored rows of the data
    n: int  # rows of the reference
    names: npt.NDArray[np.int64]  # equal for equal rows of the data, (all rows,)

    @classmethod
    def of(
        cls, scores: npt.ArrayLike, reference: npt.ArrayLike, hashes: Iterable[str] | None
    ) -> "_Steps":
        values, is_scored = split_scores(scores)
        known, has_score = split_scores(reference, "reference")
        clean = np.sort(known[has_score])
        names = _names(range(len(values)) if hashes is None else hashes, len(values))
        counted = _greatest(values[is_scored], names[is_scored])
        cuts, counts = np.unique(counted, return_counts=True)
        dropped = counts[::-1].cumsum()[::-1].astype(np.int64)
        as_high = (len(clean) - np.searchsorted(clean, cuts, side="left")).astype(np.int64)
        return cls(cuts, dropped, as_high, len(counted), len(clean), names)

    def cut(self, level: Fraction) -> float | None:
        """The lowest threshold whose p-value is level · dropped / rows or less; None: no such."""
        # Floats only say where to look: at the boundary whole numbers decide.
        worth = self.rows * (1.0 + self.as_high) / ((self.n + 1) * self.dropped)
        for place in np.flatnonzero(worth <= float(level) * (1 + 1e-9)).tolist():
            needed = self.rows * (1 + int(self.as_high[place]))
            if needed <= level * (self.n + 1) * int(self.dropped[place]):
                return float(self.cuts[place])
        return None

    def estimate(self, chosen: Selection) -> float | None:
        """See `curve`."""
        if chosen.threshold is None:
            return None
        as_high = int(self.as_high[np.searchsorted(self.cuts, chosen.threshold)])
        dropped = len(np.unique(self.names[chosen.drop]))
        return min(1.0, self.rows * (1 + as_high) / ((self.n + 1) * dropped))


def _names(hashes: Iterable[object], count: int) -> npt.NDArray[np.int64]:
    """A number for each of `count` rows, equal for equal rows."""
    known: dict[object, int] = {}
    names = np.array([known.setdefault(one, len(known)) for one in hashes], np.int64)
    if len(names) != count:
        raise ValueError(f"{len(names)} hashes for {count} scores; give one for each row")
    return names


def _greatest(values: _Values, names: npt.NDArray[np.int64]) -> _Values:
    """The greatest of the values of each name."""
    _, firsts, places = np.unique(names, return_index=True, return_inverse=True)
    found = values[firsts]
    np.maximum.at(found, places, values)
    return found


def _level(q: float) -> Fraction:
    if not 0 < q < 1:
        raise GeofilterError(
            f"FDR {q}: is not between 0 and 1; give the share of clean rows among the dropped "
            "that you accept on average, such as 0.1"
        )
    return _decimal(q)


def _decimal(number: float) -> Fraction:
    """The number as it is written: 0.1 is one tenth."""
    return Fraction(Decimal(repr(float(number))))
