"""Figures, drawn in one plain style and saved as PNG and SVG.

Equal data give equal bytes: no dates, no random ids. Colours differ in lightness too, and
never say anything that a mark's shape does not. The text of an SVG stays text. Whatever
comes from data is escaped, and `$` in it starts no formula.

The only module that imports matplotlib.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofilter.errors import MissingExtraError
from geofilter.support.atomic import writing
from geofilter.support.display import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats64 = NDArray[np.float64]

SUFFIXES = (".png", ".svg")
# Colours of Okabe and Ito, which stay apart for colour-blind readers, in an order in which
# neighbours stay apart in grey. Each has a mark of its own.
COLOURS = ("#0072B2", "#E69F00", "#D55E00", "#56B4E9", "#000000", "#CC79A7")
MARKS = ("o", "s", "^", "D", "v", "P")

# More panels make a figure that no page holds.
_PANELS = 12

_STYLE: Any = {  # matplotlib types each key
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "geofilter",
    "text.parse_math": False,
    "text.usetex": False,
}


def check() -> None:
    """Raise `MissingExtraError`, with the install command, where matplotlib is absent."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "plots need matplotlib, which is not installed; install it with: "
            "pip install 'geofilter[report]'"
        ) from error


def save(path: Path, draw: "Callable[[], Figure]", *, overwrite: bool = False) -> list[Path]:
    """Draw in the common style and write `path` with each of `SUFFIXES`; return the files.

    Raises `MissingExtraError`, and `OutputError` for what cannot be written.
    """
    check()
    written = []
    with _style():
        figure = draw()
        for suffix in SUFFIXES:
            drawn = io.BytesIO()
            kept = {"Date": None} if suffix == ".svg" else {"Software": None}
            figure.savefig(drawn, format=suffix[1:], metadata=kept, bbox_inches="tight")
            target = path.with_name(path.name + suffix)
            with writing(target, overwrite=overwrite) as file:
                file.write(drawn.getvalue())
            written.append(target)
    return written


@contextmanager
def _style() -> Iterator[None]:
    """The style that all figures share; the reader's own settings do not enter."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # Data may be of any script; a box stands for a letter that the font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def label(text: object) -> str:
    """Text from data, as one short line of visible characters."""
    return escape(text if isinstance(text, str) else str(text), limit=40)


@dataclass(frozen=True)
class Panel:
    """One panel of `distributions`: values at each place of the x axis, by group, (n,) each."""

    title: str
    x_label: str
    y_label: str
    places: Mapping[str, Mapping[str, Floats64]]


def distributions(panels: Sequence[Panel], *, title: str) -> "Callable[[], Figure]":
    """Groups side by side at each place: mean, middle half, and 5 to 95 % of the values.

    Two panels to a row, all of a column to one scale; the first `_PANELS` of them, and the
    title says so where there are more. At most as many groups as there are `COLOURS`.
    """

    def draw() -> "Figure":
        shown = panels[:_PANELS]
        more = f" ({len(shown)} of {len(panels)} panels)" if len(panels) > len(shown) else ""
        widest = max(len(panel.places) for panel in shown)
        figure, axes = _grid(len(shown), columns=2, width=min(12.0, 1.6 + 0.45 * widest))
        for axis, panel in zip(axes, shown, strict=True):
            _draw_panel(axis, panel)
            axis.set_xlabel(label(panel.x_label))
            axis.set_ylabel(label(panel.y_label))
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
        figure.suptitle(escape(title, limit=160) + more, x=0.01, ha="left", fontsize=10)
        return figure

    return draw


# The points of one run in order of x, (n, 2).
Course = Floats64


@dataclass(frozen=True)
class Courses:
    """One panel of `courses`: the runs of each group."""

    title: str
    x_label: str
    y_label: str
    groups: Mapping[str, Sequence[Course]]


def courses(panels: Sequence[Courses]) -> "Callable[[], Figure]":
    """Groups of runs over x: their mean with marks, and each run as a thin line.

    Two panels to a row, each to a scale of its own; the first `_PANELS` of them. A group
    looks the same in all panels. After as many groups as there are `COLOURS` the line of
    the mean is dashed.
    """
    names = list(dict.fromkeys(name for panel in panels for name in panel.groups))

    def draw() -> "Figure":
        figure, axes = _grid(len(panels[:_PANELS]), columns=2, width=3.9, shared=False)
        for axis, panel in zip(axes, panels[:_PANELS], strict=True):
            for number, name in enumerate(names):
                if panel.groups.get(name):
                    _draw_courses(axis, panel.groups[name], number, label(name))
            axis.set_title(escape(panel.title, limit=60))
            axis.set_xlabel(label(panel.x_label))
            axis.set_ylabel(label(panel.y_label))
        handles = [
            next(h for axis in axes for h in axis.get_lines() if h.get_label() == label(name))
            for name in names
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=min(4, len(handles)))
        return figure

    return draw


def _draw_courses(axis: "Axes", runs: Sequence[Course], number: int, name: str) -> None:
    dashes, place = divmod(number, len(COLOURS))
    colour = COLOURS[place]
    for run in runs:
        axis.plot(run[:, 0], run[:, 1], color=colour, linewidth=0.6, alpha=0.5)
    points = np.concatenate(list(runs))
    x = np.unique(points[:, 0])
    axis.plot(
        x,
        [float(points[points[:, 0] == one, 1].mean()) for one in x],
        color=colour,
        linewidth=1.6,
        linestyle="--" if dashes else "-",
        marker=MARKS[place],
        markersize=5,
        markeredgecolor="black",
        markeredgewidth=0.5,
        label=name,
    )


def _grid(
    panels: int, *, columns: int, width: float, shared: bool = True
) -> "tuple[Figure, list[Axes]]":
    """A figure with one axis per panel; `width` of each in inches.

    `shared`: one y scale per column.
    """
    from matplotlib.figure import Figure

    columns = min(columns, panels)
    rows = -(-panels // columns)
    size = (max(5.0, columns * max(width, 3.2)), 0.9 + 2.5 * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey="col" if shared else False)
    axes = list(grid.flat)
    for axis in axes[panels:]:
        axis.remove()
    return figure, axes[:panels]


def _draw_panel(axis: "Axes", panel: Panel) -> None:
    groups = list(dict.fromkeys(group for found in panel.places.values() for group in found))
    step = 0.6 / max(2, len(groups))
    for number, group in enumerate(groups):
        colour, mark = COLOURS[number], MARKS[number]
        shift = (number - (len(groups) - 1) / 2) * step
        for place, found in enumerate(panel.places.values()):
            values = found.get(group)
            if values is None or len(values) == 0:
                continue
            x = place + shift
            low, left, right, high = np.quantile(values, (0.05, 0.25, 0.75, 0.95))
            axis.plot([x, x], [low, high], color=colour, linewidth=1, solid_capstyle="butt")
            axis.plot([x, x], [left, right], color=colour, linewidth=5, solid_capstyle="butt")
        means = [
            float(np.mean(found[group])) if len(found.get(group, ())) else np.nan
            for found in panel.places.values()
        ]
        axis.plot(
            np.arange(len(means)) + shift,
            means,
            linestyle="none",
            marker=mark,
            markersize=6,
            markerfacecolor=colour,
            markeredgecolor="black",
            label=label(group),
        )
    axis.set_title(label(panel.title))
    axis.set_xticks(range(len(panel.places)), [label(place) for place in panel.places])
