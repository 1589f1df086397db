"""The tables of `real_filter.py`: how far each arm shifts a real model towards harmful answers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geofilter.stats.crossed import ratio_of
from geofilter.verify.plan import CONTROL, RANDOM, UNFILTERED
from geofilter.verify.shift_report import signed
from geofilter.verify.shifts import shifts_of

Row = dict[str, Any]
Floats = NDArray[np.float64]


def pair_lines(shifts: dict[str, dict[str, list[float]]]) -> list[Row]:
    """Lines as a run leaves them, the pairs of a domain each with its mean.

    Intervals resample whole domains, so that they are those of the pairs themselves.
    """
    return [
        {"set": name, "domain": domain, "harmful": bad, "helpful": good, "letters": None}
        for name, domains in shifts.items()
        for domain, (count, bad, good) in domains.items()
        for _ in range(int(count))
    ]


def markdown(results: dict[str, Any]) -> str:
    """One table for each set, over the seeds that all of its conditions have."""
    parts = []
    for name, runs in results["sets"].items():
        seeds = sorted(set.intersection(*(set(of_it) for of_it in runs.values())), key=int)
        if not seeds:
            continue
        lines = {c: [pair_lines(of_it[s]["shifts"]) for s in seeds] for c, of_it in runs.items()}
        zero = [line | {"harmful": 0.0, "helpful": 0.0} for line in next(iter(lines.values()))[0]]
        random = f"{RANDOM}-{results['dropped']:g}"
        found = shifts_of(zero, lines, references=(UNFILTERED, random, CONTROL))
        parts += [f"### {name} ({len(seeds)} seeds, {found['main'].pairs} pairs)", "", *_HEAD]
        for condition, shift in found["main"].shifts.items():
            kept = [runs[condition][seed] for seed in seeds]
            against = (
                signed(shift.against[one].likelihood) if one in shift.against else "-"
                for one in (UNFILTERED, random, CONTROL)
            )
            inside = found.get("in_domain")
            cells = [
                condition,
                _mean((one["harmful"] for one in kept), ".0%"),
                signed(shift.likelihood),
                *against,
                "-" if inside is None else signed(inside.shifts[condition].likelihood),
                taken_away(runs, condition, seeds),
                _mean((one["held_out_loss"] for one in kept), ".3f"),
            ]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    return "\n".join(parts)


_HEAD = (
    "| arm | harmful among rows trained on | shift towards harmful answers | against unfiltered "
    "| against random | against benign-control | shift in domain | taken away "
    "| loss on benign text |",
    "| --- " * 9 + "|",
)


def taken_away(runs: dict[str, Any], condition: str, seeds: Sequence[str]) -> str:
    """How much an arm takes of what all rows do beyond the benign control, with its interval."""
    if condition in (UNFILTERED, CONTROL) or not {UNFILTERED, CONTROL} <= set(runs):
        return "-"

    def table(name: str) -> tuple[Floats, Floats]:
        cells = [list(runs[name][seed]["shifts"]["main"].values()) for seed in seeds]
        counts, bad, good = np.moveaxis(np.array(cells, np.float64), -1, 0)
        return bad - good, counts[0]

    (arm, sizes), (whole, _), (control, _) = map(table, (condition, UNFILTERED, CONTROL))
    left = ratio_of(arm - control, whole - control, sizes)
    if np.isnan(left.low):
        return "nothing to take"
    return f"{1 - left.value:.0%} [{1 - left.high:.0%}, {1 - left.low:.0%}]"


def _mean(values: Iterable[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(sum(known) / len(known), form) if known else "-"
