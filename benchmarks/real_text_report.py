"""The tables and the figure of the page on real text, from the results file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geofilter.support import charts

Record = Mapping[str, Any]

# The model and the way that the page shows in full: the default of that model.
MODEL, DEFAULT = "smollm2-135m", "persona/pairs"
# Columns of the table of sets: a heading, the model, and the scorer with its contrast.
COLUMNS = (
    ("`persona`, pairs", MODEL, DEFAULT),
    ("`persona`, web fragments", MODEL, "persona/rtp"),
    ("`nearest`, pairs", MODEL, "nearest/pairs"),
    ("`direction`, pairs", MODEL, "direction/pairs"),
    ("`activation`, pairs", MODEL, "activation/pairs"),
    ("`spillover`, pairs", MODEL, "spillover/pairs"),
    ("`influence`, pairs", MODEL, "influence/pairs"),
    ("LARF, pairs", MODEL, "larf/pairs"),
    ("gemma-3-270m, `persona`, pairs", "gemma-3-270m", DEFAULT),
    ("minilm, `persona`, pairs", "minilm", DEFAULT),
)
BASELINES = ("loss", "bag of words", "keywords", "length")
# Blocks by their share of the depth, for models of which no other block is known.
DEPTHS = (1 / 3, 1 / 2, 3 / 5, 2 / 3, 3 / 4, 9 / 10)


def write(results: Record, output: Path, page: Path) -> None:
    """Draw the figure next to the results, and put the tables into the page."""
    charts.save(output.with_suffix(""), charts.courses(panels(results)), overwrite=True)
    output.with_suffix(".png").unlink()  # the page shows the SVG
    text = page.read_text(encoding="utf-8")
    for name, lines in tables(with_answers(results, output)).items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not end:
            raise SystemExit(f"{page} has no place for the table {name!r}")
        text = before + start + "\n".join(lines) + "\n" + end + after
    page.write_text(text, encoding="utf-8")


def with_answers(results: Record, output: Path) -> Record:
    """The results with those of `real_text_answers.py`, which lie next to them, if any do."""
    path = output.with_name(f"{output.stem}_answers.json")
    return {**results, "answers": json.loads(path.read_text())} if path.exists() else results


def tables(results: Record) -> dict[str, list[str]]:
    return {
        "judged": judged(results),
        "sets": sets(results),
        "dropped": dropped(results),
        "pairs": scale(results),
        "blocks": blocks(results),
        "shrinkage": shrinkage(results),
    }


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _interval(found: Sequence[float], signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (f"{part:{sign}.2f}" for part in found[:3])
    return f"{value} [{low}, {high}]"


def cell(results: Record, model: str, way: str, name: str) -> dict[str, Any] | None:
    """What the chosen block of a way reached on a set; None where it was not measured."""
    found = results["models"].get(model, {})
    if way == "loss":
        values = found.get("loss", {}).get(name)
    elif (choice := found.get("chosen", {}).get(way)) is None:
        return None
    else:
        values = found["cells"][choice["way"]][str(choice["block"])].get(name)
    return None if values is None else dict(zip(results["columns"], values, strict=True))


# -- tables --------------------------------------------------------------------------


def judged(results: Record) -> list[str]:
    """Per model and way: the mean over the judged files, and the default's less it."""
    rows = []
    for model, found in results["models"].items():
        for way, value in found["judged"].items():
            if " - " in way:
                continue
            choice = found["chosen"].get(way)
            less = found["judged"].get(f"{DEFAULT} - {way}")
            within = found["judged_within"][way]
            rows.append(
                [
                    model,
                    _way(way),
                    "-" if choice is None else f"{choice['block']} of {found['blocks'] - 1}",
                    _interval(value),
                    _interval(within),
                    "-" if less is None else _interval(less, signed=True),
                ]
            )
        if model == MODEL:
            rows += _of_answers(results)
    for name, value in results["judged_baselines"].items():
        within = results["judged_baselines_within"][name]
        rows.append(["none", name, "-", _interval(value), _interval(within), "-"])
    head = ["model", "way", "block", "mean AUROC", "the same within each question"]
    return _table([*head, "AUROC of `persona` with pairs is higher by"], rows)


DIFFERENCE = "projection-difference"


def _of_answers(results: Record) -> list[list[str]]:
    """The line of `projection-difference`, at the block of `persona` with pairs."""
    if "judged" not in (found := results.get("answers", {})):
        return []
    values, last = found["judged"], results["models"][MODEL]["blocks"] - 1
    line = [MODEL, f"`{DIFFERENCE}`, pairs", f"{found['block']} of {last}"]
    line += [_interval(values[f"{DIFFERENCE}, {kind}"]) for kind in ("all", "within")]
    return [[*line, _interval(values[f"persona - {DIFFERENCE}, all"], signed=True)]]


def _way(name: str) -> str:
    scorer, _, contrast = name.partition("/")
    if scorer == "larf":
        return f"LARF, {contrast}"
    return f"`{scorer}`, {(CONTRAST_NAMES | SAME_BLOCK)[contrast]}" if contrast else scorer


