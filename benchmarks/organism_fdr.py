"""Does `filter --fdr` keep its bound on the organism, what does it find, and when does it fail?

    python benchmarks/organism_fdr.py                    # about ten minutes on one core

A pool of labelled rows, none of which chose anything, is scored once by each scorer. Then, 200
times, the clean rows of the pool are parted by hash into those that may be a reference and
those that may stand in the data; a reference and a data set are drawn at random, and
`geofilter.fdr` decides. Measured over these splits: the share of clean rows among the dropped
(0 where none is dropped), and the power, the share of harmful rows that were dropped.

Then the condition is broken on purpose, in several ways, and the same is measured, with how
often `resemblance` raises a doubt. Intervals are of the mean over splits of this one pool.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t

import geofilter
import toolbox  # noqa: F401
from geofilter import organism
from geofilter.data.partition import partition
from geofilter.data.rows import open_rows
from geofilter.runs.score import score
from geofilter.selection.reference_check import MEASURES, clean_share, compare
from geofilter.settings import Settings
from organism import datasets
from organism import domains as d
from organism.world import World

RESULT = Path(__file__).parent / "results" / "organism_fdr.json"
SPLITS = 200
SCORERS = ("nearest", "spillover")
LEVELS = (0.05, 0.1, 0.2)
SIZES = (100, 300, 1000, 3000)
CONTAMINATIONS = (0.0, 0.05, 0.1, 0.3, 0.5)
ROWS = 1000  # of each data set
# The broken conditions are shown for these.
BROKEN_SIZE, BROKEN_CONTAMINATIONS = 1000, (0.0, 0.3)
IMPLIED = "clean share"
DOUBTS = (*MEASURES, IMPLIED)

# What a pool is made of. The shares of benign groups are those of the demo's mixture.
CLEAN = {"benign": 0.5, "surprising": 0.25, "mention": 0.25}
HARMFUL = {"harmful": 0.6, "harmful_polite": 0.4}
POOLS = {
    "clean": (10_000, CLEAN, d.INDUCING),
    "harmful": (2_000, HARMFUL, d.INDUCING),
    "clean, other domains": (2_000, CLEAN, d.UNTOUCHED),
}

Rows = NDArray[np.int64]


class Pool(NamedTuple):
    """All rows that are drawn from: columns of their score table, and where each kind stands."""

    columns: dict[str, np.ma.MaskedArray[Any, Any]]
    kinds: dict[str, Rows]
    parts: list[dict[str, Rows]]  # the clean rows, parted anew for each split

    def take(self, rows: Rows) -> dict[str, np.ma.MaskedArray[Any, Any]]:
        return {name: column[rows] for name, column in self.columns.items()}


def write_pool(path: Path, scale: float) -> dict[str, list[int]]:
    """Write the pool's rows, the pack's benign rows last, and return the places of each kind.

    Rows that the form and the blocks of the scorers were chosen on are left out, by hash.
    """
    world, data = World(), organism.FOLDER / "data"
    known = {row.row_hash for row in open_rows(data / "selection.jsonl.gz")}
    everything = path.with_suffix(".all.jsonl")
    records: list[dict[str, object]] = []
    for name, (size, shares, domains) in POOLS.items():
        made = datasets.mixed_rows(
            world, f"fdr {name}", round(size * scale), shares=shares, domains=domains
        )
        records += [{"kind": name, **row.as_record()} for row in made]
    with everything.open("w") as file:
        for record in records:
            plain = {key: value for key, value in record.items() if key != "kind"}
            file.write(json.dumps(plain) + "\n")
    kinds: dict[str, list[int]] = {}
    place = 0
    with path.open("wb") as file:
        for row, record in zip(open_rows(everything), records, strict=True):
            if row.row_hash in known:
                continue
            file.write(row.raw)
            for kind in (record["kind"], f"{record['kind']}: {record['group']}"):
                kinds.setdefault(kind, []).append(place)
            place += 1
        for row in open_rows(data / "benign.jsonl"):
            file.write(row.raw.rstrip(b"\n") + b"\n")
            kinds.setdefault("of the pack", []).append(place)
            place += 1
    return kinds


def score_pool(path: Path, scorer: str, places: dict[str, list[int]], splits: int) -> Pool:
    """The pool under one scorer, as `geofilter score` scores it."""
    settings = Settings("organism", scorer=scorer, device="cpu")
    out = path.with_suffix(f".{scorer}.parquet")
    table = score(open_rows(path), settings, out).table
    kinds = {kind: np.array(found) for kind, found in places.items()}
    hashes = table.column("row_hash")[kinds["clean"]].tolist()
    parted = (partition(hashes, {"calibrate": 0.5, "test": 0.5}, seed=s) for s in range(splits))
    parts = [{name: kinds["clean"][rows] for name, rows in one.items()} for one in parted]
    return Pool({name: table.column(name) for name in MEASURES}, kinds, parts)


class Split(NamedTuple):
    """One draw: rows of the reference, and clean and harmful rows of the data."""

    reference: Rows
    clean: Rows
    harmful: Rows


# How a reference is drawn: (rows that may serve, all kinds, size, generator) -> rows.
Draw = Callable[[Rows, dict[str, Rows], int, np.random.Generator], Rows]


def any_of(rows: Rows, size: int, rng: np.random.Generator) -> Rows:
    return rng.choice(rows, min(size, len(rows)), replace=False)


BROKEN: dict[str, Draw] = {
    "none: exchangeable": lambda rows, kinds, n, rng: any_of(rows, n, rng),
    "other domains": lambda rows, kinds, n, rng: any_of(kinds["clean, other domains"], n, rng),
    "plain rows only": lambda rows, kinds, n, rng: any_of(
        np.intersect1d(rows, kinds["clean: benign"]), n, rng
    ),
    "no mention of insults": lambda rows, kinds, n, rng: any_of(
        np.setdiff1d(rows, kinds["clean: mention"]), n, rng
    ),
    "no surprising rows": lambda rows, kinds, n, rng: any_of(
        np.setdiff1d(rows, kinds["clean: surprising"]), n, rng
    ),
    "the pack's benign rows": lambda rows, kinds, n, rng: any_of(kinds["of the pack"], n, rng),
    "a tenth of the rows, ten times each": lambda rows, kinds, n, rng: np.repeat(
        any_of(rows, n // 10, rng), 10
    ),
    "a tenth of it harmful": lambda rows, kinds, n, rng: np.concatenate(
        [any_of(rows, n - n // 10, rng), any_of(kinds["harmful"], n // 10, rng)]
    ),
}


def draw(pool: Pool, seed: int, size: int, contamination: float, how: Draw) -> Split:
    """The split of one seed: reference and data share no row, whatever the sizes."""
    rng = np.random.default_rng(seed)
    parts = pool.parts[seed]
    n_harmful = round(ROWS * contamination)
    return Split(
        how(parts["calibrate"], pool.kinds, size, rng),
        any_of(parts["test"], ROWS - n_harmful, rng),
        any_of(pool.kinds["harmful"], n_harmful, rng),
    )


def decide(pool: Pool, split: Split) -> dict[float, tuple[float, float, int]]:
    """For each level: share of clean rows among the dropped, power, and rows dropped."""
    scores = pool.columns["score"]
    data = np.concatenate([split.clean, split.harmful])
    found = {}
    for q in LEVELS:
        dropped = geofilter.fdr(scores[data], scores[split.reference], q).drop
        n_clean = int((dropped < len(split.clean)).sum())
        share = n_clean / len(dropped) if len(dropped) else 0.0
        n_harmful = len(split.harmful)
        power = (len(dropped) - n_clean) / n_harmful if n_harmful else np.nan
        found[q] = (share, power, len(dropped))
    return found


def doubts(pool: Pool, split: Split) -> list[str]:
    """In what the reference is doubted: a measure, or the clean share that it implies."""
    data = pool.take(np.concatenate([split.clean, split.harmful]))
    reference = pool.take(split.reference)
    found = [one.measure for one in compare(data, reference) if one.doubtful]
    share = clean_share(data["score"], reference["score"])
    return found + [IMPLIED] * share.doubtful


def implied(pool: Pool, split: Split) -> float:
    """The share of the data that is clean, if the reference is right."""
    data = np.concatenate([split.clean, split.harmful])
    scores = pool.columns["score"]
    return clean_share(scores[data], scores[split.reference]).estimate


def mean_interval(values: NDArray[np.float64]) -> list[float]:
    """[mean, low, high]: a 95 % t interval over splits, within [0, 1]."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = values.mean()
    return [round(float(v), 4) for v in (mean, max(0, mean - half), min(1, mean + half))]


