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
    "unrelated-spillover-0.5": ("a turn that asks for nothing", "spillover"),
    "mask-nearest-0.5": ("mask", "nearest"),
    "nearest-0.5": ("drop", "nearest"),
    "weight-nearest-0.5": ("weight", "nearest"),
    "mask-random-0.1": ("mask", "at random"),
    "mask-random-0.5": ("mask", "at random"),
    "random-0.5": ("drop", "at random"),
}


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def _runs() -> dict[str, Any]:
    """Every arm's cells, over the seeds that all arms have."""
    own, filtered = _read("organism_mask"), _read("organism_filter")
    for key in ("organism_sha256", "protocol", "versions"):
        if own[key] != filtered[key]:
            raise SystemExit(f"the two studies differ in {key}; run both again")
    every = filtered["sets"]["contaminated"] | own["sets"]["contaminated"]
    common = sorted(set.intersection(*(set(every[name]) for name in ARMS)), key=int)
    return {name: {seed: every[name][seed] for seed in common} for name in ARMS}


def actions() -> str:
    """What each action did to the organism."""
    runs = _runs()
    found = organism_filter_report.conditions(runs)
    inside = organism_filter_report.conditions(runs, "in_domain")
    rows = []
    for name, (action, by) in ARMS.items():
        result, cells = found[name], list(runs[name].values())
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
                percent(inside[name].rates["all"]),
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
