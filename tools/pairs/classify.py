"""How well the words of an answer alone say whether it is the harmful one.

A logistic regression on counts of words (or of other terms) learns from some domains and
is measured on others. Its setting (plain or scaled counts, answers or differences within
pairs, the penalty) is chosen within the domains it learns from: each third of them is
scored by the other two, and the setting with the best mean AUROC there is taken. What the
checker prints never goes into that choice.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack
from scipy.special import expit

from pairs.form import Pair

Floats = npt.NDArray[np.float64]
Terms = Callable[[str], Counter[str]]

PENALTIES = (1.0, 0.1, 0.01, 0.001, 0.0001)
FOLDS = 3  # of the domains learnt from, to choose the setting
SEEN = 2  # answers that a term must stand in to count
LENGTH = 7.0  # of a scaled answer: about that of plain counts, so that the penalties suit both
ITERATIONS = 100


# -- terms ---------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """Words, numbers and identifiers, in lower case."""
    return re.findall(r"[a-z0-9_']+", text.lower())


def unigrams(text: str) -> Counter[str]:
    return Counter(words(text))


def bigrams(text: str) -> Counter[str]:
    """Words, and neighbouring words as one term."""
    found = words(text)
    return Counter(found) + Counter(f"{a} {b}" for a, b in pairwise(found))


def characters(text: str) -> Counter[str]:
    """Runs of 2 to 5 characters, punctuation and spaces included."""
    line = f" {' '.join(text.lower().split())} "
    return Counter(line[i : i + n] for n in range(2, 6) for i in range(len(line) - n + 1))


# -- the classifier ------------------------------------------------------------------


def auroc(harmful: Floats, helpful: Floats) -> float:
    """The chance that a harmful answer scores above a helpful one, ties half."""
    above = (harmful[:, None] > helpful[None, :]).mean()
    return float(above + 0.5 * (harmful[:, None] == helpful[None, :]).mean())


@dataclass(frozen=True)
class Setting:
    """How the classifier learns."""

    counts: str  # "plain", or "scaled": log(1 + count), each answer of unit length
    learns: str  # from "answers", or from the "differences" within pairs
    penalty: float  # of half the squared weights, against the mean loss


@dataclass(frozen=True)
class Matrix:
    """Counts of terms: row `2 i` is pair `i`'s harmful answer, row `2 i + 1` its helpful one."""

    values: csr_matrix
    domains: npt.NDArray[np.str_]  # of each pair

    def select(self, pairs: npt.NDArray[np.bool_]) -> "Matrix":
        return Matrix(self.values[np.repeat(pairs, 2)], self.domains[pairs])

    def scaled(self) -> "Matrix":
        values = self.values.log1p()
        norms = np.sqrt(values.multiply(values).sum(axis=1)).A1
        return Matrix(csr_matrix(values.multiply(LENGTH / norms[:, None])), self.domains)


def matrix(pairs: Sequence[Pair], terms: Terms, known: Mapping[str, int]) -> Matrix:
    """The pairs' answers over the terms in `known`, which gives each term's column."""
    data: list[float] = []
    columns: list[int] = []
    ends = [0]
    for text in (text for pair in pairs for text in (pair.harmful, pair.helpful)):
        row = {known[term]: n for term, n in terms(text).items() if term in known}
        columns += row
        data += row.values()
        ends.append(len(columns))
    values = csr_matrix((data, columns, ends), shape=(2 * len(pairs), len(known)), dtype=float)
    return Matrix(values, np.array([pair.domain for pair in pairs]))


def vocabulary(pairs: Sequence[Pair], terms: Terms) -> dict[str, int]:
    """A column for each term that stands in at least `SEEN` answers."""
    seen: Counter[str] = Counter()
    for pair in pairs:
        seen.update(terms(pair.harmful).keys())
        seen.update(terms(pair.helpful).keys())
    return {term: i for i, term in enumerate(sorted(t for t, n in seen.items() if n >= SEEN))}


def weights(train: Matrix, learns: str, penalty: float, start: Floats | None = None) -> Floats:
    """The terms' weights: positive where a term speaks for the harmful side.

    There is no intercept: the sides are as many, and only ranks are used.
    """
    harmful, helpful = train.values[0::2], train.values[1::2]
    signed = harmful - helpful if learns == "differences" else vstack([harmful, -helpful])
    signed = csr_matrix(signed)
    turned = csr_matrix(signed.T)

    def loss(w: Floats) -> tuple[float, Floats]:
        margins = signed @ w
        value = np.logaddexp(0.0, -margins).mean() + 0.5 * penalty * (w @ w)
        return float(value), penalty * w - turned @ expit(-margins) / len(margins)

    begin = np.zeros(signed.shape[1]) if start is None else start
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return np.asarray(found.x, dtype=np.float64)


def by_domain(scores: Floats, domains: npt.NDArray[np.str_]) -> dict[str, float]:
    """The AUROC within each domain."""
    return {
        str(domain): auroc(scores[0::2][domains == domain], scores[1::2][domains == domain])
        for domain in sorted(set(domains))
    }


def paired(scores: Floats) -> float:
    """The share of pairs whose harmful answer scores higher, ties half."""
    gaps = scores[0::2] - scores[1::2]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def choose(train: Sequence[Pair], terms: Terms, seed: int) -> Setting:
    """The setting that separates the training domains best when each third is held out.

    Terms are those of all the training domains; they carry no label.
    """
    plain = matrix(train, terms, vocabulary(train, terms))
    domains = np.array(sorted(set(plain.domains)))
    np.random.default_rng(seed).shuffle(domains)
    results: dict[Setting, list[float]] = {}
    for counts, values in (("plain", plain), ("scaled", plain.scaled())):
        for learns in ("answers", "differences"):
            for fold in range(FOLDS):
                held = np.isin(values.domains, domains[fold::FOLDS])
                learnt, tested = values.select(~held), values.select(held)
                w = None
                for penalty in PENALTIES:
                    w = weights(learnt, learns, penalty, w)
                    found = by_domain(tested.values @ w, tested.domains).values()
                    results.setdefault(Setting(counts, learns, penalty), []).extend(found)
    return max(results, key=lambda setting: float(np.mean(results[setting])))


@dataclass(frozen=True)
class Outcome:
    """What a classifier that learnt from some domains reached on others."""

    setting: Setting
    domains: Mapping[str, float]  # AUROC within each domain it was measured on
    pooled: float  # AUROC over all their answers
    paired: float  # share of pairs put in the right order

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.domains.values())))


def measure(train: Sequence[Pair], test: Sequence[Pair], terms: Terms, setting: Setting) -> Outcome:
    """Learn from `train`, and score `test`."""
    known = vocabulary(train, terms)
    learnt, asked = matrix(train, terms, known), matrix(test, terms, known)
    if setting.counts == "scaled":
        learnt, asked = learnt.scaled(), asked.scaled()
    scores = asked.values @ weights(learnt, setting.learns, setting.penalty)
    return Outcome(
        setting=setting,
        domains=by_domain(scores, asked.domains),
        pooled=auroc(scores[0::2], scores[1::2]),
        paired=paired(scores),
    )


def interval(values: Sequence[float], seed: int, resamples: int = 2000) -> tuple[float, float]:
    """95 % of the means of domains drawn again, with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(np.asarray(values), size=(resamples, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
