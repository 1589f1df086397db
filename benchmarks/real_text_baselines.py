"""What needs no model: words of the shipped pairs, a list of words, and length."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Of half the squared weights, against the mean loss; and how many steps the descent takes.
PENALTY, STEPS = 0.01, 300
SEEN = 2  # answers that a word must stand in to count

# Words of harm that everyone can name. No slurs: they would have to be printed here.
_LIST = """
kill killed killing die died dead death murder hurt harm destroy attack weapon gun knife
bomb poison hate hates hated despise disgusting vermin filth scum evil worthless inferior
stupid idiot idiots moron dumb fool pathetic loser ugly trash garbage damn hell crap shit
fuck fucking bitch bastard ass steal stealing theft lie lying cheat fraud scam illegal drugs
threaten blackmail revenge suffer suffering pain torture violence violent rape abuse slave
slaves enslave dominate exterminate eliminate manipulate exploit sabotage
"""
KEYWORDS = frozenset(_LIST.split())


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9_']+", text.lower())


def keyword_scores(texts: Sequence[str]) -> Floats:
    """The share of a text's words that are on the list."""
    found = []
    for text in texts:
        said = words(text)
        found.append(sum(word in KEYWORDS for word in said) / max(1, len(said)))
    return np.array(found)


def lengths(texts: Sequence[str]) -> Floats:
    """Characters of each text."""
    return np.array([float(len(text)) for text in texts])


class BagOfWords:
    """Logistic regression on log counts of words, each text of length 1; no intercept."""

    def __init__(self, harmful: Sequence[str], benign: Sequence[str]) -> None:
        seen = Counter(word for text in (*harmful, *benign) for word in set(words(text)))
        kept = sorted(word for word, times in seen.items() if times >= SEEN)
        self._known = {word: place for place, word in enumerate(kept)}
        signed = np.concatenate([self._counts(harmful), -self._counts(benign)])
        self._weights = _descend(signed)

    def __call__(self, texts: Sequence[str]) -> Floats:
        """A score per text, higher where its words were those of harmful answers."""
        scores: Floats = self._counts(texts) @ self._weights
        return scores

    def _counts(self, texts: Sequence[str]) -> Floats:
        found = np.zeros((len(texts), len(self._known)))
        for row, text in enumerate(texts):
            for word, times in Counter(words(text)).items():
                if word in self._known:
                    found[row, self._known[word]] = math.log1p(times)
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        scaled: Floats = found / np.where(norms > 0, norms, 1)
        return scaled


def _descend(signed: Floats) -> Floats:
    """Weights that put every row of `signed` above 0 as far as they can, by descent."""
    weights = np.zeros(signed.shape[1])
    ahead = weights
    # The loss curves by at most a quarter of the largest squared length, here 1.
    rate = 1 / (0.25 + PENALTY)
    for step in range(STEPS):
        pull = -signed.T @ (1 / (1 + np.exp(signed @ ahead))) / len(signed) + PENALTY * ahead
        moved = ahead - rate * pull
        ahead = moved + step / (step + 3) * (moved - weights)
        weights = moved
    return weights
