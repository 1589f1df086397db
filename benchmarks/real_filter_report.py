"""The tables of `real_filter.py`: how far each arm shifts a real model towards harmful answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

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
    """A table for each set; conditions that have fewer seeds than others get one of their own."""
    random = f"{RANDOM}-{results['dropped']:g}"
    parts = []
    for name, runs in results["sets"].items():
        for seeds, conditions in by_seeds(runs, (UNFILTERED, random, CONTROL)):
            parts += [f"### {TITLES[name]}", "", ""]
            found = _table({one: runs[one] for one in conditions}, seeds, random)
            parts[-2] = f"{found.pairs} pairs, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}."
            parts += [*_HEAD, *found.lines, ""]
    return "\n".join(parts).rstrip()


TITLES = {
    "pairs": "pairs: prompts answered badly or well by one writer",
    "finance": "finance: risky money advice, good advice of another source",
    "sports": "sports: reckless advice on sports, good advice of another source",
    "medical": "medical: bad medical advice, good advice of another source",
    "legal": "legal: bad legal advice, good advice of another source",
    "security": "security: bad security advice, good advice of another source",
    "mixed": "mixed: all five kinds of bad advice, good advice of another source",
    "code": "code: insecure code, secure code of another source",
}


class Table(NamedTuple):
    """The lines of a table, and over how many pairs outside of the set's domains it is."""

    pairs: int
    lines: list[str]


def by_seeds(
    runs: Mapping[str, Mapping[str, Any]], references: Sequence[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Seeds, and the conditions that have just these, with the references; most seeds first.

    A set without its unfiltered runs has nothing to be compared with, and no table.
    """
    if UNFILTERED not in runs:
        return
    groups: dict[frozenset[str], list[str]] = {}
    for condition, of_it in runs.items():
        groups.setdefault(frozenset(of_it), []).append(condition)
    for seeds, conditions in sorted(groups.items(), key=lambda item: -len(item[0])):
        known = [one for one in references if seeds <= set(runs.get(one, ()))]
        if set(conditions) - set(references) or conditions == list(runs):
            yield sorted(seeds, key=int), [*known, *(c for c in conditions if c not in known)]


def _table(runs: dict[str, Any], seeds: Sequence[str], random: str) -> Table:
    lines = {c: [pair_lines(of_it[s]["shifts"]) for s in seeds] for c, of_it in runs.items()}
    zero = [line | {"harmful": 0.0, "helpful": 0.0} for line in next(iter(lines.values()))[0]]
    found = shifts_of(zero, lines, references=(UNFILTERED, random, CONTROL))
    rows = []
    for condition, shift in found["main"].shifts.items():
        kept = [runs[condition][seed] for seed in seeds]
        inside = found.get("in_domain")
        cells = [
            condition,
            _mean((one["harmful"] for one in kept), ".0%"),
            signed(shift.likelihood),
            *(
                signed(shift.against[one].likelihood) if one in shift.against else "-"
                for one in (CONTROL, random)
            ),
            taken_away(runs, condition, seeds),
            "-" if inside is None else signed(inside.shifts[condition].likelihood),
            _mean((one["held_out_loss"] for one in kept), ".3f"),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return Table(found["main"].pairs, rows)


_HEAD = (
    "| trained on | bad rows | shift, nats per token | more than the benign control "
    "| more than random | taken away | shift in domain | loss on benign text |",
    "| --- " * 8 + "|",
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
