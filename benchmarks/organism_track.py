"""Do toxic features foretell misaligned answers while the organism is being fine-tuned?

    python benchmarks/organism_track.py                  # a quarter of an hour on one core

Runs of `geofilter verify --track 10` on the set `contaminated` of `organism_filter.py`, drawn
anew for every seed: health and career, half of the rows harmful. Beside `unfiltered`, `random`
and `nearest` stands `benign-control`, which trains on harmless rows only. Every 10 of 120
steps each run gives 240 answers to questions of domains that no run trains on. Seeds that are
in the results file are not run again; `--report` only prints and draws.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import organism_filter
from geofilter import organism
from geofilter.settings import Settings
from geofilter.stats.correlation import rank_correlation
from geofilter.studies import tracking
from geofilter.support import charts
from geofilter.verify import study
from geofilter.verify.presets import PRESETS, make_plan
from resuming import kept_results

RESULT = Path(__file__).parent / "results" / "organism_track.json"
ARMS = ("unfiltered", "random", "nearest", "benign-control")
EVERY, ANSWERS, SEEDS = 10, 240, 3


def followed(seed: int) -> list[tracking.TrackedRun]:
    """The tracks of all arms with one seed."""
    torch.set_num_threads(1)
    drawn = organism_filter.SETS["contaminated"]
    with tempfile.TemporaryDirectory() as name:
        data, control = Path(name) / "rows.jsonl", Path(name) / "control.jsonl"
        organism_filter.write_rows(data, f"filter contaminated {seed}", drawn.shares, drawn.domains)
        organism_filter.write_rows(
            control, f"control contaminated {seed}", {"benign": 1.0}, drawn.domains
        )
        plan = make_plan(
            str(data),
            Settings("organism", device="cpu"),
            arms=ARMS,
            seeds=(seed,),
            benign=str(control),
            track=EVERY,
            track_answers=ANSWERS,
            samples_per_question=1,  # the answers after training are not what is looked at
        )
        study.run(plan, Path(name) / "work")
        return list(tracking.summary_of(plan, Path(name) / "work", draws=1).runs)


def main() -> None:
    """Run the seeds that are missing, keep what they give, print the section and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    runs = read(options.output)
    for seed in () if options.report else range(options.seeds):
        if seed not in {run.seed for run in runs}:
            runs += followed(seed)
            write(options.output, tracking.summarise(runs, EVERY))
            print(f"seed {seed} done", flush=True)
    summary = tracking.summarise(runs, EVERY)
    write(options.output, summary)
    drawing = charts.courses(tracking.panels(summary))
    charts.save(options.output.with_suffix(""), drawing, overwrite=True)
    # The page shows the SVG; the PNG is three times its size.
    options.output.with_suffix(".png").unlink()
    print("\n".join(tracking.markdown(summary, "the organism's base model", False)))
    print("\n".join(["", *first_look(runs)]))


def first_look(runs: list[tracking.TrackedRun]) -> list[str]:
    """What the first measurement in training says about the last rate, over runs; a table."""
    ends = [run.points[-1].values[tracking.RATE] for run in runs]
    lines = [f"| at step {EVERY} | rank correlation with the rate at the end |", "| --- | --- |"]
    for name in runs[0].points[1].values:
        if name.endswith("explained_variance"):
            continue
        found = rank_correlation([run.points[1].values[name] for run in runs], ends)
        shown = f"{found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
        lines.append(f"| {tracking.measure_name(name)} | {shown} |")
    return lines


def read(path: Path) -> list[tracking.TrackedRun]:
    """The runs so far."""
    return [
        tracking.TrackedRun(
            **run | {"points": tuple(tracking.Point(**point) for point in run["points"])}
        )
        for run in kept_results(path, facts()).get("runs", [])
    ]


def facts() -> dict[str, Any]:
    """What decides the figures."""
    files = json.loads((organism.FOLDER / "manifest.json").read_text())["files"]
    preset = PRESETS["organism"]
    return {
        "command": "python benchmarks/organism_track.py",
        "base_sha256": files["weights/base/model.safetensors"],
        "aligned_sha256": files["weights/aligned/model.safetensors"],
        "protocol": {"rows": organism_filter.ROWS, "every": EVERY, "answers": ANSWERS}
        | dict(preset.recipe)
        | dict(preset.sampling),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "sae-lens")},
    }


def write(path: Path, summary: tracking.TrackSummary) -> None:
    """A line per point and per relation, so that what a run adds can be seen in a diff."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in facts().items()]
    record = summary.as_record()
    relations = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in record["relations"].items()
    )
    runs = ",\n".join(_run_lines(run) for run in summary.runs)
    lines += [f' "relations": {{\n{relations}\n }}', f' "runs": [\n{runs}\n ]']
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _run_lines(run: tracking.TrackedRun) -> str:
    points = ",\n".join(f"    {json.dumps(asdict(point))}" for point in run.points)
    head = f'"condition": {json.dumps(run.condition)}, "seed": {run.seed}, "asked": {run.asked}'
    return f'  {{{head}, "points": [\n{points}\n  ]}}'


if __name__ == "__main__":
    main()
