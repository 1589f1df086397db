"""Put the measured tables of the filter's studies into the pages of docs/ that show them.

    python benchmarks/study_tables.py

A table stands between `<!-- NAME -->` and `<!-- end -->`; everything in it comes from the
results files beside this script.
"""

import json
from pathlib import Path

import numpy as np

import organism_fdr_report
import organism_filter_report
import organism_mask_report
from geofilter.support import charts
from organism_card import GROUPS, table

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"

# The default and what differs from it in one thing.
FORMS = (
    ("base, block 2", "dense, all, cosine"),
    ("base, block 2", "dense, predict, cosine"),
    ("base, block 2", "dense, response, cosine"),
    ("base, block 2", "dense, all, per nat"),
    ("base, block 2", "dense, all, raw"),
    ("base, block 2", "weighted, all, cosine"),
    ("base, block 2", "nearest, all, cosine"),
    ("base, block 2", "dense + nearest, all, standardised cosines"),
    ("base, block 0", "dense, all, cosine"),
    ("base, block 1", "dense, all, cosine"),
    ("base, block 3", "dense, all, cosine"),
    ("aligned, block 1", "dense, all, cosine"),
    ("aligned, block 2", "dense, all, cosine"),
)


def forms() -> str:
    """AUROC of some forms of spillover on the test split, and on the selection split."""
    areas = json.loads((RESULTS / "organism_spillover.json").read_text())["areas"]
    rows = []
    for place, form in FORMS:
        test, selection = (areas[place][split][form] for split in ("test", "selection"))
        cells = [f"{v[0]:.2f} [{v[1]:.2f}, {v[2]:.2f}]" for v in (test[g] for g in GROUPS)]
        rows.append([place, form, *cells, f"{selection['all'][0]:.2f}"])
    head = ["gradient in", "direction, tokens, scale", *(f"against {g}" for g in GROUPS.values())]
    return table([*head, "all, selection"], rows)


def predictions() -> str:
    """Predicted spillover against what fine-tuning did, a line per data set."""
    sets = json.loads((RESULTS / "organism_predict.json").read_text())["sets"]
    rows = [
        [
            name,
            f"{found['misaligned']:.1%}",
            f"{found['as_scored']['spillover']:+.3f}",
            *(f"{found[kind]['mean_spillover']:+.3f}" for kind in ("aligned", "base")),
            *(f"{found[kind]['features']:+.2f}" for kind in ("aligned", "base")),
        ]
        for name, found in sets.items()
    ]
    means = [
        _with_interval(_mean([found[kind]["features"] for found in sets.values()]))
        for kind in ("aligned", "base")
    ]
    rows.append([f"mean over {len(sets)} sets", "-", "-", "-", "-", *means])
    head = ["fine-tuned on", "misaligned, untouched", "mean spillover: as scored"]
    head += ["aligned, block 2", "base, block 2", "over features: aligned", "base"]
    return table(head, rows)


def _mean(values: list[float]) -> list[float]:
    """The mean with the 95 % interval of a bootstrap over `values`."""
    every = np.array(values)
    drawn = np.random.default_rng(0).choice(every, (10_000, len(every))).mean(axis=1)
    return [every.mean(), *np.quantile(drawn, [0.025, 0.975])]


PREDICTIONS = {
    "share of harmful rows": "share of harmful rows (known here alone)",
    "score spillover": "mean `spillover`, as `score --summary` prints it (base, block 1)",
    "score nearest": "mean `nearest`",
    "score persona": "mean `persona`",
    "score loss": "mean loss of the aligned model",
    "base mean_spillover": "mean `spillover`, base, block 2",
    "aligned mean_spillover": "mean `spillover`, aligned, block 2",
    "base push_along_dense": "mean push, no cosine, base, block 2",
    "aligned push_along_dense": "mean push, no cosine, aligned, block 2",
}


def over_sets() -> str:
    """Rank correlation over data sets of each prediction with the misalignment that followed."""
    found = json.loads((RESULTS / "organism_predict.json").read_text())
    within = found["within_shares"]
    rows = [
        [
            label,
            _with_interval(found["over_sets"][name]),
            *(_with_interval(alike.get(name)) for alike in within.values()),
        ]
        for name, label in PREDICTIONS.items()
    ]
    head = [f"{one['sets']} with {float(share):.0%} harmful" for share, one in within.items()]
    return table(["foretold by", f"over {len(found['sets'])} data sets", *head], rows)


def _with_interval(found: list[float | None] | None) -> str:
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*found) if found else "-"


def put(page: Path, name: str, made: str) -> None:
    """Write `made` into its place on a page."""
    start, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, found, rest = page.read_text().partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"{page.name} has no place for {name}")
    page.write_text(f"{before}{start}{made}\n{end}{after}")


def main() -> None:
    """Fill every table."""
    put(DOCS / "spillover.md", "forms", forms())
    put(DOCS / "spillover.md", "over sets", over_sets())
    put(DOCS / "spillover.md", "predictions", predictions())
    fdr = organism_fdr_report
    put(DOCS / "threshold.md", "held by spillover", fdr.held("spillover", (100, 300, 1000, 3000)))
    put(DOCS / "threshold.md", "held by nearest", fdr.held("nearest", (1000,)))
    put(DOCS / "threshold.md", "spread", fdr.spread("spillover"))
    put(DOCS / "threshold.md", "broken", fdr.broken())
    put(DOCS / "actions.md", "tokens", organism_mask_report.recalls())
    put(DOCS / "actions.md", "actions", organism_mask_report.actions())
    results = json.loads((RESULTS / "organism_filter.json").read_text())
    put(DOCS / "verification.md", "filter", organism_filter_report.markdown(results))
    figure = organism_filter_report.courses("contaminated", results["sets"]["contaminated"])
    for file in charts.save(RESULTS / "organism_filter", charts.courses([figure]), overwrite=True):
        if file.suffix == ".png":
            file.unlink()  # the page shows the other


if __name__ == "__main__":
    main()
