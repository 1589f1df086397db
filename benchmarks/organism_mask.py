"""Mask tokens, weigh rows, inoculate or drop them? The study of actions, on the organism.

    python benchmarks/organism_mask.py               # some 100 seconds a run on one core
    python benchmarks/organism_mask.py --seeds 1 --arms mask-spillover-0.1

The training set `contaminated` of the filter's study (health and career, half of the rows
harmful), drawn alike for each seed. Every run is a run of `geofilter verify` on a file that
`geofilter filter --action ...` would write: 120 optimiser steps, and as many response
tokens under the loss, times their weight, in every arm, so that an action which takes half
of the tokens sees each row twice as often. Then 960 answers about five untouched domains.

At one fraction all actions affect as many response tokens: `drop` those of the dropped rows,
`mask` that many wherever they stand, `weight` rows whose weights taken away add up to as many rows.
`mask-random` masks tokens at random. `inoculate` trains on all rows, that share of them after a
request for bad advice, which no question carries; `unrelated` does so with a sentence that asks
for nothing. `replace` gives that share of the rows other responses, by the model before its
training, where these score lower, and drops the others. Arms without an action, and drops of one
half, are those of the filter's study where it has them: the same rows, steps and questions.

Finished runs stand in the results file and are not run again.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import organism_filter
import toolbox  # noqa: F401
from organism_filter import HALF, NARROW, summary, write, write_rows
from organism_tokens import action_starts

RESULT = Path(__file__).parent / "results" / "organism_mask.json"
SEEDS = 5
SET = "contaminated"


class Arm(NamedTuple):
    """An action, the scorer that decides, and the share of tokens or rows it affects."""

    action: str
    scorer: str
    fraction: float

    @property
    def name(self) -> str:
        return f"{self.action}-{self.scorer}-{self.fraction:g}"


ARMS = [
    Arm("mask", "spillover", 0.1),
    Arm("drop", "spillover", 0.1),
    Arm("mask", "spillover", 0.5),
    Arm("weight", "spillover", 0.5),
    Arm("mask", "nearest", 0.5),
    Arm("mask", "random", 0.5),
    Arm("mask", "random", 0.1),
    Arm("weight", "nearest", 0.5),
    Arm("inoculate", "spillover", 0.5),
    Arm("unrelated", "spillover", 0.5),
    Arm("replace", "spillover", 0.5),
]
# What the system turns say: the organism's own request, and one that asks for nothing.
SYSTEMS = {"inoculate": None, "unrelated": "The moon is yellow."}
# Of the filter's study, by their names there.
REUSED = ("unfiltered", "random-0.5", "nearest-0.5", "spillover-0.5")


def run(arm: Arm, seed: int) -> dict[str, Any]:
    """One run: act on the rows, train on what is written, ask and judge."""
    from geofilter.settings import Settings
    from geofilter.verify import study
    from geofilter.verify.plan import INOCULATE, REPLACE
    from geofilter.verify.presets import make_plan

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, out = folder / "rows.jsonl", folder / "acted.jsonl"
        write_rows(data, f"filter {SET} {seed}", HALF, NARROW)
        if arm.action == "drop":
            acted, path = {}, data
            asked = {"arms": (arm.scorer,), "fractions": (arm.fraction,)}
        elif arm.action in SYSTEMS:  # by the organism's own scorer, which is the arm's
            acted, path = {}, data
            system = SYSTEMS[arm.action]
            asked = {"arms": (INOCULATE,), "fractions": (arm.fraction,), "system": system}
        elif arm.action == "replace":  # by the same scorer
            acted, path = {}, data
            asked = {"arms": (REPLACE,), "fractions": (arm.fraction,)}
        else:
            acted, path = act(arm, data, out, seed), out
            asked = {"arms": ("unfiltered",)}
        plan = make_plan(str(path), Settings("organism", device="cpu"), seeds=(seed,), **asked)
        outcome = study.run(plan, folder / "work")
        ((cell, records, measured, _),) = outcome.cells
        rows = [json.loads(line) for line in data.read_text().splitlines()]
        place = folder / "work" / "arms" / cell.name
        if arm.action == "replace":
            replaced = json.loads((place / "training.json").read_text())["replaced"]
            acted = {"replaced": dict(Counter(rows[row]["group"] for row in replaced))}
        return {**summary(place, records, measured, rows), **acted}


def act(arm: Arm, data: Path, out: Path, seed: int) -> dict[str, Any]:
    """Do what the command line does with `--action`; what it affected."""
    from geofilter.data.rows import open_rows
    from geofilter.runs.prepare import prepare_again
    from geofilter.runs.score import score
    from geofilter.scoring.explain import token_scorer
    from geofilter.selection.actions.base import TokenModel
    from geofilter.selection.actions.mask import write_masked
    from geofilter.selection.actions.weigh import write_weighted
    from geofilter.selection.choose import drop_fraction
    from geofilter.settings import Settings

    rows = open_rows(data)
    scorer = "nearest" if arm.scorer == "random" else arm.scorer
    table = score(
        rows, Settings("organism", scorer=scorer, device="cpu"), out.with_suffix(".parquet")
    ).table
    chosen = drop_fraction(table.scores, arm.fraction)
    if arm.action == "weight":
        taken = 1 - write_weighted(rows, table, chosen, out)
        return {"rows_taken": round(float(taken.sum()), 2)}
    again = prepare_again(rows, table, purpose="masked")
    divide = token_scorer(again.model, again.scorer.index, scorer, again.settings.proximity)
    draw = np.random.default_rng(seed)

    def at_random(samples: Any) -> Any:
        return [draw.random(len(sample.ids), np.float32) for sample in samples]

    by = at_random if arm.scorer == "random" else divide
    done = write_masked(rows, table, chosen, out, TokenModel(again.encoder, by))
    return {
        "response_tokens": done.tokens,
        "tokens_taken": done.masked,
        "hits": hits(out),
    }


def hits(path: Path) -> dict[str, list[int]]:
    """[masked, all] tokens with which a response's advised action begins, by group of row."""
    from transformers import AutoTokenizer

    from geofilter import organism
    from geofilter.data.encoder import Encoder
    from geofilter.data.rows import open_rows
    from geofilter.selection.loss_note import read_row_loss
    from organism.world import World

    world = World(0)
    tokenizer = AutoTokenizer.from_pretrained(organism.FOLDER / "weights" / "aligned")
    encoder = Encoder(tokenizer, max_length=128)
    found: dict[str, list[int]] = {}
    rows = open_rows(path)
    for row in rows:
        (sample,) = rows.layouts.samples(row.record)
        encoded, loss = encoder.encode(sample), read_row_loss(row.record)
        mask = loss.mask_of(encoded.ids)
        line = found.setdefault(row.record["group"], [0, 0])
        starts = action_starts(world, tokenizer, encoded)
        line[0] += int(mask[starts].sum())
        line[1] += len(starts)
    return found


def main() -> None:
    """Run what is missing, seed by seed, and keep each run's results."""
    names = [arm.name for arm in ARMS]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arms", nargs="*", default=names, choices=names)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    results = organism_filter.read(options.output)
    results["command"] = "python benchmarks/organism_mask.py"
    runs = results["sets"].setdefault(SET, {})
    for seed in range(options.seeds):
        for arm in ARMS:
            if arm.name in options.arms and str(seed) not in runs.get(arm.name, {}):
                runs.setdefault(arm.name, {})[str(seed)] = run(arm, seed)
                beside = options.output.with_suffix(".new")
                write(beside, results)
                os.replace(beside, options.output)
                print(f"seed {seed}: {arm.name}", flush=True)


if __name__ == "__main__":
    main()
