"""Texts by what they are about: TF-IDF over words, and spherical k-means.

Dhillon and Modha (2001), by FAISS under a fixed seed, so that equal texts give equal clusters, and
as many of them as have the greatest simplified silhouette. It names words, not harms: a topic is
what texts have in common with each other and not with the rest.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats32 = NDArray[np.float32]

FEWEST = 12  # texts: with fewer, each is read sooner than a summary of them
_MOST_CLUSTERS = 8
_PER_CLUSTER = 6  # texts, on average, before there is one more
_TERMS = 1000
_NAMED = 5
_STARTS, _STEPS = 2, 12
_OFTEN = 0.5  # a word in more of the texts than this parts none of them
_CHARACTERS = 2000
_WORD = re.compile(r"[^\W\d_]{2,30}")
# From here on writing has no blanks between words, for the most part: pairs of characters then.
_NO_BLANKS = "\u0e00"
_WITH_BLANKS = re.compile(
    r"[\u10a0-\u10ff\u1100-\u11ff\u1200-\u137f\u13a0-\u13ff\u1e00-\u1fff\uac00-\ud7af]"
)


@dataclass(frozen=True)
class Cluster:
    """Texts that share words. `members` are places in the list, the most typical first.

    `terms`: the words, raw, that set it apart from the rest, the strongest first.
    """

    members: Sequence[int]
    terms: Sequence[str]


def clusters(texts: Sequence[str], seed: int = 0) -> list[Cluster]:
    """The topics of `texts`, the largest first; none for fewer than `FEWEST`.

    Every text with a word that others have too is in one of them, and the others in none.
    """
    if len(texts) < FEWEST:
        return []
    vectors, terms = tfidf(texts)
    known = np.flatnonzero(vectors.any(axis=1))
    most = min(_MOST_CLUSTERS, len(known) // _PER_CLUSTER)
    if most < 2:
        return []
    points = vectors[known]
    tried = [_k_means(points, wanted, seed) for wanted in range(2, most + 1)]
    labels, centres = max(tried, key=lambda one: _silhouette(points, one[1]))
    usual = points.mean(axis=0)
    found = []
    for label in range(len(centres)):
        inside = np.flatnonzero(labels == label)
        if not len(inside):
            continue
        near = inside[np.argsort(-(points[inside] @ centres[label]), kind="stable")]
        lift = points[inside].mean(axis=0) - usual
        strongest = np.argsort(-lift, kind="stable")[:_NAMED]
        words = [terms[place] for place in strongest if lift[place] > 0]
        found.append(Cluster(known[near].tolist(), words))
    return sorted(found, key=lambda one: (-len(one.members), one.members[0]))


def tfidf(texts: Sequence[str]) -> tuple[Floats32, list[str]]:
    """Each text as weights of terms, (texts, terms), of length 1 or 0, and the terms.

    The weight of a term is (1 + ln count) ln(texts / texts with it), after Salton and Buckley
    (1988). Terms are in two texts at least and in no more than half of them.
    """
    counts = [Counter(words_of(text)) for text in texts]
    frequency: Counter[str] = Counter()
    for one in counts:
        frequency.update(one.keys())
    n = len(texts)
    fit = [(-m, term) for term, m in frequency.items() if 2 <= m <= _OFTEN * n]
    terms = [term for _, term in sorted(fit)[:_TERMS]]
    places = {term: place for place, term in enumerate(terms)}
    vectors = np.zeros((n, len(terms)), np.float32)
    for row, one in enumerate(counts):
        for term, count in one.items():
            if (place := places.get(term)) is not None:
                vectors[row, place] = (1 + math.log(count)) * math.log(n / frequency[term])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0), terms


def words_of(text: str) -> list[str]:
    """The words of the start of `text`, in lower case; where blanks do not part them, pairs."""
    found: list[str] = []
    for word in _WORD.findall(text[:_CHARACTERS].lower()):
        if word[0] < _NO_BLANKS or _WITH_BLANKS.match(word):
            if len(word) > 2:
                found.append(word)
        else:
            found += [word[at : at + 2] for at in range(len(word) - 1)]
    return found


def _silhouette(points: Floats32, centres: Floats32) -> float:
    """How much nearer a text is to its centre than to the next, on average; at most 1."""
    far = np.sort(1 - points @ centres.T, axis=1)
    if far.shape[1] < 2:
        return 0.0
    return float(np.mean(1 - far[:, 0] / np.maximum(far[:, 1], 1e-12)))


def _k_means(points: Floats32, wanted: int, seed: int) -> tuple[NDArray[np.int64], Floats32]:
    """Labels (points,) and centres (clusters, terms) of the best of a few starts."""
    import faiss  # takes a moment to load

    found = faiss.Kmeans(
        points.shape[1],
        wanted,
        niter=_STEPS,
        nredo=_STARTS,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
    )
    found.train(points)
    centres = found.centroids
    assert centres is not None
    return (points @ centres.T).argmax(axis=1), centres
