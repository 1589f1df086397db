"""The dense direction: which way activations differ between toxic and benign rows."""

import numpy as np
from numpy.typing import NDArray

# Share of the covariance that a round one of the same trace replaces. Chosen on the pairs of
# the split `choose` (see `benchmarks/real_text.py`).
SHRINKAGE = 0.1


def dense_direction(
    toxic: NDArray[np.float64],
    benign: NDArray[np.float64],
    *,
    pairs: bool,
    shrinkage: float = SHRINKAGE,
) -> NDArray[np.float64]:
    """The direction from benign to toxic rows, (d_model,), of length 1.

    `toxic` (n, d_model) and `benign` (m, d_model) are mean activations of rows. It is the
    difference d of the sides' means. With `pairs`, whose sides are alike in all but harm, it
    is Fisher's linear discriminant S⁻¹d: directions in which rows of one side vary among
    themselves count less. S is the covariance within the sides, shrunk to a round one by
    `shrinkage` (Ledoit and Wolf 2004): (1 − λ)·C + λ·tr(C)/d_model·I.

    Sets without pairs differ in topic and form too; what varies within them says little of
    what to leave out, and they keep the plain difference.
    """
    difference = toxic.mean(axis=0) - benign.mean(axis=0)
    if pairs:
        within = np.concatenate([side - side.mean(axis=0) for side in (toxic, benign)])
        covariance = within.T @ within / len(within)
        variance = np.trace(covariance) / len(covariance)
        if variance > 0:
            round_part = shrinkage * variance * np.eye(len(covariance))
            difference = np.linalg.solve((1 - shrinkage) * covariance + round_part, difference)
    unit: NDArray[np.float64] = difference / np.linalg.norm(difference)
    return unit
