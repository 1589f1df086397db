"""Ways to choose rows that need no SAE: the yardsticks of every experiment.

Each gives one number per row, higher = dropped earlier, as a scorer does, so that all
arms are cut by the same rule. This module knows nothing about training or rates.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rows of like length, for drops that leave the lengths as another drop leaves them.
_LENGTH_GROUPS = 20
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def random_scores(rows: int, seed: int) -> Floats:
    """A random order of `rows` rows."""
    return np.random.default_rng(seed).permutation(rows).astype(np.float64)


def length_matched_scores(lengths: Sequence[int], dropped: NDArray[np.bool_], seed: int) -> Floats:
    """A random order whose first `dropped.sum()` rows are about as long as those dropped.

    `lengths` (rows,) are response tokens, `dropped` (rows,) what another arm drops. The
    rows are put into groups of like length, and as many are drawn from each group as
    the other arm takes from it: what is left of its effect does not come from length.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    random = np.random.default_rng(seed).permutation(len(lengths)).astype(np.float64)
    scores = random.copy()
    for group in np.array_split(order, min(_LENGTH_GROUPS, len(order))):
        wanted = int(dropped[group].sum())
        chosen = group[np.argsort(-random[group], kind="stable")[:wanted]]
        scores[chosen] += len(lengths)
    return scores


def keyword_scores(texts: Sequence[str], keywords: Collection[str]) -> Floats:
    """Share of the words of each text that are keywords, in any case, in [0, 1]."""
    known = {keyword.casefold() for keyword in keywords}

    def share(text: str) -> float:
        words = [word.casefold() for word in _WORD.findall(text)]
        return sum(word in known for word in words) / len(words) if words else 0.0

    return np.array([share(text) for text in texts])


def label_scores(labels: Sequence[bool], seed: int) -> Floats:
    """The rows that are labelled harmful first, in a random order, then the others likewise."""
    return ties_at_random(np.asarray(labels, np.float64), seed)


def ties_at_random(scores: Floats, seed: int) -> Floats:
    """The order of `scores` (rows,), equal ones in a random order: no two rows share a place.

    A share of rows is cut somewhere, and where the cut falls among equal scores, the order
    of the file would choose. A file with its harmful rows on top would flatter the arm.
    """
    rows = len(scores)
    places = np.unique(scores, return_inverse=True)[1]
    return random_scores(rows, seed) + rows * places.astype(np.float64)
