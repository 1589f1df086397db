"""The numbers of a report, apart from how they are shown.

Arrays of one entry per row come in, figures go out; every share has Wilson's interval and
every rank correlation one by Bonett and Wright.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofilter.selection.choose import Selection
from geofilter.stats.auroc import Range, share
from geofilter.stats.correlation import spearman

Floats64 = NDArray[np.float64]
Indices = NDArray[np.int64]
Bools = NDArray[np.bool_]

BINS = 48
# Without a choice the report looks at this share of the scored rows, nearest to harm first.
NEAREST = 0.1
# Thresholds of a page: even steps, scores at ranks that grow by a factor, and quantiles.
_STEPS, _RANKS, _QUANTILES = 121, 100, 51


@dataclass(frozen=True)
class Columns:
    """What the report needs of a score table, one entry per row of the input.

    `scores` hold NaN where `scored` is false; `ranks` are 1 for the row nearest to harm and 0
    for rows without one. `unknown_share` and `explained_variance` hold NaN where unknown.
    `statuses` counts the rows by status.
    """

    scores: Floats64
    ranks: Indices
    n_tokens: Indices
    statuses: Mapping[str, int]
    unknown_share: Floats64
    explained_variance: Floats64

    @property
    def scored(self) -> Bools:
        return ~np.isnan(self.scores)


@dataclass(frozen=True)
class Choice:
    """Which rows the report sets apart: the dropped, or, where nothing is, the nearest tenth.

    `dropped` (rows,) holds scored rows only. `cut`: every scored row above it is set apart,
    every one below it is not; None where no row is. `made` says that the user chose.
    """

    dropped: Bools
    cut: float | None
    made: bool
    n_tied_kept: int = 0


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` scores lie in [`edges[i]`, `edges[i + 1]`), the last bin closed.

    A cut within the range is one of the edges.
    """

    edges: Floats64
    counts: Indices


@dataclass(frozen=True)
class Group:
    """Rows that share a value: how many have a score, and the share set apart of these.

    `code` is the place of `name` among the names of its column.
    """

    code: int
    name: str
    rows: int
    scored: int
    dropped: int
    rate: Range | None


@dataclass(frozen=True)
class Overlap:
    """Two orders of the same rows, and how far they set the same rows apart.

    `both` rows have both scores. Of the `dropped` ones among them `shared` are among the
    `dropped` nearest by the other score too; `by_chance` is the share that unrelated orders
    would have in common. `correlation` is Spearman's, of the two scores.
    """

    both: int
    dropped: int
    shared: int
    rate: Range | None
    by_chance: float
    correlation: Range | None


def choice_of(chosen: Selection | None, columns: Columns) -> Choice:
    """The rows that `chosen` drops; without it, the tenth of the scored rows that is nearest."""
    is_dropped = np.zeros(len(columns.scores), bool)
    if chosen is None:
        n = math.floor(NEAREST * int(columns.scored.sum()))
        is_dropped = (columns.ranks > 0) & (columns.ranks <= n)
        cut = float(columns.scores[is_dropped].min()) if n else None
        return Choice(is_dropped, cut, made=False)
    is_dropped[chosen.drop] = True
    return Choice(is_dropped & columns.scored, chosen.threshold, True, chosen.n_tied_kept)


def histogram(scores: Floats64, cut: float | None = None, bins: int = BINS) -> Histogram:
    """Bins of equal width over all `scores` (n,), without NaN; at most `bins` + 2 of them."""
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 0.0)
    if not high > low:
        return Histogram(np.array([low, low]), np.array([len(scores)]))
    width = (high - low) / bins
    aim = cut if cut is not None and low < cut <= high else None
    start = low if aim is None else aim - math.ceil((aim - low) / width) * width
    n = max(1, math.ceil((high - start) / width - 1e-9))  # rounding adds no bin
    if aim is not None and start + width * n <= aim + width / 2:
        n += 1  # the last bin is closed: a cut at the highest score needs one of its own
    edges: Floats64 = start + width * np.arange(n + 1, dtype=np.float64)
    if aim is not None:
        edges[np.argmin(np.abs(edges - aim))] = aim
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return Histogram(edges, np.histogram(scores, edges)[0])


def groups(codes: Indices, names: Sequence[str], scored: Bools, dropped: Bools) -> list[Group]:
    """The rate of each group, the largest group first; `codes` (rows,) point into `names`."""
    size = len(names)
    rows = np.bincount(codes, minlength=size)
    with_score = np.bincount(codes[scored], minlength=size)
    gone = np.bincount(codes[dropped], minlength=size)
    found = [
        Group(
            at,
            name,
            int(rows[at]),
            int(with_score[at]),
            int(gone[at]),
            rate(gone[at], with_score[at]),
        )
        for at, name in enumerate(names)
        if rows[at]
    ]
    return sorted(found, key=lambda group: -group.rows)


def rate(count: Any, total: Any) -> Range | None:
    """`count` of `total` with Wilson's interval; None for a total of 0."""
    if not total:
        return None
    value, low, high = share(count, int(total))
    return Range(float(value), float(low), float(high))


def length_groups(n_tokens: Indices, scored: Bools, parts: int = 5) -> tuple[Indices, list[str]]:
    """Scored rows by their response tokens, in parts of about equal size: codes and names.

    Rows of one length stay together, so that there may be fewer parts. Rows without a score
    have the last code, for which there is no name unless such rows exist.
    """
    codes = np.zeros(len(n_tokens), np.int64)
    lengths = n_tokens[scored]
    names: list[str] = []
    if len(lengths):
        inner = np.quantile(lengths, np.arange(1, parts) / parts, method="lower")
        edges = np.unique(inner)  # a part ends with its edge
        edges = edges[edges < lengths.max()]
        codes[scored] = np.searchsorted(edges, lengths, "left")
        for part in range(len(edges) + 1):
            inside = lengths[codes[scored] == part]
            first, last = int(inside.min()), int(inside.max())
            names.append(f"{first:,}" if first == last else f"{first:,} to {last:,}")
    codes[~scored] = len(names)
    return codes, [*names, "no score"]


