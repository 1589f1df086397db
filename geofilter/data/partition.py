"""Parts of a data set that share no row: to select by, to calibrate by, to test on.

The hash of a row alone decides on its part. Equal rows are in one part, a row stays in
its part when others come or go, and the order of the file does not matter.

Rows that are nearly the same are different rows here.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from geofilter.errors import GeofilterError

_HALF_OPEN = 2**64  # a row's place is a whole number from 0 to below this


def partition(
    hashes: Iterable[str], shares: Mapping[str, float], *, seed: int = 0
) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each part, as ascending indices from 0; every row is in exactly one.

    `hashes`: a text for each row, equal for equal rows, such as `Row.row_hash`. `shares`:
    the expected share of the different rows in each named part; they sum to 1. Another
    `seed` gives another, independent partition.

    Raises `GeofilterError` for shares that are not positive or do not sum to 1.
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1):
        raise GeofilterError(
            f"shares {', '.join(f'{value:g}' for value in shares.values()) or 'of no part'}: "
            "are not positive numbers that sum to 1; give such as benign=0.5, reference=0.5"
        )
    total = sum(map(Fraction, shares.values()))
    bounds, upper = [], Fraction(0)
    for share in shares.values():
        upper += Fraction(share)
        bounds.append(math.ceil(upper / total * _HALF_OPEN))
    places = [_place(text, seed) for text in hashes]
    part = np.array([next(i for i, bound in enumerate(bounds) if at < bound) for at in places])
    return {name: np.flatnonzero(part == number) for number, name in enumerate(shares)}


def _place(row_hash: str, seed: int) -> int:
    """Where a row falls, evenly over the whole numbers below 2^64."""
    digest = hashlib.blake2b(f"{seed}:{row_hash}".encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest())
