"""The dense direction: which way activations differ between toxic and benign rows."""

import numpy as np
from numpy.typing import NDArray


def dense_direction(
    toxic: NDArray[np.float64], benign: NDArray[np.float64], *, pairs: bool
) -> NDArray[np.float64]:
    """The direction from benign to toxic rows, (d_model,), of length 1.

    `toxic` (n, d_model) and `benign` (m, d_model) are mean activations of rows. With `pairs`
    the k-th rows of both belong together, and n = m.
    """
    difference = toxic.mean(axis=0) - benign.mean(axis=0)
    unit: NDArray[np.float64] = difference / np.linalg.norm(difference)
    return unit
