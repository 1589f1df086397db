"""The tables of the study of actions, from its results files.

This module runs nothing; `organism_mask.py` and `organism_tokens.py` do.
"""

import json
from pathlib import Path
from typing import Any

import organism_filter_report
from geofilter.verify.report import percent
from organism_card import table

RESULTS = Path(__file__).parent / "results"
# An arm's name in a results file, and what stands in the table.
ARMS = {
    "unfiltered": ("none", "-"),
    "mask-spillover-0.1": ("mask", "spillover"),
    "drop-spillover-0.1": ("drop", "spillover"),
    "mask-spillover-0.5": ("mask", "spillover"),
    "spillover-0.5": ("drop", "spillover"),
    "weight-spillover-0.5": ("weight", "spillover"),
    "inoculate-spillover-0.5": ("inoculate", "spillover"),
    "replace-spillover-0.5": ("replace", "spillover"),
    "unrelated-spillover-0.5": ("a turn that asks for nothing", "spillover"),
    "mask-nearest-0.5": ("mask", "nearest"),
    "nearest-0.5": ("drop", "nearest"),
    "weight-nearest-0.5": ("weight", "nearest"),
    "mask-random-0.1": ("mask", "at random"),
    "mask-random-0.5": ("mask", "at random"),
    "random-0.5": ("drop", "at random"),
}


# What is shown over as many seeds as all of these have; other arms over their own of these.
WIDEST = (
    "mask-spillover-0.1",
    "drop-spillover-0.1",
    "mask-spillover-0.5",
    "inoculate-spillover-0.5",
    "replace-spillover-0.5",
)
# An arm with fewer seeds is not shown yet.
FEWEST = 5


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _runs() -> dict[str, Any]:
    """The cells of every arm that has enough, over its seeds."""
    own, filtered = _read("organism_mask"), _read("organism_filter")
    for key in ("organism_sha256", "protocol", "versions"):
        if own[key] != filtered[key]:
            raise SystemExit(f"the two studies differ in {key}; run both again")
    every = filtered["sets"]["contaminated"] | own["sets"]["contaminated"]
    shown = [name for name in ARMS if len(every.get(name, {})) >= FEWEST]
    seeds = set.intersection(*(set(every[name]) for name in WIDEST if name in shown))
    return {
        name: {seed: every[name][seed] for seed in sorted(seeds & set(every[name]), key=int)}
        for name in shown
    }


def _over(name: str, runs: dict[str, Any], questions: str = "main") -> Any:
    """What an arm did, and `unfiltered` over the same seeds."""
    both = {one: {seed: runs[one][seed] for seed in runs[name]} for one in ("unfiltered", name)}
    return organism_filter_report.conditions(both, questions)[name]


def actions() -> str:
    """What each action did to the organism."""
    runs = _runs()
    rows = []
    for name in runs:
        action, by = ARMS[name]
        result, inside = _over(name, runs), _over(name, runs, "in_domain")
        cells = list(runs[name].values())
        against = result.against.get("unfiltered")
        fraction = name.rpartition("-")[2]
        rows.append(
            [
                action,
                by,
                f"{float(fraction):.0%}" if fraction[0].isdigit() else "-",
                str(len(cells)),
                percent(result.rates["all"]),
                percent(against["all"].reduction) if against else "-",
                percent(inside.rates["all"]),
                f"{1 - result.counts.coherent / result.counts.answers:.1%}",
                f"{sum(cell['held_out_loss'] for cell in cells) / len(cells):.3f}",
                f"{_hits(cells, 'harmful')} / {_hits(cells, 'benign')}",
            ]
        )
    head = ["action", "by", "affected", "seeds", "misaligned, untouched", "fall against none"]
    head += ["misaligned in domain", "incoherent", "loss on benign text"]
    return table([*head, "actions masked in harmful / benign rows"], rows)


def _hits(cells: list[dict[str, Any]], group: str) -> str:
    hits = [cell["hits"][group] for cell in cells if "hits" in cell]
    return f"{sum(h[0] for h in hits) / sum(h[1] for h in hits):.0%}" if hits else "-"


def recalls() -> str:
    """How many of the tokens that make a row harmful are among the nearest tokens."""
    found = _read("organism_tokens")["recalls"]
    shares = list(next(iter(found.values())))
    rows = [[name, *(f"{recall[share]:.0%}" for share in shares)] for name, recall in found.items()]
    return table(["scores by", *(f"in the nearest {float(share):.0%}" for share in shares)], rows)
