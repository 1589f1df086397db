"""The tables of the threshold's study, from its results file.

This module runs nothing; `organism_fdr.py` does, and `study_tables.py` puts them in place.
"""

import json
from typing import Any

from organism_card import RESULTS, table

LEVELS = ("0.05", "0.1", "0.2")
SHOWN = "0.1"  # the level of the tables that show one


def _results() -> dict[str, Any]:
    return json.loads((RESULTS / "organism_fdr.json").read_text())["scorers"]


def _percent(interval: list[float] | None) -> str:
    if interval is None:
        return "-"
    value, low, high = (100 * v for v in interval)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def held(scorer: str, sizes: tuple[int, ...]) -> str:
    """Share of clean rows among the dropped, and power, by size and contamination."""
    rows = [
        [
            f"{one['reference']:,}",
            f"{one['contamination']:.0%}",
            *(_percent(one["levels"][q][what]) for q in LEVELS for what in ("fdp", "power")),
        ]
        for one in _results()[scorer]["held"]
        if one["reference"] in sizes
    ]
    head = [name for q in LEVELS for name in (f"Q = {q}: clean, %", "power, %")]
    return table(["reference", "harmful", *head], rows)


def spread(scorer: str) -> str:
    """How far above the level single splits lie."""
    rows = [
        [
            f"{one['reference']:,}",
            f"{one['contamination']:.0%}",
            *(
                f"{one['levels'][q]['fdp_95']:.1%}, {one['levels'][q]['splits_above_q']:.0%}"
                for q in LEVELS
            ),
        ]
        for one in _results()[scorer]["held"]
        if one["contamination"] in (0.1, 0.3)
    ]
    return table(["reference", "harmful", *(f"Q = {q}" for q in LEVELS)], rows)


def broken() -> str:
    """What other references do to the bound, and how often they are doubted."""
    rows = [
        [
            name,
            scorer,
            f"{one['contamination']:.0%}",
            _percent(one["levels"][SHOWN]["fdp"]),
            _percent(one["levels"][SHOWN]["power"]),
            f"{one['doubted']:.0%}" + _why(one["doubted_in"]),
            f"{one['clean_share'][0]:.0%} of {1 - one['contamination']:.0%}",
        ]
        for name in _results()["spillover"]["broken"]
        for scorer, found in _results().items()
        for one in found["broken"][name]
    ]
    head = ["reference", "scorer", "harmful", f"Q = {SHOWN}: clean, %", "power, %"]
    return table([*head, "doubted", "clean share implied, of true"], rows)


def _why(doubted_in: dict[str, float]) -> str:
    names = [name.replace("_", " ") for name, share in doubted_in.items() if share >= 0.05]
    return f" ({', '.join(names)})" if names else ""
