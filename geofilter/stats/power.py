"""What a comparison of two rates can show, before anything is run.

Two independent proportions, two-sided, by the normal approximation with pooled variance
under "no difference" (Fleiss, Levin and Paik 2003, "Statistical Methods for Rates and
Proportions", equation 4.14 without the continuity correction):

    n = (z(1-α/2)·√(2·p̄·(1-p̄)) + z(power)·√(p1·(1-p1) + p2·(1-p2)))² / (p1 - p2)²

Answers to one question, or of one fine-tuned model, resemble each other: a design effect
divides the number of answers to what as many independent ones would be worth.

This module knows nothing about answers, judges or files.
"""

import math
from statistics import NormalDist

POWER = 0.8
LEVEL = 0.05


def answers_needed(
    base_rate: float,
    reduction: float,
    *,
    design_effect: float = 1.0,
    power: float = POWER,
    level: float = LEVEL,
) -> int:
    """Answers per arm that show a fall from `base_rate` by the share `reduction` of it.

    `base_rate` in (0, 1), `reduction` in (0, 1]; `ValueError` otherwise.
    """
    if not 0 < base_rate < 1 or not 0 < reduction <= 1 or not design_effect > 0:
        raise ValueError(
            f"a base rate of {base_rate}, a reduction of {reduction} and a design effect of "
            f"{design_effect}: needed are shares above 0 and a positive design effect"
        )
    return math.ceil(_answers(base_rate, reduction, power, level) * design_effect)


def _answers(base_rate: float, reduction: float, power: float, level: float) -> float:
    first, second = base_rate, base_rate * (1 - reduction)
    middle = (first + second) / 2
    same = NormalDist().inv_cdf(1 - level / 2) * math.sqrt(2 * middle * (1 - middle))
    apart = NormalDist().inv_cdf(power) * math.sqrt(first * (1 - first) + second * (1 - second))
    return ((same + apart) / (first - second)) ** 2


def smallest_reduction(
    base_rate: float,
    answers: int,
    *,
    design_effect: float = 1.0,
    power: float = POWER,
    level: float = LEVEL,
) -> float | None:
    """The smallest relative fall of `base_rate` that `answers` per arm show; in (0, 1].

    None where not even a fall to zero would show, or there is nothing to fall. Raises
    `ValueError` for a base rate outside [0, 1] or a design effect that is not positive.
    """
    if not 0 <= base_rate <= 1 or not design_effect > 0:
        raise ValueError(f"a base rate of {base_rate} and a design effect of {design_effect}")
    worth = answers / design_effect
    if not 0 < base_rate < 1 or _answers(base_rate, 1.0, power, level) > worth:
        return None
    low, high = 0.0, 1.0
    # The number needed falls as the reduction grows; 60 halvings reach the last bit.
    for _ in range(60):
        middle = (low + high) / 2
        if middle > 0 and _answers(base_rate, middle, power, level) <= worth:
            high = middle
        else:
            low = middle
    return high
