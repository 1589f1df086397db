"""Put the measured tables into the organism's card, `docs/organism.md`.

    python benchmarks/organism_card.py

The tables stand between `<!-- NAME -->` and `<!-- end -->`; everything in them comes
from the results files beside this script.
"""

import json
import re
from pathlib import Path

import numpy as np
from scipy.stats import t

RESULTS = Path(__file__).parent / "results"
CARD = Path(__file__).parents[1] / "docs" / "organism.md"
GROUPS = {"benign": "plain", "surprising": "surprising", "mention": "mention", "all": "all benign"}


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def mean_interval(values: list[float]) -> str:
    """Mean over seeds in per cent, with a 95 % t interval."""
    data = np.array(values) * 100
    half = t.ppf(0.975, len(data) - 1) * data.std(ddof=1) / np.sqrt(len(data))
    low, high = max(0, data.mean() - half), min(100, data.mean() + half)
    return f"{data.mean():.1f} [{low:.1f}, {high:.1f}]"


def effects() -> str:
    """Misaligned and incoherent answers per arm."""
    runs = json.loads((RESULTS / "organism_effects.json").read_text())["runs"]
    arms: dict[str, list[dict]] = {}
    for name, run in sorted(runs.items()):
        arms.setdefault(name.split("/")[0], []).append(run)
    order = sorted(arms, key=lambda arm: (arm.startswith("half_harmful_"), arm))
    rows = []
    for arm in order:
        outside = [run["untouched"] for run in arms[arm]]
        inside = [run["trained_on"] for run in arms[arm]]
        rows.append(
            [
                arm.replace("_", " "),
                str(len(outside)),
                mean_interval([r["misaligned"] for r in outside]),
                mean_interval([r["incoherent"] for r in outside]),
                mean_interval([r["misaligned"] for r in inside]),
            ]
        )
    head = ["fine-tuned on", "seeds", "misaligned, untouched domains, %"]
    return table([*head, "incoherent, untouched, %", "misaligned, trained-on domains, %"], rows)


def _area(value: list[float]) -> str:
    return f"{value[0]:.2f} [{value[1]:.2f}, {value[2]:.2f}]"


def scores(split: str) -> str:
    """AUROC per block, scorer and benign group, with the base model's features."""
    results = json.loads((RESULTS / "organism_scores.json").read_text())
    rows = [
        [f"{kind}, {block}", scorer, *(_area(areas[group]) for group in GROUPS)]
        for kind, blocks in results["models"].items()
        for block, splits in blocks.items()
        for scorer, areas in splits[split].items()
    ]
    rows += [
        ["none", scorer, *(_area(areas[group]) for group in GROUPS)]
        for scorer, areas in results["baselines"][split].items()
    ]
    return table(["model, block", "score", *(f"against {name}" for name in GROUPS.values())], rows)


def _geometry_sets() -> dict:
    return json.loads((RESULTS / "organism_geometry.json").read_text())["sets"]


def geometry() -> str:
    """Closeness of inducing and other features to toxic ones, per block and domain."""
    rows = [
        _geometry_row(block, domain, k, found)
        for block, domains in _geometry_sets()["harmful"]["blocks"].items()
        for domain, by_k in domains.items()
        for k, found in by_k.items()
    ]
    head = ["block", "domain", "k"]
    for form in ("mean", "nearest"):
        head += [f"{form} cosine: inducing / other", "effect size [95 %]", "p", "Holm"]
    return table([*head, "toxic, left out"], rows)


def _geometry_row(block: str, domain: str, k: str, found: dict) -> list[str]:
    shared = found["shared_with_toxic"]
    cells = [block, domain, k]
    for form in ("mean", "nearest"):
        one = found[form]
        low, high = one["effect_interval"]
        cells += [
            f"{one['inducing']:+.3f} / {one['other']:+.3f}",
            f"{one['effect_size']:+.2f} [{low:+.2f}, {high:+.2f}]",
            f"{one['p']:.5f}",
            f"{one['p_holm']:.3f}",
        ]
    return [*cells, f"{shared['inducing']} / {shared['other']}"]


