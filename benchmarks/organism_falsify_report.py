"""Put the measured tables of `discover --falsify` into docs/falsify.md.

python benchmarks/organism_falsify_report.py
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from organism_card import table
from study_tables import put

RESULTS = Path(__file__).parent / "results" / "organism_falsify.json"
PAGE = Path(__file__).parents[1] / "docs" / "falsify.md"
LABELS = ("lexical", "harm", "unclear")


def interval(values: Sequence[float], form: str = ".2f") -> str:
    """Mean over draws with a 95 % t interval."""
    data = np.array(values, np.float64)
    half = t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / np.sqrt(len(data))
    middle, low, high = (
        format(v, form) for v in (data.mean(), data.mean() - half, data.mean() + half)
    )
    return f"{middle} [{low}, {high}]"


def plants(results: dict[str, Any]) -> str:
    """How far planted latents are what they should be: the median and the worst."""
    rows = []
    for name, cruel_only in (("words", False), ("the cruel persona's words", True)):
        those = [plant for plant in results["plants"] if plant["cruel_only"] is cruel_only]
        cells = [name, str(len(those))]
        for key, worst in (("hit", min), ("false", max), ("kind_over_cruel", None)):
            values = [p[key] for p in those if p[key] is not None and p[key] == p[key]]
            ends = (min(values), max(values))
            far = f"{worst(values):.3f}" if worst else f"{ends[0]:.2f} to {ends[1]:.2f}"
            cells.append(f"{np.median(values):.3f} ({far})")
        rows.append(cells)
    head = ["planted on", "latents", "fires where it should", "fires elsewhere"]
    return table([*head, "kind over cruel"], rows)


def labels(results: dict[str, Any]) -> str:
    """Labels by kind of feature: share of each, mean over draws."""
    rows = []
    for arm, draws in results["arms"].items():
        for kind in ("planted words", "planted harm", "natural"):
            counts = [draw["labels"][kind] for draw in draws if kind in draw["labels"]]
            if not counts:
                continue
            total = [sum(count.values()) for count in counts]
            shares = {
                label: [100 * count[label] / of for count, of in zip(counts, total, strict=True)]
                for label in LABELS
            }
            cells = [interval(shares[label], ".0f") for label in LABELS]
            rows.append([arm, kind, f"{np.mean(total):.1f}", *cells])
    return table(["SAE, rows", "features", "a draw", *(f"{label}, %" for label in LABELS)], rows)


def areas(results: dict[str, Any], arm: str) -> str:
    """AUROC with and without lexical features, and what leaving them out changes."""
    draws = results["arms"][arm]
    rows = []
    for scorer, compared in draws[0]["with"].items():
        for name in compared:
            before, after = ([d[key][scorer][name] for d in draws] for key in ("with", "without"))
            change = [b - a for a, b in zip(before, after, strict=True)]
            row = [scorer, name, interval(before), interval(after), interval(change, "+.3f")]
            if "without_planted_words" in draws[0]:
                row.append(interval([d["without_planted_words"][scorer][name] for d in draws]))
            rows.append(row)
    head = ["score", "AUROC of", "with", "without lexical", "change"]
    truth = ["without the planted words"] if "without_planted_words" in draws[0] else []
    return table([*head, *truth], rows)


def alone(results: dict[str, Any]) -> str:
    """Natural features by label: how each alone ranks polite harm against mentioned words."""
    rows = []
    for arm, draws in results["arms"].items():
        if not arm.startswith("natural"):
            continue
        for label in LABELS:
            found = [d["natural_auroc"][label] for d in draws if label in d["natural_auroc"]]
            if len(found) > 1:
                counts = Counter({label: sum(d["labels"]["natural"][label] for d in draws)})
                rows.append([arm, label, str(counts[label]), interval(found)])
    return table(["SAE, rows", "label", "features in all draws", "AUROC of one feature"], rows)


def main() -> None:
    """Fill every table."""
    results = json.loads(RESULTS.read_text())
    put(PAGE, "plants", plants(results))
    put(PAGE, "labels", labels(results))
    for arm in results["arms"]:
        put(PAGE, f"areas {arm}", areas(results, arm))
    put(PAGE, "alone", alone(results))


if __name__ == "__main__":
    main()
