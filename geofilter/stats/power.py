"""What a comparison of two rates can show, before anything is run.

Two independent proportions, two-sided, by the normal approximation with pooled variance
under "no difference" (Fleiss, Levin and Paik 2003, "Statistical Methods for Rates and
Proportions", equation 4.14 without the continuity correction):

    n = (z(1-α/2)·√(2·p̄·(1-p̄)) + z(power)·√(p1·(1-p1) + p2·(1-p2)))² / (p1 - p2)²

Answers are taken for independent. Those to one question, or of one fine-tuned model,
resemble each other, so that more are needed than this says.
"""

import math
from statistics import NormalDist

_Z_POWER = NormalDist().inv_cdf(0.8)
_Z_LEVEL = NormalDist().inv_cdf(1 - 0.05 / 2)


def answers_needed(base_rate: float, reduction: float) -> int:
    """Answers per arm that show a fall from `base_rate` by the share `reduction` of it.

    With a power of 80 %, at a level of 5 %. `base_rate` in (0, 1), `reduction` in (0, 1];
    `ValueError` otherwise.
    """
    if not 0 < base_rate < 1 or not 0 < reduction <= 1:
        raise ValueError(
            f"a base rate of {base_rate} and a reduction of {reduction}: needed are shares above 0"
        )
    return math.ceil(_answers(base_rate, reduction))


def _answers(base_rate: float, reduction: float) -> float:
    first, second = base_rate, base_rate * (1 - reduction)
    middle = (first + second) / 2
    same = _Z_LEVEL * math.sqrt(2 * middle * (1 - middle))
    apart = _Z_POWER * math.sqrt(first * (1 - first) + second * (1 - second))
    return ((same + apart) / (first - second)) ** 2


def smallest_reduction(base_rate: float, answers: int) -> float | None:
    """The smallest relative fall of `base_rate` that `answers` per arm show; in (0, 1].

    None where not even a fall to zero would show, or there is nothing to fall. Raises
    `ValueError` for a base rate outside [0, 1].
    """
    if not 0 <= base_rate <= 1:
        raise ValueError(f"a base rate of {base_rate}")
    if not 0 < base_rate < 1 or _answers(base_rate, 1.0) > answers:
        return None
    low, high = 0.0, 1.0
    # The number needed falls as the reduction grows; 60 halvings reach the last bit.
    for _ in range(60):
        middle = (low + high) / 2
        if middle > 0 and _answers(base_rate, middle) <= answers:
            high = middle
        else:
            low = middle
    return high
