"""Is a reference of the same kind as the clean rows of the data? What can be seen of that.

Harmful rows belong above: data and reference are to differ in high scores. They are to
agree below the reference's median score, where nearly all rows are clean if the scorer
works: in the scores themselves, in length, in words unknown to the model, in how well the
SAE explains them. Compared are the distributions of those rows, and their number, which
says how many rows of the data are clean if the reference is right.

What it cannot see: anything without these marks, and any difference of the high scores,
which is what decides; a small reference hides much too. Nor can it distinguish a foreign
reference from harmful rows that score low, or from data that is mostly harmful. Silence is
no proof of exchangeability.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# The chance of one false alarm or more, over all that is compared.
_ALPHA = 0.01
# Harmful rows may score low too: a difference that so small a share of rows could make
# is no reason to doubt the reference.
TOLERATED = 0.1

# Columns of the score table, in a user's words.
MEASURES = {
    "score": "score",
    "n_tokens": "length",
    "unknown_share": "share of unknown words",
    "explained_variance": "how well the SAE explains them",
}


@dataclass(frozen=True)
class Difference:
    """How one measure differs between the rows below the reference's median score.

    `distance`, in [0, 1], is the greatest difference of the two distribution functions
    (Kolmogorov-Smirnov). `at_least`: with 99 % confidence over all measures, so large a
    share of the data's rows there is unlike the reference's; 0 where nothing is shown.
    """

    measure: str
    distance: float
    at_least: float

    @property
    def doubtful(self) -> bool:
        """Whether more rows differ than harmful rows with low scores would explain."""
        return self.at_least > TOLERATED


@dataclass(frozen=True)
class CleanShare:
    """How many of the data's scored rows are clean, if the reference is like the clean ones.

    `estimate`: twice the share of them below the reference's median (Storey, 2002), at most 1;
    too high where harmful rows score low. `at_most`: with 99 % confidence no more than that.
    """

    estimate: float
    at_most: float

    @property
    def doubtful(self) -> bool:
        """Whether the reference makes most of the data harmful, which is seldom so."""
        return self.at_most < 0.5


Columns = Mapping[str, npt.ArrayLike]


def clean_share(scores: npt.ArrayLike, reference: npt.ArrayLike) -> CleanShare:
    """What `reference` implies of the data; both are scores, (rows,), masked where there is none.

    Below any score lies at least the clean share of what lies there in the reference.
    """
    data, clean = _masked(scores).compressed(), _masked(reference).compressed()
    if not len(data) or not len(clean):
        return CleanShare(1.0, 1.0)
    median = np.median(clean)
    low, half = (float((values < median).mean()) for values in (data, clean))
    if half <= _noise(len(clean)):
        return CleanShare(min(1.0, low / half) if half else 1.0, 1.0)
    most = (low + _noise(len(data))) / (half - _noise(len(clean)))
    return CleanShare(min(1.0, low / half), min(1.0, most))


def compare(data: Columns, reference: Columns) -> list[Difference]:
    """Compare the low-scoring rows of both in every measure that both have.

    Both hold `score` and others of `MEASURES`, each (rows,), masked where there is none;
    rows without a score are left out. Empty where either side has no row below the median.

    The bound is that of Dvoretzky, Kiefer and Wolfowitz with Massart's (1990) constant, for
    both samples, by Bonferroni over the measures; it holds for tied and whole numbers too.
    """
    scores = {side: _masked(columns["score"]) for side, columns in _sides(data, reference)}
    if not scores["reference"].count() or not scores["data"].count():
        return []
    median = np.median(scores["reference"].compressed())
    differences = []
    for name in MEASURES:
        if name not in data or name not in reference:
            continue
        low = [
            _masked(columns[name])[(scores[side] < median).filled(False)].compressed()
            for side, columns in _sides(data, reference)
        ]
        if all(map(len, low)):
            distance = _distance(*low)
            noise = sum(_noise(len(values)) for values in low)
            differences.append(Difference(name, distance, max(0.0, distance - noise)))
    return differences


def _sides(data: Columns, reference: Columns) -> list[tuple[str, Columns]]:
    return [("data", data), ("reference", reference)]


def _masked(values: npt.ArrayLike) -> np.ma.MaskedArray[Any, np.dtype[Any]]:
    return np.ma.asarray(values)


def _noise(rows: int) -> float:
    """How far a distribution function may be off, for one sample of one measure."""
    return math.sqrt(math.log(2 * 2 * len(MEASURES) / _ALPHA) / (2 * rows))


def _distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    places = np.concatenate([one, other])
    heights = [np.searchsorted(np.sort(v), places, side="right") / len(v) for v in (one, other)]
    return float(np.abs(heights[0] - heights[1]).max())
