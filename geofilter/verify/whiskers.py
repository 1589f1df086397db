"""Values on a common scale, one line each: a dot, and its interval as a whisker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from geofilter.report import svg
from geofilter.report.html import EMPTY, Html, bdi, tag
from geofilter.verify.intervals import Statistic

# Fractions of the width that a scale leaves free at its ends.
_MARGIN = 0.04
# A relative fall of a rate that is near 0 may lie anywhere below; such whiskers are cut.
_LOWEST = -1.0


class Line(NamedTuple):
    """A value by its name; `shown` in words where per cent are not meant."""

    name: str
    value: Statistic
    note: str
    shown: str = ""


@dataclass(frozen=True)
class Scale:
    """What lies at the left and at the right of a figure; 0 lies between them."""

    low: float
    high: float
    percent: bool

    @classmethod
    def of(cls, values: Sequence[Statistic], *, percent: bool = False) -> "Scale":
        """A scale for `values` with their intervals, in which 0 has a place."""
        ends = [end for one in values for end in (one.value, one.low, one.high) if end is not None]
        low, high = min(0.0, *ends, 0.0), max(0.0, *ends, 0.0)
        if percent:
            low, high = max(low, _LOWEST), min(max(high, 0.01), 1.0)
        wide = (high - low) or 1.0
        return cls(low - _MARGIN * wide * (low < 0), high + _MARGIN * wide, percent)

    def place(self, value: float) -> float:
        """The fraction of the width at which `value` lies, in [0, 1]; what lies beyond is cut."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def name(self, value: float) -> str:
        """`value` in words."""
        shown = f"{100 * value:.3g} %" if self.percent else f"{value:.3g}"
        return shown.replace("-", "−")


def whiskers(caption: str, lines: Sequence[Line], scale: Scale, usual: float | None) -> Html:
    """A table of `lines`, each with its figure; `usual` has a dashed line. Empty without lines."""
    if not lines:
        return EMPTY
    ticks = [(scale.place(tick), scale.name(tick)) for tick in svg.ticks(scale.low, scale.high, 3)]
    head = tag(
        "tr",
        tag("td"),
        tag("th", svg.axis(ticks, ""), scope="col", aria_label="value", class_="plot"),
        tag("th", "value, 95 % interval", scope="col", class_="n"),
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", head),
        tag("tbody", *(_line(line, scale, usual) for line in lines)),
        class_="rates whiskers",
    )


def _line(line: Line, scale: Scale, usual: float | None) -> Html:
    value = line.value.value
    shown = line.shown or _percent(line.value)
    if value is None:
        plot = tag("td", "no value", class_="plot note")
    else:
        low, high = (value if end is None else end for end in (line.value.low, line.value.high))
        drawn = svg.interval(
            scale.place(low),
            scale.place(value),
            scale.place(high),
            scale.place(0.0 if usual is None else usual),
            f"{line.name}: {shown}",
        )
        plot = tag("td", drawn, class_="plot")
    name = tag(
        "th",
        bdi(line.name, 60),
        *([tag("br"), tag("small", line.note)] if line.note else []),
        scope="row",
    )
    return tag("tr", name, plot, tag("td", shown, class_="n"))


def _percent(found: Statistic) -> str:
    if found.value is None:
        return "–"
    shown = f"{100 * found.value:.1f} %"
    if found.low is not None and found.high is not None:
        shown += f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"
    return shown.replace("-", "−")