def summarise(runs: Sequence[dict[float, tuple[float, float, int]]]) -> dict[str, Any]:
    """Over the splits of one condition, for each level."""
    cells = {}
    for q in LEVELS:
        shares, powers, dropped = (
            np.array(v, float) for v in zip(*(r[q] for r in runs), strict=True)
        )
        cells[str(q)] = {
            "fdp": mean_interval(shares),
            "fdp_95": round(float(np.quantile(shares, 0.95)), 4),
            "splits_above_q": round(float((shares > q).mean()), 4),
            "power": None if np.isnan(powers).any() else mean_interval(powers),
            "dropped": round(float(dropped.mean()), 1),
            "splits_that_drop": round(float((dropped > 0).mean()), 4),
        }
    return cells


def measure(pool: Pool, size: int, contamination: float, how: Draw) -> dict[str, Any]:
    """One condition over all splits."""
    splits = range(len(pool.parts))
    drawn = [draw(pool, seed, size, contamination, how) for seed in splits]
    doubted = [doubts(pool, split) for split in drawn]
    return {
        "reference": len(drawn[0].reference),
        "contamination": contamination,
        "doubted": round(float(np.mean([bool(one) for one in doubted])), 4),
        "doubted_in": {
            name: round(float(np.mean([name in one for one in doubted])), 4) for name in DOUBTS
        },
        "clean_share": mean_interval(np.array([implied(pool, split) for split in drawn])),
        "levels": summarise([decide(pool, split) for split in drawn]),
    }


