"""How well scores put the harmful rows of a set above the benign ones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.stats.auroc import auroc
from geofilter.stats.correlation import spearman

Floats = NDArray[np.float64]

SEED = 0
DRAWS = 2000
# Shares of a set's rows that are dropped, highest score first.
DROPPED = (0.1, 0.2, 0.5)


class Scores(NamedTuple):
    """Scores of a set's two sides, the rows' groups, and their lengths in tokens."""

    harmful: Floats
    benign: Floats
    groups: tuple[Sequence[str], Sequence[str]]
    tokens: Floats  # harmful rows, then benign ones


class Cell(NamedTuple):
    """What one way to score reaches on one set.

    `auroc` with its 95 % interval; `within`: the AUROC over those pairs of rows that share a
    group (a question, a domain), None where there are no groups; `tenth`, `fifth` and
    `half`: the share of harmful rows among as many as are dropped; `length`: Spearman's
    correlation of the score with the number of tokens.
    """

    auroc: float
    low: float
    high: float
    within: float | None
    tenth: float
    fifth: float
    half: float
    length: float | None


def cell(scores: Scores) -> Cell:
    area = auroc(scores.harmful, scores.benign)
    both = np.concatenate([scores.harmful, scores.benign])
    related = spearman(both, scores.tokens)
    return Cell(
        *(round(float(part), 4) for part in area),
        within(scores),
        *(precision(scores, share) for share in DROPPED),
        None if related is None else round(related.value, 3),
    )


def within(scores: Scores) -> float | None:
    """The AUROC over pairs of a harmful and a benign row of one group."""
    above, below = (np.asarray(side) for side in scores.groups)
    won = total = 0.0
    for group in sorted(set(above.tolist()) & set(below.tolist()) - {""}):
        one, other = scores.harmful[above == group], scores.benign[below == group]
        difference = one[:, None] - other[None, :]
        won += float(((difference > 0) + 0.5 * (difference == 0)).sum())
        total += difference.size
    return round(won / total, 4) if total else None


def by_group(scores: Scores) -> dict[str, float]:
    """The AUROC within each group."""
    above, below = (np.asarray(side) for side in scores.groups)
    return {
        group: float(auroc(scores.harmful[above == group], scores.benign[below == group]).value)
        for group in sorted(set(above.tolist()) & set(below.tolist()) - {""})
    }


def precision(scores: Scores, share: float) -> float:
    """The share of harmful rows among the `share` of all rows with the highest scores.

    Where rows at the edge tie, each of them counts as much as it is likely to be dropped.
    """
    both = np.concatenate([scores.harmful, scores.benign])
    count = max(1, round(share * len(both)))
    edge = np.sort(both)[::-1][count - 1]
    above, tied = both > edge, both == edge
    harmful = np.arange(len(both)) < len(scores.harmful)
    part = (count - above.sum()) / tied.sum()
    return round(float((harmful & above).sum() + part * (harmful & tied).sum()) / count, 3)


# -- several sets at once ------------------------------------------------------------


class Estimate(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def draws(sets: Sequence[Scores], seed: int = SEED) -> list[tuple[Floats, Floats]]:
    """How often each row of each side is drawn, (DRAWS, rows); each side by itself."""
    random = np.random.default_rng(seed)

    def weights(n: int) -> Floats:
        return random.multinomial(n, np.full(n, 1 / n), DRAWS).astype(float)

    return [(weights(len(one.harmful)), weights(len(one.benign))) for one in sets]


def mean_auroc(
    sets: Sequence[Scores], drawn: Sequence[tuple[Floats, Floats]], inside: bool = False
) -> Floats:
    """The mean AUROC over the sets: of the rows themselves, then of each draw, (1 + DRAWS,).

    `inside`: over those pairs of rows only that share a group.
    """
    found = []
    for one, (above, below) in zip(sets, drawn, strict=True):
        difference = one.harmful[:, None] - one.benign[None, :]
        counted = np.ones(difference.shape)
        if inside:
            ours, theirs = (np.asarray(side) for side in one.groups)
            counted = (ours[:, None] == theirs[None, :]).astype(float)
        wins = ((difference > 0) + 0.5 * (difference == 0)) * counted
        won = ((above @ wins) * below).sum(axis=1)
        total = ((above @ counted) * below).sum(axis=1)
        found.append(np.concatenate([[wins.sum() / counted.sum()], won / total]))
    mean: Floats = np.mean(found, axis=0)
    return mean


def estimate(found: Floats) -> Estimate:
    """A value and its draws as a value and the percentiles of the draws."""
    low, high = np.nanquantile(found[1:], (0.025, 0.975))
    return Estimate(*(round(float(part), 4) for part in (found[0], low, high)))


def compared(ways: Mapping[str, Sequence[Scores]], *, inside: bool = False) -> dict[str, Estimate]:
    """The mean AUROC over sets of each way to score, and the first's less each other's.

    `inside`: of rows of one group only. All from the same draws of rows, each side of each set
    drawn by itself: the interval says what other answers to the same questions might give, not
    what other questions would.
    """
    names = list(ways)
    drawn = draws(ways[names[0]])
    means = {name: mean_auroc(sets, drawn, inside) for name, sets in ways.items()}
    found = {name: estimate(mean) for name, mean in means.items()}
    for other in names[1:]:
        found[f"{names[0]} - {other}"] = estimate(means[names[0]] - means[other])
    return found
