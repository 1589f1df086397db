"""Figures in SVG and HTML that fit any width and take their colours from the page.

The drawing stretches with the page; its words are HTML around it, so that they stay as large
on a phone as anywhere. A figure has one sentence `said` of what it shows (`aria-label`).
Fractions of the width or height are in [0, 1], from the left and from the bottom.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofilter.report.html import EMPTY, Html, join, tag

Floats64 = NDArray[np.float64]
# Words at fractions of the width or the height.
Labels = Sequence[tuple[float, str]]

_WIDE, _HIGH = 1000, 300  # units of the drawing, stretched to whatever there is
_TICKS = 5
# Darker than these no cell gets, so that the lightest is still seen.
_FAINTEST = 0.14


@dataclass(frozen=True)
class Mark:
    """A line across the figure at `place`, with its words. `strong` has the accent.

    The page's script finds it by `name`.
    """

    place: float
    words: str
    strong: bool = False
    name: str | None = None


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """Round numbers between `low` and `high`, at most `most` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    for factor in (1, 2, 5, 10):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [place * step for place in range(first, last + 1)]
    return [low, high]


def log_ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """1, 2, 5, 10, ... between `low` and `high` (> 0), thinned to at most `most`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if 2 <= len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)] if found else [low, high]


def number(value: float, digits: int = 3) -> str:
    """A number for people, with a true minus."""
    if value == 0:
        return "0"
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
    return shown.replace("-", "−")


def bars(counts: Sequence[int], strong: Sequence[bool], marks: Sequence[Mark], said: str) -> Html:
    """Bars side by side over the whole width; those that are `strong` have the accent.

    The axis upwards is that of the counts.
    """
    top = max(max(counts, default=0), 1)
    width = _WIDE / max(len(counts), 1)
    gap = min(2.0, width * 0.12)

    def outline(wanted: bool) -> str:
        return "".join(
            f"M{_n(place * width + gap / 2)} {_HIGH}v{_n(-_HIGH * count / top)}"
            f"h{_n(width - gap)}V{_HIGH}z"
            for place, (count, chosen) in enumerate(zip(counts, strong, strict=True))
            if count and chosen == wanted
        )

    shapes = [
        tag("path", class_=name, d=drawn)
        for name, drawn in (("bar", outline(False)), ("bar strong", outline(True)))
        if drawn
    ]
    upwards = [(tick / top, number(tick)) for tick in ticks(0, top, 4) if tick == round(tick)]
    return _canvas(shapes, marks, said, upwards[1:])


def dots(
    x: Floats64,
    y: Floats64,
    strong: NDArray[np.bool_],
    said: str,
    extra: Html = EMPTY,
    upwards: Labels = (),
) -> Html:
    """A dot for each pair of fractions; the strong ones have the accent and are drawn last."""

    def drawn(chosen: NDArray[np.bool_]) -> str:
        # A line of no length with round ends: a dot that stays round when all is stretched.
        return "".join(
            f"M{_n(a * _WIDE)} {_n((1 - b) * _HIGH)}h0"
            for a, b in zip(x[chosen], y[chosen], strict=True)
        )

    shapes = [
        tag("path", class_=name, d=path)
        for name, path in (("dot", drawn(~strong)), ("dot strong", drawn(strong)))
        if path
    ]
    return _canvas([*shapes, extra], (), said, upwards)


def cells(counts: NDArray[np.int64], said: str, extra: Html = EMPTY, upwards: Labels = ()) -> Html:
    """How many items fall in each cell, (columns, rows) from the left and the bottom."""
    columns, rows = counts.shape
    width, height = _WIDE / columns, _HIGH / rows
    most = max(int(counts.max()), 1)
    by_shade: dict[int, list[str]] = {}
    for column, row in np.argwhere(counts > 0):
        # The root of the share: single rows are seen next to thousands.
        shade = math.ceil(8 * math.sqrt(counts[column, row] / most))
        by_shade.setdefault(shade, []).append(
            f"M{_n(column * width)} {_n(_HIGH - row * height)}h{_n(width)}v{_n(-height)}"
            f"h{_n(-width)}z"
        )
    shapes = [
        tag("path", class_="cell", d="".join(drawn), opacity=_n(max(_FAINTEST, shade / 8)))
        for shade, drawn in sorted(by_shade.items())
    ]
    return _canvas([*shapes, extra], (), said, upwards)


def line(points: Iterable[tuple[float, float]]) -> Html:
    """A line through fractions, for `dots` and `cells`."""
    drawn = "L".join(f"{_n(x * _WIDE)} {_n((1 - y) * _HIGH)}" for x, y in points)
    return tag("path", class_="trend", d=f"M{drawn}") if drawn else EMPTY


def interval(low: float, value: float, high: float, usual: float, said: str) -> Html:
    """One value with its interval on a line from 0 to 1, and where the whole lies."""
    y = 50
    shapes = [
        tag("path", class_="usual", d=f"M{_n(usual * _WIDE)} 0V100"),
        tag("path", class_="whisker", d=f"M{_n(low * _WIDE)} {y}H{_n(high * _WIDE)}"),
        tag("path", class_="point", d=f"M{_n(value * _WIDE)} {y}h0"),
    ]
    return tag(
        "svg",
        *shapes,
        class_="interval",
        viewBox=f"0 0 {_WIDE} 100",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
    )


def axis(labels: Labels, name: str) -> Html:
    """Words below a figure, each at its fraction of the width, and what they measure."""
    shown = [
        tag("span", words, style=f"left:{_n(100 * place)}%", class_=_side(place))
        for place, words in labels
    ]
    return join(
        tag("div", *shown, class_="axis", aria_hidden="true"), tag("div", name, class_="axis-name")
    )


def _side_axis(labels: Labels) -> Html:
    """Words inside a figure, at the left, each at its fraction of the height."""
    if not labels:
        return EMPTY
    shown = [tag("span", words, style=f"bottom:{_n(100 * place)}%") for place, words in labels]
    return tag("div", *shown, class_="side-axis", aria_hidden="true")


def _side(place: float) -> str | None:
    return "first" if place < 0.04 else "last" if place > 0.96 else None


def _canvas(shapes: Sequence[Html], marks: Sequence[Mark], said: str, upwards: Labels) -> Html:
    lines = [
        tag(
            "path",
            class_="mark strong" if mark.strong else "mark",
            d=f"M{_n(mark.place * _WIDE)} 0V{_HIGH}",
            data_mark=mark.name,
        )
        for mark in marks
    ]
    words = [
        tag(
            "span",
            mark.words,
            class_="flag"
            + (" strong" if mark.strong else "")
            + (" left" if mark.place > 0.5 else ""),
            style=(
                f"right:{_n(100 - 100 * mark.place)}%"
                if mark.place > 0.5
                else f"left:{_n(100 * mark.place)}%"
            )
            + f";top:{_n(level * 1.35)}em",
            aria_hidden="true",
            data_mark=mark.name,
        )
        for level, mark in enumerate(marks)
    ]
    drawing = tag(
        "svg",
        *shapes,
        *lines,
        viewBox=f"0 0 {_WIDE} {_HIGH}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
    )
    return tag("div", drawing, _side_axis(upwards), *words, class_="canvas")


def _n(value: float) -> str:
    """A coordinate: short, and never in powers of ten."""
    shown = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if shown in ("-0", "") else shown
