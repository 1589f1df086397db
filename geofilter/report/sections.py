"""Sections of figures: the scores, their length, the dense baseline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from geofilter.report import numbers, svg
from geofilter.report.contents import Baseline, Contents
from geofilter.report.html import (
    EMPTY,
    Html,
    folded,
    join,
    note,
    percent,
    section,
    table,
    tag,
)
from geofilter.report.svg import Mark, number
from geofilter.scoring.scorers import BASELINE
from geofilter.stats.auroc import Range
from geofilter.stats.correlation import mean_ranks

_FEW_DOTS = 3000  # with more, cells
_COLUMNS = 48
_LOG_FROM = 20.0  # greatest length over least, from which lengths are shown by their logarithm
_BASELINE = "Compared with the dense baseline"
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


def scores(contents: Contents) -> Html:
    """How the scores are spread, and where the cut lies."""
    columns, choice = contents.columns, contents.choice
    known = columns.scores[columns.scored]
    if not len(known):
        return section("scores", "Scores", "No row has a score.")
    cut = choice.cut
    found = numbers.histogram(known, cut)
    edges, counts = found.edges, found.counts
    low, high = float(edges[0]), float(edges[-1])
    span = (high - low) or 1.0
    strong = [cut is not None and bool(choice.dropped.any()) and edge >= cut for edge in edges[:-1]]
    marks = []
    if choice.made and cut is not None and low <= cut <= high:
        marks.append(Mark((cut - low) / span, f"would go from {number(cut, 4)} up", True, "cut"))
    elif not choice.made:
        for share, words in ((0.5, "median"), (0.9, "90 %"), (0.99, "99 %")):
            at = float(np.quantile(known, share))
            place, name = (at - low) / span, "cut" if share == 0.9 else "other"
            marks.append(Mark(place, f"{words} {number(at)}", share == 0.9, name))
    said = (
        f"Histogram of {len(known):,} scores from {number(float(known.min()))} to "
        f"{number(float(known.max()))}, median {number(float(np.median(known)))}."
    )
    ticks = [((tick - low) / span, number(tick)) for tick in svg.ticks(low, high)]
    drawn = tag(
        "figure",
        svg.bars(counts.tolist(), strong, marks, said),
        svg.axis(ticks, "score, higher = nearer to harm →  (rows upwards)"),
        class_="many" if len(marks) > 1 else None,
    )
    values = numbers.quantiles(known, _QUANTILES)
    rows = [(_quantile_name(share), number(value, 4)) for share, value in values.items()]
    exact = folded(
        "The exact figures",
        table("Quantiles of the scores", ("quantile", "score"), rows),
        table(
            "Rows per bin of the histogram",
            ("scores from", "to", "rows"),
            [
                (number(a, 4), number(b, 4), f"{count:,}")
                for a, b, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
            ],
        ),
    )
    lead = tag("span", _scores_lead(contents, len(known)), data_live="lead")
    # The page's script fills it with the threshold to move.
    moving = tag("div", class_="moving", id="moving", hidden=True)
    return section("scores", "Scores", lead, drawn, moving, exact)


def _quantile_name(share: float) -> str:
    names = {0.0: "lowest", 0.5: "median", 1.0: "highest"}
    return names.get(share, f"{share:.0%}".replace("%", " %"))


def _scores_lead(contents: Contents, n_scored: int) -> Html:
    choice = contents.choice
    n = int(choice.dropped.sum())
    if not choice.made:
        return join(
            "Nothing is chosen yet. ",
            tag("em", "The tenth nearest to harm", class_="key"),
            f" of the {n_scored:,} scored rows is set apart here, only to show what lies where; "
            "--drop-fraction or --threshold shows a choice.",
        )
    tied = (
        f" {choice.n_tied_kept:,} others have the score of one of them."
        if choice.n_tied_kept
        else ""
    )
    return join(
        tag("em", f"{n:,} of {n_scored:,}", class_="key"),
        f" scored rows would be dropped, {percent(n / n_scored)}. How many that is was chosen; it "
        f"does not say how many are harmful.{tied}",
    )


def length(contents: Contents) -> Html:
    """Whether the score goes with the length of the response."""
    columns = contents.columns
    scored = columns.scored
    x, y = columns.n_tokens[scored].astype(float), columns.scores[scored]
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return section("length", "Length", "There are no different lengths or scores to compare.")
    found = contents.length
    low, high = float(y.min()), float(y.max())
    scale = _scale(x)
    fy = (y - low) / (high - low)
    points = [(float(scale.place(a)), (b - low) / (high - low)) for a, b in numbers.trend(x, y)]
    said = f"Score against response tokens for {len(x):,} rows{_correlated(found)}"
    upwards = [((tick - low) / (high - low), number(tick)) for tick in svg.ticks(low, high, 4)]
    drawn = tag(
        "figure",
        _cloud(
            scale.place(x),
            fy,
            contents.choice.dropped[scored],
            said,
            svg.line(points),
            scale.columns,
            upwards,
        ),
        svg.axis(
            [(float(scale.place(tick)), number(tick)) for tick in scale.ticks],
            "response tokens →  (score upwards; the line is the median)",
        ),
        class_="tall",
    )
    return section("length", "Length", _length_lead(found), drawn)


@dataclass(frozen=True)
class _Scale:
    """Where a length lies across the figure, in [0, 1]; `columns` for a figure of cells."""

    low: float
    wide: float
    logarithmic: bool
    columns: int | None
    ticks: Sequence[float]

    def place(self, length: ArrayLike) -> numbers.Floats64:
        at = np.asarray(length, np.float64)
        placed: numbers.Floats64 = (
            (np.log10(at) if self.logarithmic else at) - self.low
        ) / self.wide
        return placed


def _scale(lengths: numbers.Floats64) -> _Scale:
    low, high = float(lengths.min()), float(lengths.max())
    if low > 0 and high / low >= _LOG_FROM:
        wide = math.log10(high) - math.log10(low)
        return _Scale(math.log10(low), wide, True, None, svg.log_ticks(low, high))
    # A length in the middle of its column, and no column without a length.
    spread = high - low + 1
    columns = math.ceil(spread / math.ceil(spread / _COLUMNS))
    return _Scale(low - 0.5, spread, False, columns, svg.ticks(low, high))


def _cloud(
    x: numbers.Floats64,
    y: numbers.Floats64,
    strong: numbers.Bools,
    said: str,
    extra: Html = EMPTY,
    columns: int | None = None,
    upwards: svg.Labels = (),
) -> Html:
    if len(x) <= _FEW_DOTS:
        return svg.dots(x, y, strong, said, extra, upwards)
    fine = min(_COLUMNS, max(16, math.isqrt(len(x) // 12)))
    counts = numbers.density(x, y, columns or fine, max(12, fine * 3 // 5))
    return svg.cells(counts, said, extra, upwards)


def _length_lead(found: Range | None) -> Html:
    if found is None:
        return join("The rows are too few, or too much alike, for a correlation.")
    value = tag("em", _rho(found), class_="key")
    if found.low <= 0 <= found.high:
        return join("Rank correlation of score and length: ", value, ". It may be no trend at all.")
    way = "longer" if found.value > 0 else "shorter"
    return join(
        "Rank correlation of score and length: ",
        value,
        f". The {way} the response, the nearer to harm it scores, as far as the correlation goes; "
        "that far, dropping by score is dropping by length.",
    )


def _correlated(found: Range | None) -> str:
    return f"; rank correlation {found.value:+.2f}." if found else "."


def _rho(found: Range) -> str:
    shown = f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    return shown.replace("-", "−")


def baseline(contents: Contents) -> Html:
    """The scores next to the dense baseline, or how to get it; nothing where they are it."""
    if contents.is_baseline:
        return EMPTY
    other = contents.baseline
    if other is None:
        return section("baseline", _BASELINE, None, _how_to_compare(contents))
    found = other.overlap
    title = _BASELINE if other.name == BASELINE else f"Compared with {other.name}"
    if found.both < 2:
        return section("baseline", title, f"Hardly a row has both scores: {found.both:,}.")
    both = contents.columns.scored & other.columns.scored
    x = _from_far_to_near(other.columns.scores[both])
    y = _from_far_to_near(contents.columns.scores[both])
    said = (
        f"Ranks by {contents.scorer} against ranks by {other.name} for {found.both:,} rows"
        f"{_correlated(found.correlation)}"
    )
    drawn = tag(
        "figure",
        _cloud(
            x,
            y,
            contents.choice.dropped[both],
            said,
            upwards=[(0.06, "far"), (0.94, "near")],
        ),
        svg.axis(
            [(0.0, "far"), (1.0, "near")],
            f"rank by {other.name} →  (rank by {contents.scorer} upwards)",
        ),
        class_="tall",
    )
    return section("baseline", title, _baseline_lead(contents, other), drawn)


def _from_far_to_near(scores: numbers.Floats64) -> numbers.Floats64:
    ranks: numbers.Floats64 = (mean_ranks(scores) - 0.5) / len(scores)
    return ranks


def _baseline_lead(contents: Contents, other: Baseline) -> Html:
    found = other.overlap
    parts: list[object] = []
    if found.correlation:
        parts += ["Rank correlation: ", tag("em", _rho(found.correlation), class_="key"), ". "]
    if found.rate:
        word = "rows that would go" if contents.choice.made else "nearest tenth"
        parts.append(
            f"Of the {found.dropped:,} {word}, {found.shared:,} ({percent(found.rate.value)}) are "
            f"among the {found.dropped:,} nearest by {other.name} too; unrelated scores would "
            f"share {percent(found.by_chance)}. Where the two agree, "
            f"{contents.scorer} says little that {other.name} does not; which of them is right "
            "where they differ, neither says."
        )
    return join(*parts)


def _how_to_compare(contents: Contents) -> Html:
    if contents.is_dense:
        return tag("p", "No baseline was given. --baseline takes the table of another scorer.")
    why = (
        "is the plainest of the scorers"
        if contents.by_direction
        else "often does as well as SAE features; without it no one can say what the SAE adds"
    )
    return join(
        tag(
            "p",
            "No baseline was given. The projection on one dense direction, persona, "
            f"{why}. To see both:",
        ),
        tag(
            "pre",
            tag(
                "code",
                "geofilter score DATA --model MODEL --scorer persona -o persona.parquet",
            ),
            tabindex="0",
        ),
        note("and give this command --baseline persona.parquet."),
    )
