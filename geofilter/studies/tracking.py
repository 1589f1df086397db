"""The tracks of an experiment's runs: does what features do foretell what answers become?

A run's track has a point for each step at which it was measured (see `track`). Points are
compared by rank: a measure with the rate of misaligned answers at the same step, and with the
rate at the next one. Both rise as training goes on, and so would anything that does; hence
the step itself is compared like the measures, and each is compared once more with the mean over
runs at the same step taken away. Intervals are 95 %, over runs drawn with all their points;
with few runs they are too narrow, and nothing is corrected for the number of measures.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from geofilter.errors import MissingExtraError
from geofilter.stats.correlation import DRAWS, Correlation, rank_correlation, rank_gain
from geofilter.support import charts
from geofilter.support.display import escape
from geofilter.support.records import read_lines, write_json
from geofilter.verify.plan import Plan
from geofilter.verify.rates import Judged, rates
from geofilter.verify.report import Section
from geofilter.verify.tracker import MEASURES, TRACK

RATE, STEP = "rate", "step"
PROBES = {"answers": "own answers", "held_out": "benign rows"}
# What a measure is called, for people.
NAMES = {
    RATE: "misaligned answers, the rate itself",
    STEP: "the number of steps done",
    "activation": "activation of toxic features",
    "nearest": "proximity to toxic features",
    "persona": "dense direction (persona)",
}
Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Point:
    """One measurement. `values` maps `rate` and `PROBE.MEASURE` to a number, or None.

    `rate` is the share of misaligned answers among all (see `metrics`), in [0, 1].
    """

    step: int
    values: dict[str, float | None]


@dataclass(frozen=True)
class TrackedRun:
    """The track of one run, step after step; `asked` answers at each."""

    condition: str
    seed: int
    asked: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Relation:
    """How a measure goes with the rate of misaligned answers: rank correlations over points.

    `now`: with the rate at the same step; `ahead`: with that at the next point of the same
    run; `gain`: `ahead` less what the present rate reaches at the same points; `apart`:
    `ahead` after the mean over runs at the same step was taken from both.
    """

    now: Correlation
    ahead: Correlation
    gain: Correlation
    apart: Correlation


@dataclass(frozen=True)
class TrackSummary:
    """All tracks of an experiment, and what they say by the name of each measure.

    `untracked` names runs that have no track of this kind: they were done before it was
    asked for, or with another `every` or number of answers.
    """

    every: int
    runs: tuple[TrackedRun, ...]
    relations: dict[str, Relation]
    untracked: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """The summary as JSON values."""
        record = asdict(self)
        for relation in record["relations"].values():
            for name, found in relation.items():
                relation[name] = found._asdict()
        return record


def section(plan: Plan, folder: Path) -> Section:
    """The report's section about the tracks, which are written too; empty without `plan.track`."""
    if plan.track is None:
        return Section("", None)
    summary = summary_of(plan, folder)
    note = None
    try:
        drawn = bool(write(summary, folder))
    except MissingExtraError as error:
        note, drawn = f"track.json holds the figures, but {error}", False
    lines = markdown(summary, escape(plan.settings.model, limit=200), drawn)
    return Section("\n" + "\n".join(lines) + "\n", note)


def summary_of(plan: Plan, folder: Path, *, draws: int = DRAWS) -> TrackSummary:
    """Read the tracks of an experiment that was run in `folder`, and compare what they hold."""
    found, untracked = [], []
    for cell in plan.cells():
        lines = [
            line
            for line in read_lines(folder / "arms" / cell.name / TRACK)
            if line["every"] == plan.track and len(line["asked"]) == plan.track_answers
        ]
        if lines:
            points = tuple(_point(line, cell.seed) for line in lines)
            found.append(TrackedRun(cell.condition, cell.seed, plan.track_answers, points))
        elif (folder / "arms" / cell.name / "training.json").exists():
            untracked.append(cell.name)
    return summarise(found, plan.track or 0, untracked, draws=draws)


def summarise(
    runs: Sequence[TrackedRun], every: int, untracked: Iterable[str] = (), *, draws: int = DRAWS
) -> TrackSummary:
    """Compare every measure with the rate, over all points of `runs`."""
    relations = {
        name: _relation(runs, name, draws)
        for name in [RATE, STEP, *(f"{p}.{m}" for p in PROBES for m in MEASURES)]
    }
    return TrackSummary(every, tuple(runs), relations, tuple(untracked))


def _point(line: Mapping[str, Any], seed: int) -> Point:
    judged = [
        Judged(seed, one["question"], one["aligned"], one["coherent"]) for one in line["asked"]
    ]
    values: dict[str, float | None] = {RATE: rates(judged)["all"]}
    for name in PROBES:
        for measure in (*MEASURES, "explained_variance"):
            values[f"{name}.{measure}"] = (line[name] or {}).get(measure)
    return Point(line["step"], values)


def _relation(runs: Sequence[TrackedRun], name: str, draws: int) -> Relation:
    here, there = [], []
    for place, one in enumerate(runs):
        for point in one.points:
            values = (_value(point, name), point.values[RATE])
            here.append((place, point.step, *values))
        for point, following in pairwise(one.points):
            values = (_value(point, name), following.values[RATE])
            there.append((place, point.step, *values, point.values[RATE]))
    now, ahead = _whole(here, 4), _whole(there, 5)
    named: dict[str, Any] = {"clusters": ahead[0], "draws": draws}
    return Relation(
        now=rank_correlation(now[2], now[3], clusters=now[0], draws=draws),
        ahead=rank_correlation(ahead[2], ahead[3], **named),
        gain=rank_gain(ahead[2], ahead[4], ahead[3], **named),
        apart=rank_correlation(ahead[2], ahead[3], strata=ahead[1], **named),
    )


