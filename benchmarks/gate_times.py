"""How long the gate takes, and how far a score moves by rounding: the figures of docs/gate.md.

    python benchmarks/gate_times.py -o benchmarks/results/gate_times.json

Each time is that of a whole process, its start and the model's load included, as wall and as
processor seconds (`wall`, `cpu`): `geofilter check` over 10,000 new rows of the organism, over
the same file with 50 rows added, and with `--no-model`. `load` is the machine's when it began,
this program aside: beyond the number of cores, the wall seconds say little.

The rounding is that of rows scored in other company: each one alone, against all in jobs as
the gate makes them, relative to the greatest of both scores and the threshold.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import toolbox  # noqa: F401
from geofilter.data.rows import open_rows
from geofilter.gate.check import TOLERANCE
from geofilter.gate.policy import read_policy
from geofilter.gate.scorer import load_scorer
from geofilter.scoring.scorers import SCORERS
from geofilter.support.manifest import library_versions
from organism.datasets import mixed_rows
from organism.world import World

DATA = Path(__file__).parents[1] / "geofilter" / "organism" / "data"
ROUNDED = 300  # rows that are scored once more, each alone
POLICY = '[tool.geofilter]\nmodel = "organism"\npack = "toxic.pack"\nthreshold = {threshold}\n'


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def geofilter(folder: Path, *words: str) -> tuple[dict[str, float], str]:
    """Seconds of a whole process, and what it said on standard error."""
    started, used = time.perf_counter(), _cpu()
    command = [sys.executable, "-m", "geofilter", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    taken = {"wall": round(time.perf_counter() - started, 2), "cpu": round(_cpu() - used, 2)}
    if done.returncode == 2:
        raise SystemExit(done.stderr)
    return taken, done.stderr


def lines(count: int) -> list[str]:
    """Rows of the organism's mixture, made different by a number."""
    rows = mixed_rows(World(0), "gate times", min(count, 4000))
    records = (rows[i % len(rows)].as_record() for i in range(count))
    return [json.dumps({"id": i, **record}) + "\n" for i, record in enumerate(records)]


def times(folder: Path, rows: int, added: int, rounds: int) -> dict[str, object]:
    data, text = folder / "train.jsonl", lines(rows + added * rounds)
    data.write_text("".join(text[:rows]))
    all_new, said = geofilter(folder, "check", "train.jsonl")
    some_new, without = [], []
    for turn in range(rounds):
        with data.open("a") as handle:
            handle.writelines(text[rows + turn * added :][:added])
        taken, said = geofilter(folder, "check", "train.jsonl")
        assert f"{added} scored now" in said, said
        some_new.append(taken)
        taken, said = geofilter(folder, "check", "--no-model", "train.jsonl")
        assert " 0 scored now" in said, said
        without.append(taken)
    return {
        "rows": rows,
        "added": added,
        "all_new_s": all_new,
        "added_s": some_new,
        "no_model_s": without,
        "lock_bytes": (folder / "geofilter.lock").stat().st_size,
    }


def rounding(folder: Path, scorer: str, dtype: str) -> dict[str, float]:
    """The greatest and the usual move of a score, as the gate measures it."""
    text = POLICY.format(threshold=0) + f'scorer = "{scorer}"\ndtype = "{dtype}"\n'
    (folder / "pyproject.toml").write_text(text)
    data = folder / "few.jsonl"
    data.write_text("".join(random.Random(0).sample(lines(4000), ROUNDED)))
    source = open_rows(data)
    loaded = load_scorer(read_policy([data]), source, device="cpu")
    rows = list(source)
    together = np.array([entry.score for entry in loaded.score(rows, source.layouts)])
    alone = np.array([loaded.score([row], source.layouts)[0].score for row in rows])
    # As a threshold would be chosen: the score that a tenth of the rows reach.
    threshold = abs(np.quantile(together, 0.9))
    scale = np.maximum(np.maximum(abs(together), abs(alone)), threshold)
    moved = abs(together - alone) / scale
    return {"greatest": float(moved.max()), "median": float(np.median(moved))}


def table(found: dict[str, Any]) -> str:
    """The times as docs/gate.md shows them."""
    times = found["times"]
    rows, added = times["rows"], times["added"]
    shown = {
        f"{rows:,} new rows": [times["all_new_s"]],
        f"{added} new rows among {rows:,}": times["added_s"],
        f"{rows:,} rows, `--no-model`": times["no_model_s"],
    }
    lines = ["| check | wall, s | processor, s |", "| --- | --- | --- |"]
    for name, taken in shown.items():
        spans = [_span([one[kind] for one in taken]) for kind in ("wall", "cpu")]
        lines.append(f"| {name} | {spans[0]} | {spans[1]} |")
    return "\n".join(lines)


def _span(values: list[float]) -> str:
    least, greatest = f"{min(values):.1f}", f"{max(values):.1f}"
    return least if least == greatest else f"{least} to {greatest}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--added", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = ["--toxic", str(DATA / "toxic.jsonl"), "--benign", str(DATA / "benign.jsonl")]
        geofilter(folder, "discover", *sets, "--model", "organism", "-o", "toxic.pack")
        (folder / "pyproject.toml").write_text(POLICY.format(threshold=1))
        found: dict[str, object] = {
            "load": load,
            "cores": os.cpu_count(),
            "times": times(folder, options.rows, options.added, options.rounds),
            "rounding": {
                f"{scorer}, {dtype}": rounding(folder, scorer, dtype)
                for scorer in SCORERS
                for dtype in TOLERANCE
            },
            "tolerance": TOLERANCE,
            "threads": torch.get_num_threads(),
            "versions": library_versions(["geofilter", "torch", "transformers"]),
        }
    text = json.dumps(found, indent=1) + "\n"
    print(text, end="")
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