def trend(x: Floats64, y: Floats64, parts: int = 12) -> list[tuple[float, float]]:
    """The median of `y` at the median of `x`, in parts of about equal size along `x`."""
    if len(x) < 2 * parts:
        return []
    codes = np.searchsorted(np.unique(np.quantile(x, np.arange(1, parts) / parts)), x, "right")
    return [
        (float(np.median(x[codes == code])), float(np.median(y[codes == code])))
        for code in np.unique(codes)
    ]


def density(x: Floats64, y: Floats64, columns: int = 48, rows: int = 28) -> NDArray[np.int64]:
    """How many fractions (x, y), both in [0, 1], fall in each cell, (columns, rows)."""
    counts, _, _ = np.histogram2d(x, y, (columns, rows), ((0, 1), (0, 1)))
    return counts.astype(np.int64)


def overlap(columns: Columns, other: Columns, dropped: Bools) -> Overlap:
    """How far `other`, scores of the same rows, sets apart what is `dropped`."""
    both = columns.scored & other.scored
    n, wanted = int(both.sum()), dropped & both
    n_dropped = int(wanted.sum())
    # By the other's ranks, which are the order of its own choice.
    places = np.flatnonzero(both)[np.argsort(other.ranks[both], kind="stable")]
    shared = int(wanted[places[:n_dropped]].sum())
    return Overlap(
        both=n,
        dropped=n_dropped,
        shared=shared,
        rate=rate(shared, n_dropped),
        by_chance=n_dropped / n if n else 0.0,
        correlation=spearman(columns.scores[both], other.scores[both]),
    )


@dataclass(frozen=True)
class Shown:
    """Rows to show, each at most once; all but `random` in the order of their ranks.

    `nearest`: from rank 1 on, of those set apart. `border`: on either side of the cut.
    `random`: drawn at random from the other scored rows that are kept. `unscored`: the first.
    """

    nearest: list[int]
    border: list[int]
    random: list[int]
    unscored: list[int]

    @property
    def all(self) -> list[int]:
        return [*self.nearest, *self.border, *self.random, *self.unscored]


def shown(columns: Columns, choice: Choice, most: int, seed: int = 0) -> Shown:
    """At most `most` rows of each kind. The random ones are the same for equal `seed`."""
    order = np.argsort(columns.ranks, kind="stable")
    order = order[columns.ranks[order] > 0]  # rank 1 first
    n_dropped = int(choice.dropped.sum())
    half = 0
    if choice.made and choice.cut is not None:
        half = min(most // 2, max(1, n_dropped // 4))
    first = order[: min(most, max(0, n_dropped - half))]
    border = order[max(0, n_dropped - half) : n_dropped + half] if half else order[:0]
    rest = order[n_dropped + half :]
    generator = np.random.default_rng(seed)
    drawn = generator.choice(rest, min(most, len(rest)), replace=False) if len(rest) else rest
    return Shown(
        nearest=[int(row) for row in first],
        border=[int(row) for row in border],
        random=[int(row) for row in drawn],
        unscored=[int(row) for row in np.flatnonzero(~columns.scored)[:most]],
    )


def listed(columns: Columns, shown: Shown, most: int) -> list[int]:
    """The `most` scored rows nearest to harm, in the order of their ranks, and all `shown`."""
    order = np.argsort(columns.ranks, kind="stable")
    nearest = order[columns.ranks[order] > 0][:most].tolist()
    return list(dict.fromkeys([*nearest, *shown.all]))


def thresholds(scores: Floats64, cut: float | None) -> NDArray[np.float32]:
    """Thresholds to choose from, (n,) rising: even steps, finer ones near harm, and the `cut`.

    `scores` (rows,), without NaN, are float32 in a wider type. In that type as the table has
    them, so that each of them means the same to `filter --threshold`.
    """
    falling = np.sort(scores)[::-1]
    steps = np.linspace(falling[-1], falling[0], _STEPS)
    ranks = np.unique(np.geomspace(1, len(falling), _RANKS).astype(np.int64)) - 1
    tenths = np.quantile(falling, np.linspace(0, 1, _QUANTILES), method="lower")
    own = [] if cut is None else [cut]
    return np.unique(np.concatenate([steps, falling[ranks], tenths, own]).astype(np.float32))


def above(scores: Floats64, cuts: NDArray[np.float32]) -> Indices:
    """How many `scores` (rows,) each of the `cuts` (n,) would drop: those at it and above."""
    return len(scores) - np.searchsorted(np.sort(scores), cuts.astype(np.float64), "left")


def to_explain(shown: Shown, wanted: int, ranks: Indices, n_dropped: int) -> list[int]:
    """`wanted` of the shown rows, the three kinds in turn: nearest, at the cut, at random."""
    lists: list[list[int]] = [
        shown.nearest,
        sorted(shown.border, key=lambda row: abs(2 * int(ranks[row]) - (2 * n_dropped + 1))),
        shown.random,
    ]
    turns = [row for rows in zip_longest(*lists) for row in rows if row is not None]
    return turns[:wanted]


def quantiles(values: Floats64, at: Sequence[float]) -> Mapping[float, float]:
    """The quantiles of `values`, NaN left out; empty where nothing is left."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    return dict(zip(at, np.quantile(known, at).tolist(), strict=True))