def study(pool: Pool) -> dict[str, Any]:
    """Every size and contamination with an exchangeable reference, then with others."""
    good = BROKEN["none: exchangeable"]
    return {
        "held": [measure(pool, n, share, good) for n in SIZES for share in CONTAMINATIONS],
        "broken": {
            name: [measure(pool, BROKEN_SIZE, share, how) for share in BROKEN_CONTAMINATIONS]
            for name, how in BROKEN.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Score the pool, run all splits, and write one results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--pool", type=float, default=1.0, help="share of the full pool")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "command": "python benchmarks/organism_fdr.py",
        "base_model_sha256": json.loads((organism.FOLDER / "manifest.json").read_text())["files"][
            "weights/base/model.safetensors"
        ],
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "splits": chosen.splits,
        "rows": ROWS,
        "scorers": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.jsonl"
        kinds = write_pool(path, chosen.pool)
        results["pool"] = {kind: len(places) for kind, places in kinds.items()}
        print(results["pool"], flush=True)
        for scorer in SCORERS:
            pool = score_pool(path, scorer, kinds, chosen.splits)
            results["scorers"][scorer] = found = study(pool)
            for one in found["held"]:
                print(scorer, one["reference"], one["contamination"], one["levels"]["0.1"])
            for name, cells in found["broken"].items():
                print(scorer, name, *((one["doubted"], one["levels"]["0.1"]) for one in cells))
    chosen.output.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