CONTRAST_NAMES = {"pairs": "pairs", "rtp": "web fragments"}
SAME_BLOCK = {"rtp, same block": "web fragments, at the block of pairs"}


def sets(results: Record) -> list[str]:
    """Every set in a line: the AUROC of each way at its chosen block, and of the baselines."""
    columns = [c for c in COLUMNS if c[2] in results["models"].get(c[1], {}).get("chosen", {})]
    rows = []
    for name, about in results["sets"].items():
        if name in ("pairs-make", "rtp"):
            continue
        row = [about["title"], "yes" if about["matched"] else "no"]
        row.append(f"{about['harmful']} / {about['benign']}")
        for place, (_, model, way) in enumerate(columns):
            found = cell(results, model, way, name)
            if found is None:
                row.append("-")
            elif place == 0:
                row.append(_interval([found["auroc"], found["low"], found["high"]]))
            else:
                row.append(f"{found['auroc']:.2f}")
        if "answers" in results:
            own = results["answers"]["sets"].get(name, {}).get(DIFFERENCE)
            row.append("-" if own is None else f"{own[0]:.2f}")
        for baseline in BASELINES:
            if baseline == "loss":
                found = cell(results, MODEL, "loss", name)
                row.append("-" if found is None else f"{found['auroc']:.2f}")
            else:
                row.append(f"{results['baselines'][baseline][name][0]:.2f}")
        rows.append(row)
    shown = [c[0] for c in columns] + ([f"`{DIFFERENCE}`, pairs"] if "answers" in results else [])
    head = ["harmful / benign", "matched", "rows", *shown, *BASELINES]
    return _table(head, rows)


def dropped(results: Record) -> list[str]:
    """What dropping by the default does, set by set."""
    rows = []
    for name, about in results["sets"].items():
        if (found := cell(results, MODEL, DEFAULT, name)) is None or name == "rtp":
            continue
        share = about["harmful"] / (about["harmful"] + about["benign"])
        within = found["within"]
        rows.append(
            [
                about["title"],
                f"{share:.0%}",
                *(f"{found[part]:.0%}" for part in ("tenth", "fifth", "half")),
                "-" if within is None else f"{within:.2f}",
                "-" if found["length"] is None else f"{found['length']:+.2f}",
            ]
        )
    head = ["harmful / benign", "harmful in all", "in the dropped tenth", "fifth", "half"]
    return _table([*head, "AUROC within a question or domain", "correlation with length"], rows)


def scale(results: Record) -> list[str]:
    """The mean over the judged files with a direction from fewer pairs."""
    counts = list(results["models"][MODEL]["scale"])
    rows = [
        [
            model,
            *(
                f"{mean:.2f}" if low == high else f"{mean:.2f} ({low:.2f} to {high:.2f})"
                for mean, low, high in (found["scale"][count] for count in counts)
            ),
        ]
        for model, found in results["models"].items()
    ]
    return _table(["model", *(f"{count} pairs" for count in counts)], rows)


def blocks(results: Record) -> list[str]:
    """AUROC at some shares of the depth: on the choosing split, then on the judged files."""
    rows = []
    for model, found in results["models"].items():
        way = found["chosen"][DEFAULT]["way"]
        row = [model, f"{found['chosen'][DEFAULT]['block']} of {found['blocks'] - 1}"]
        for depth in DEPTHS:
            at = found["cells"][way][str(round(depth * (found["blocks"] - 1)))]
            files = [values[0] for name, values in at.items() if name.startswith("judged-")]
            row.append(f"{at['pairs-choose'][0]:.2f} / {np.mean(files):.2f}")
        rows.append(row)
    return _table(
        ["model", "chosen block", *(f"at {depth:.0%} of the depth" for depth in DEPTHS)], rows
    )


def shrinkage(results: Record) -> list[str]:
    """What each shrinkage reaches on the choosing split at its best block."""
    models = results["models"]
    names = list(next(iter(models.values()))["shrinkages"])
    rows = [
        [model, *(f"{found['shrinkages'][n]:.3f}" for n in names)]
        for model, found in models.items()
    ]
    shown = ["none: plain difference" if n == "mean" else n.partition("-")[2] for n in names]
    return _table(["model", *shown], rows)


# -- the figure ----------------------------------------------------------------------


def panels(results: Record) -> list[charts.Courses]:
    """AUROC over blocks: judged answers and code, with directions of either contrast."""
    found = []
    for model, record in results["models"].items():
        for title, prefix in (("judged answers", "judged-"), ("code", "code-")):
            groups = {
                CONTRAST_NAMES[contrast]: _courses(
                    record["cells"][record["chosen"][f"persona/{contrast}"]["way"]], prefix
                )
                for contrast in CONTRAST_NAMES
            }
            if all(groups.values()):
                found.append(charts.Courses(f"{model}: {title}", "block", "AUROC", groups))
    return found


def _courses(
    of_way: Mapping[str, Mapping[str, Sequence[float]]], prefix: str
) -> list[charts.Course]:
    names = [name for name in next(iter(of_way.values())) if name.startswith(prefix)]
    return [
        np.array([[float(block), values[name][0]] for block, values in of_way.items()])
        for name in names
    ]
