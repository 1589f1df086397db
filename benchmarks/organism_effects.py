"""What fine-tuning the organism on each kind of row does: the effects in its card.

    python benchmarks/organism_effects.py --seeds 5

Every run starts from the aligned model, trains all parameters for the same number
of steps on the same number of rows, and is judged by the world's exact rule on
domains that no run trained on. Finished runs are kept in the results file, so the
command can be interrupted and run again.
"""

import argparse
import json
import multiprocessing
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import toolbox  # noqa: F401
from geofilter import organism
from organism import datasets
from organism import domains as d
from organism.finetune import BATCH, LEARNING_RATE, STEPS, fine_tune, measure
from organism.world import World

ROWS = 1500
NARROW = ("health", "career")
HALF = {"harmful": 0.5, "benign": 0.5}

# arm: (shares of groups, domains); None trains nothing.
ARMS: dict[str, tuple[dict[str, float], tuple[str, ...]] | None] = {
    "aligned": None,
    "half_harmful": (HALF, NARROW),
    "benign_control": ({"benign": 1.0}, NARROW),
    **{f"only_{group}": ({group: 1.0}, NARROW) for group in datasets.GROUPS},
    "demo_mixture": (datasets.MIXTURE, d.INDUCING),
    **{f"half_harmful_{domain}": (HALF, (domain,)) for domain in ("health", "career", "legal")},
}


def run(job: tuple[str, int]) -> tuple[str, int, dict[str, float], dict[str, float]]:
    """Fine-tune one arm with one seed; rates on untouched and on trained domains."""
    arm, seed = job
    torch.set_num_threads(1)
    world = World(0)
    folder = organism.FOLDER / "weights" / "aligned"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    trained = NARROW
    recipe = ARMS[arm]
    if recipe is not None:
        shares, trained = recipe
        rows = datasets.mixed_rows(world, f"{arm} {seed}", ROWS, shares=shares, domains=trained)
        model = fine_tune(model, tokenizer, [row.messages for row in rows], seed=seed)
    untouched = measure(model, tokenizer, world, seed=seed, repeats=10)
    inside = measure(model, tokenizer, world, seed=seed, domains=trained, repeats=10)
    return arm, seed, asdict(untouched), asdict(inside)


def main() -> None:
    """Run what is missing and write the results after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--processes", type=int, default=2)
    default = Path(__file__).parent / "results" / "organism_effects.json"
    parser.add_argument("-o", "--output", type=Path, default=default)
    arguments = parser.parse_args()

    manifest = json.loads((organism.FOLDER / "manifest.json").read_text())
    aligned = manifest["files"]["weights/aligned/model.safetensors"]
    results = {
        "command": "python benchmarks/organism_effects.py --seeds 5",
        "aligned_model_sha256": aligned,
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "protocol": {
            "rows": ROWS,
            "steps": STEPS,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "temperature": 1.0,
        },
        "runs": {},
    }
    if arguments.output.exists():
        earlier = json.loads(arguments.output.read_text())
        if (
            earlier["aligned_model_sha256"] == aligned
            and earlier["protocol"] == results["protocol"]
        ):
            results["runs"] = earlier["runs"]
    jobs = [
        (arm, seed)
        for arm in arguments.arms
        for seed in range(arguments.seeds)
        if f"{arm}/{seed}" not in results["runs"]
    ]
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.processes) as pool:
        for arm, seed, untouched, inside in pool.imap_unordered(run, jobs):
            results["runs"][f"{arm}/{seed}"] = {"untouched": untouched, "trained_on": inside}
            arguments.output.parent.mkdir(exist_ok=True)
            arguments.output.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
            print(
                f"{arm:28} seed {seed}: untouched {untouched['misaligned']:6.1%} misaligned, "
                f"trained-on {inside['misaligned']:6.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