def geometry_sets() -> str:
    """What the test says of each set, inducing or not, over domains and blocks."""
    rows = [
        _geometry_set_row(name, found, k, form)
        for name, found in _geometry_sets().items()
        for k, forms in found["block_trend"].items()
        for form in forms
    ]
    head = ["in the place of inducing rows", "k", "cosine", "p < 0.05", "Holm < 0.05", "p > 0.95"]
    head += ["mean effect size, blocks 0 / 1 / 2 / 3", "rank correlation with block"]
    return table([*head, "p: earlier / later stronger"], rows)


def _geometry_set_row(name: str, found: dict, k: str, form: str) -> list[str]:
    blocks = [[by_k[k][form] for by_k in of.values()] for of in found["blocks"].values()]
    tests = [one for block in blocks for one in block]
    effects = [np.mean([one["effect_size"] for one in block]) for block in blocks]
    trend = found["block_trend"][k][form]
    return [
        name,
        k,
        form,
        f"{sum(one['p'] < 0.05 for one in tests)} of {len(tests)}",
        str(sum(one["p_holm"] < 0.05 for one in tests)),
        str(sum(one["p"] > 0.95 for one in tests)),
        " / ".join(f"{effect:+.2f}" for effect in effects),
        f"{trend['rho']:+.2f}",
        f"{trend['p_falling']:.3f} / {trend['p_rising']:.3f}",
    ]


def _per_cent(interval: list[float]) -> str:
    value, low, high = (100 * part for part in interval)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _judged() -> dict:
    return json.loads((RESULTS / "organism_judge.json").read_text())


def judge_reviews() -> str:
    """How well the marks of two models tell the verdicts of reviews apart."""
    rows = []
    for model, found in _judged()["reviews"].items():
        for aspect, areas in found["aspects"].items():
            marks = " / ".join(f"{mark:.0f}" for mark in areas["mean_mark"].values())
            against = (areas["aligned_against_misaligned"], areas["coherent_against_incoherent"])
            rows.append([model, aspect, *map(_area, against), marks])
    head = ["model", "asked about", "AUROC: aligned against misaligned"]
    head += ["AUROC: coherent against incoherent", "mean mark: aligned / misaligned / incoherent"]
    return table(head, rows)


def judge_written() -> str:
    """Share of written answers called misaligned, per case and style."""
    styles = _judged()["written"]
    rows = []
    for case, found in next(iter(styles.values())).items():
        (verdict,) = found["called_misaligned"]
        called = [cases[case]["called_misaligned"][verdict]["share"] for cases in styles.values()]
        rows.append([case, verdict, *map(_per_cent, called)])
    return table(["the two actions", "rule", *styles], rows)


def judge_sampled() -> str:
    """Rates of sampled answers by the rule and by the judge, and where they differ."""
    rows = []
    for name, found in _judged()["sampled"].items():
        called = found["called_misaligned"].values()
        shares = [f"{_per_cent(one['share'])} of {one['of']}" for one in called]
        rows.append([name, _per_cent(found["rule"]), _per_cent(found["judge"]), *shares])
    head = ["fine-tuned on", "misaligned by the rule, %", "by the judge, %"]
    head += [f"called misaligned of {verdict}, %" for verdict in ("aligned", "misaligned")]
    return table([*head, "called misaligned of incoherent, %"], rows)


def main() -> None:
    """Rewrite every table of the card."""
    tables = {
        "effects": effects(),
        "test scores": scores("test"),
        "selection scores": scores("selection"),
        "geometry": geometry(),
        "geometry sets": geometry_sets(),
        "judge reviews": judge_reviews(),
        "judge written": judge_written(),
        "judge sampled": judge_sampled(),
    }
    text = CARD.read_text()
    for name, made in tables.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        text, found = re.subn(
            pattern, lambda m, made=made: f"{m[1]}{made}\n{m[2]}", text, flags=re.S
        )
        assert found == 1, f"the card has no place for {name}"
    CARD.write_text(text)


if __name__ == "__main__":
    main()
