"""A measured value with its 95 % interval, and what that interval covers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """A value with its interval; None where it is not defined or nothing bounds it.

    `covers` says over what, such as `seeds and questions`, `questions` (with one seed only), or
    `seeds`; with one of each `answers`, of a rate, and `nothing`, of a mean, which then has no
    interval. What is the same in all cells is never covered: the data set, the model, the judge.
    """

    value: float | None
    low: float | None
    high: float | None
    covers: str
