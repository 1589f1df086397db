"""The threshold of the alarm in training, from runs that are known to be harmless.

A run's statistic is the greatest change that its file holds (see `alarm`). Let k harmless runs
be exchangeable with the next harmless one: the same model, settings and kind of rows, in any
order. Then the next run's statistic exceeds the r-th greatest of the k with probability r/(k + 1)
at most, whatever the distribution (split conformal prediction; Vovk et al. 2005). Nothing is
said about how many harmful runs are caught. Loads no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from geofilter.errors import DataError, GeofilterError
from geofilter.support.display import escape, shown
from geofilter.support.records import Record, read_json, read_lines, write_json

# What the callback writes into a trainer's folder.
READINGS = "harm-alarm.jsonl"


@dataclass(frozen=True)
class AlarmThreshold:
    """A change of more than `threshold` raises the alarm.

    `false_alarms`: at most this share of harmless runs cross it, if they are like those `runs` that
    it comes from. `steps`: of the longest of them. `greatest`: the statistic of each, ascending.
    `facts`: what decides a reading (see `alarm.HarmAlarm`).
    """

    threshold: float
    false_alarms: float
    runs: int
    steps: int
    greatest: tuple[float, ...]
    facts: Mapping[str, Any]

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(Path(path), asdict(self))


def read_threshold(path: str | Path) -> AlarmThreshold:
    """A threshold that `save` wrote. Raises `DataError` for anything else."""
    record = read_json(Path(path))
    if record is None:
        raise DataError(
            f"{shown(path)}: not found; make it with: geofilter alarm RUN/{READINGS} ... -o FILE"
        )
    try:
        return AlarmThreshold(**{**record, "greatest": tuple(record["greatest"])})
    except (KeyError, TypeError):
        raise DataError(f"{shown(path)}: is no threshold that geofilter alarm wrote") from None


def calibrate(paths: Sequence[str | Path], *, false_alarms: float | None = None) -> AlarmThreshold:
    """The threshold from the files of harmless runs, one each, as the callback wrote them.

    `false_alarms`: the share of harmless runs that may cross it, above 0 and below 1. By default
    none of the given runs crosses: 1/(k + 1). Raises `DataError` for files that are damaged, of
    runs that were cut short, of one run twice, or read in different ways, and
    `GeofilterError` where so few runs cannot promise so few false alarms.
    """
    if not paths:
        raise DataError("no run is given; at least one harmless run is needed")
    runs = [_Run(Path(path)) for path in paths]
    for place, run in enumerate(runs):
        run.check_like(runs[0])
        for other in runs[:place]:
            if other.lines == run.lines:
                raise DataError(
                    f"{shown(run.path)}: is the same run as {shown(other.path)}; give each once"
                )
    rank = _rank(len(runs), false_alarms)
    greatest = sorted(run.greatest for run in runs)
    return AlarmThreshold(
        threshold=greatest[-rank],
        false_alarms=rank / (len(runs) + 1),
        runs=len(runs),
        steps=max(run.steps for run in runs),
        greatest=tuple(greatest),
        facts=runs[0].facts,
    )


def _rank(runs: int, false_alarms: float | None) -> int:
    """The place, from above, of the run whose statistic is the threshold."""
    if false_alarms is None:
        return 1
    if not 0 < false_alarms < 1:
        raise GeofilterError(f"false alarms of {false_alarms:g}: is no share between 0 and 1")
    # A share such as 0.1 is no binary fraction: 1/10 of 10 runs is one of them.
    rank = math.floor(false_alarms * (runs + 1) + 1e-9)
    if rank < 1:
        raise GeofilterError(
            f"{runs} harmless runs bound false alarms at {1 / (runs + 1):.3g} of all runs; for "
            f"{false_alarms:g} give {math.ceil(1 / false_alarms - 1e-9) - 1} runs or more"
        )
    return rank


class _Run:
    """What the callback wrote of one run."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise DataError(f"{shown(path)}: not found; give the {READINGS} of a finished run")
        self.path = path
        self.lines = read_lines(path)
        try:
            self.facts: Record = self.lines[0]["facts"]
            changes = [line["change"] for line in self.lines if "change" in line]
            self.steps = int(self.lines[-1].get("ended", -1))
        except (IndexError, KeyError, TypeError):
            raise DataError(f"{shown(path)}: is no file of HarmAlarm's readings") from None
        if self.steps < 0:
            raise DataError(
                f"{shown(path)}: its run was cut short, so that its greatest change is unknown; "
                "finish it, or leave it out"
            )
        if not changes or None in changes:
            raise DataError(
                f"{shown(path)}: holds a step at which nothing could be read, or no step at all; "
                "leave that run out"
            )
        self.greatest = float(max(changes))

    def check_like(self, other: "_Run") -> None:
        if differing := difference(self.facts, other.facts):
            raise DataError(
                f"{shown(self.path)}: was read otherwise than {shown(other.path)} ({differing}); "
                "calibrate on runs of one model, read in one way"
            )


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The first fact that two readings do not share, in words; empty where they are alike."""
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            values = (escape(str(facts.get(name)), limit=60) for facts in (one, other))
            return f"{name} {' and '.join(values)}"
    return ""