def _value(point: Point, name: str) -> float | None:
    return float(point.step) if name == STEP else point.values[name]


def _whole(rows: Sequence[tuple[float | None, ...]], columns: int) -> list[Any]:
    """The columns of the rows that lack nothing."""
    table = np.array([row for row in rows if None not in row], np.float64)
    return list(table.reshape(-1, columns).T)


def write(summary: TrackSummary, folder: Path) -> list[Path]:
    """Write `track.json` and the figure, `track.png` and `track.svg`; return the figure's files.

    Raises `MissingExtraError`, once the JSON is there, where matplotlib is absent.
    """
    write_json(folder / "track.json", summary.as_record())
    if not summary.runs:
        return []
    return charts.save(folder / "track", charts.courses(panels(summary)), overwrite=True)


def panels(summary: TrackSummary) -> list[charts.Courses]:
    """The rate, how much the SAE explains, and each measure on each probe, over the steps."""
    first = [
        _panel(summary, RATE, "Misaligned answers", "%", 100),
        _panel(
            summary,
            "answers.explained_variance",
            "Variance that the SAE explains, own answers",
            "%",
            100,
        ),
    ]
    units = {"activation": "benign s.d.", "nearest": "cosine"}
    rest = [
        _panel(summary, f"{probe}.{measure}", f"{NAMES[measure].capitalize()}, {shown}", unit, 1)
        for measure, unit in units.items()
        for probe, shown in PROBES.items()
    ]
    return [panel for panel in (*first, *rest) if any(panel.groups.values())]


def _panel(summary: TrackSummary, name: str, title: str, unit: str, times: float) -> charts.Courses:
    groups: dict[str, list[charts.Course]] = defaultdict(list)
    for one in summary.runs:
        known = [(point.step, point.values[name]) for point in one.points]
        course = [(step, times * value) for step, value in known if value is not None]
        if course:
            groups[one.condition].append(np.array(course, np.float64))
    return charts.Courses(title, "step", unit, groups)


def markdown(summary: TrackSummary, reader: str, drawn: bool) -> list[str]:
    """A section of the report. `reader` is the model whose SAE it was; `drawn`: with figure."""
    lines = ["## During training", ""]
    if summary.untracked:
        lines += [
            f"{len(summary.untracked)} runs were trained before they were to be followed in this "
            "way. They are not trained again and are missing here: "
            f"{', '.join(summary.untracked)}.",
            "",
        ]
    if not summary.runs:
        return [*lines, "No run was followed."]
    lines += [
        f"At the start, every {summary.every} steps and at the end, each run gave "
        f"{summary.runs[0].asked:,} answers, to the same questions with the same random numbers. "
        f"The network in training was then read through the SAE of {reader}, which takes for "
        "granted that the SAE's features mean in it what they mean in the model that the SAE "
        f"was made for. {_explained(summary)}",
        "",
    ]
    if drawn:
        lines += ["![What was measured during training](track.svg)", ""]
    return [*lines, *table(summary), "", *_reading(summary)]


def _explained(summary: TrackSummary) -> str:
    name = "answers.explained_variance"
    ends = [(run.points[0].values[name], run.points[-1].values[name]) for run in summary.runs]
    known = [(first, last) for first, last in ends if first is not None and last is not None]
    if not known:
        return "Nothing is known of how much the SAE explains."
    before, after = (min(column) for column in zip(*known, strict=True))
    return (
        f"Of the variance on a run's own answers the SAE explains {before:.1%} before training "
        f"and {after:.1%} at the end, in the run where it is least."
    )


def table(summary: TrackSummary) -> list[str]:
    """One line per measure."""
    head = [
        "measured at a step",
        "with the rate at that step",
        "with the rate at the next",
        "more than the rate itself",
        "with the next, step's mean taken away",
    ]
    rows = [head, ["---"] * len(head)]
    for name, relation in summary.relations.items():
        if relation.now.items:
            # The rate against itself says nothing.
            now, gain = (
                "-" if name == RATE else _shown(one) for one in (relation.now, relation.gain)
            )
            found = (now, _shown(relation.ahead), gain, _shown(relation.apart))
            rows.append([measure_name(name), *found])
    return ["| " + " | ".join(row) + " |" for row in rows]


def measure_name(name: str) -> str:
    """`answers.nearest` in words."""
    probe, _, measure = name.rpartition(".")
    return f"{NAMES[measure]}, {PROBES[probe]}" if probe else NAMES[name]


def _shown(found: Correlation) -> str:
    if found.value is None:
        return "-"
    if found.low is None or found.high is None:
        return f"{found.value:+.2f}"
    return f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"


def _reading(summary: TrackSummary) -> list[str]:
    better = [
        measure_name(name)
        for name, relation in summary.relations.items()
        if name not in (RATE, STEP) and relation.gain.low is not None and relation.gain.low > 0
    ]
    said = (
        f"Foretold the next rate better than the rate itself did: {'; '.join(better)}."
        if better
        else "No feature measure foretold the next rate better than the rate itself did."
    )
    ahead = summary.relations[RATE].ahead.items
    return [
        said,
        "",
        f"Spearman's rank correlation over {summary.relations[RATE].now.items:,} points of "
        f"{len(summary.runs)} runs, {ahead:,} of which have a next one. Intervals are 95 %, over "
        "runs; with few runs they are too narrow, and nothing is corrected for the number of "
        "measures. A rate of few answers is a noisy one: a measure may do better for that alone.",
    ]
