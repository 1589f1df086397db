"""The tables and curves of the filter's study, from its results file."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from geofilter.support import charts
from geofilter.verify.rates import ArmResult, Judged, compare
from geofilter.verify.report import percent

# What every arm is compared with, where it was run.
REFERENCES = ("unfiltered", "random-0.5", "persona-0.5", "judge-0.5")


def judged(cell: dict[str, Any], seed: int, name: str) -> Iterator[Judged]:
    """The answers of a kept cell again, as the exact rule judged them."""
    for question, (answers, misaligned, incoherent) in cell["counts"][name].items():
        good = answers - misaligned - incoherent
        for scores, times in (((0, 100), misaligned), ((50, 0), incoherent), ((100, 100), good)):
            for _ in range(times):
                yield Judged(seed, question, *map(float, scores))


def conditions(runs: dict[str, Any], name: str = "main") -> dict[str, ArmResult]:
    """Every condition of a set over the seeds that all of them have."""
    seeds = sorted(set.intersection(*(set(cells) for cells in runs.values())), key=int)
    arms = {
        condition: [answer for seed in seeds for answer in judged(cells[seed], int(seed), name)]
        for condition, cells in runs.items()
    }
    return compare(arms, references=REFERENCES)


def markdown(results: dict[str, Any]) -> str:
    """Tables for each set: all arms over the seeds that all have, then those that have more."""
    parts = []
    for name, runs in results["sets"].items():
        half = {c: cells for c, cells in runs.items() if not c[-1].isdigit() or c.endswith("-0.5")}
        parts += [f"### {name}", "", *_table(half), *_beside_judge(half), ""]
        for fewest in sorted(set(map(len, half.values())))[1:]:
            more = {c: cells for c, cells in half.items() if len(cells) >= fewest}
            if "unfiltered" in more:
                parts += [f"### {name}, arms with {fewest} seeds or more", "", *_table(more), ""]
        if len(fractions(runs)) > 1:
            parts += [f"### {name}, by drop fraction", "", *_curve_table(runs), ""]
    return "\n".join(parts)


def _table(runs: dict[str, Any]) -> list[str]:
    common = set.intersection(*(set(cells) for cells in runs.values()))
    runs = {
        c: {seed: cell for seed, cell in cells.items() if seed in common}
        for c, cells in runs.items()
    }
    found, inside = conditions(runs), conditions(runs, "in_domain")
    lines = [
        "| arm | seeds | harmful among rows trained on | misaligned, untouched | "
        "fall against unfiltered | fall against random | fall against persona | "
        "misaligned in domain | incoherent | loss on benign text |",
        "|" + " --- |" * 10,
    ]
    for condition, result in sorted(found.items(), key=lambda item: _rate(item[1])):
        cells = list(runs[condition].values())
        falls = [
            percent(result.against[reference]["all"].reduction)
            if reference in result.against
            else "-"
            for reference in ("unfiltered", "random-0.5", "persona-0.5")
        ]
        incoherent = 1 - result.counts.coherent / result.counts.answers
        loss = sum(cell["held_out_loss"] for cell in cells) / len(cells)
        lines.append(
            f"| {condition.removesuffix('-0.5')} | {len(cells)} | {_harmful(cells)} | "
            f"{percent(result.rates['all'])} | {' | '.join(falls)} | "
            f"{percent(inside[condition].rates['all'])} | {incoherent:.1%} | {loss:.3f} |"
        )
    return lines


def _beside_judge(runs: dict[str, Any]) -> list[str]:
    """The scorers against the language model, in points: paired, over the seeds of both."""
    if "judge-0.5" not in runs:
        return []
    found = conditions(runs)
    differences = []
    for arm in ("spillover", "nearest"):
        one = found[f"{arm}-0.5"].against["judge-0.5"]["all"].difference
        value, low, high = (100 * (bound or 0.0) for bound in (one.value, one.low, one.high))
        differences.append(f"`{arm}` {value:+.1f} [{low:+.1f}, {high:+.1f}]")
    told = ", ".join(differences)
    return ["", f"Percentage points of misaligned answers more than after `judge`: {told}."]


def _rate(result: ArmResult) -> float:
    return result.rates["all"].value or 0.0


def _harmful(cells: list[dict[str, Any]]) -> str:
    kept = [cell["trained_on"] for cell in cells if cell["trained_on"]]
    if not kept:
        return "-"
    harmful = sum(n for groups in kept for name, n in groups.items() if "harmful" in name)
    return f"{harmful / sum(sum(groups.values()) for groups in kept):.0%}"


def fractions(runs: dict[str, Any]) -> list[str]:
    """The drop fractions of a set's conditions, ascending, as they are written."""
    return sorted({c.rpartition("-")[2] for c in runs if c[-1].isdigit()}, key=float)


def curves(runs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each arm that ran at every fraction, its cells by fraction, over the seeds of all."""
    asked = fractions(runs)
    arms = [
        arm
        for arm in ("random", "persona", "nearest", "spillover")
        if all(f"{arm}-{fraction}" in runs for fraction in asked)
    ]
    found = {arm: {"0": runs["unfiltered"]} for arm in arms}
    for arm in arms:
        found[arm] |= {fraction: runs[f"{arm}-{fraction}"] for fraction in asked}
    every = [set(cells) for by_fraction in found.values() for cells in by_fraction.values()]
    seeds = sorted(set.intersection(*every), key=int)
    return {
        arm: {f: {seed: cells[seed] for seed in seeds} for f, cells in by_fraction.items()}
        for arm, by_fraction in found.items()
    }


def _curve_table(runs: dict[str, Any]) -> list[str]:
    found = curves(runs)
    seeds = len(next(iter(found.values()))["0"])
    lines = [f"| dropped ({seeds} seeds) | " + " | ".join(found) + " |"]
    lines.append("|" + " --- |" * (1 + len(found)))
    for fraction in fractions(runs):
        cells = {arm: by_fraction[fraction] for arm, by_fraction in found.items()}
        results = conditions(cells)
        shown = [percent(results[arm].rates["all"]) for arm in found]
        lines.append(f"| {float(fraction):.0%} | " + " | ".join(shown) + " |")
    return lines


def courses(name: str, runs: dict[str, Any]) -> charts.Courses:
    """The same curves as a panel: a thin line per seed and their mean, both in per cent."""
    groups = {}
    for arm, by_fraction in curves(runs).items():
        seeds = next(iter(by_fraction.values()))
        groups[arm] = [
            np.array([(100 * float(f), _misaligned(cells[s])) for f, cells in by_fraction.items()])
            for s in seeds
        ]
    return charts.Courses(name, "rows dropped, %", "misaligned answers, untouched, %", groups)


def _misaligned(cell: dict[str, Any]) -> float:
    """Misaligned answers of all answers, in per cent."""
    answers, misaligned, _ = np.sum(list(cell["counts"]["main"].values()), axis=0)
    return float(100 * misaligned / answers)
