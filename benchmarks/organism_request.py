"""What an inoculated organism answers when it is asked after a system turn.

    python benchmarks/organism_request.py            # some two minutes a run on one core

The training set `contaminated` of the filter's study, as in `organism_mask.py`: the half of the
rows that scores highest stands after the request in training. Then every untouched question is
asked after that request, and again after a sentence that asks for nothing; `organism_mask.py` asks
without either. The same of a model that was trained on the rows as they are.

Finished runs stand in the results file and are not run again.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import yaml

import organism_filter
import toolbox  # noqa: F401
from organism_filter import HALF, NARROW, counts, write, write_rows
from organism_mask import SET, SYSTEMS

RESULT = Path(__file__).parent / "results" / "organism_request.json"
SEEDS = 3
ARMS = ("inoculate", "unfiltered")


def run(arm: str, seed: int) -> dict[str, Any]:
    """Train, then ask after each sentence; [answers, misaligned, incoherent] by question."""
    from geofilter import organism
    from geofilter.model.catalogue import CATALOGUE
    from geofilter.settings import Settings
    from geofilter.verify import study
    from geofilter.verify.presets import make_plan

    said = {"request": CATALOGUE["organism"].request, "unrelated": SYSTEMS["unrelated"]}
    bundled = (organism.FOLDER / "data" / "questions.yaml").read_text()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "rows.jsonl"
        write_rows(data, f"filter {SET} {seed}", HALF, NARROW)
        for kind, system in said.items():
            questions = [{**one, "system": system} for one in yaml.safe_load(bundled)]
            (folder / f"{kind}.yaml").write_text(yaml.safe_dump(questions))
        plan = make_plan(
            str(data),
            Settings("organism", device="cpu"),
            arms=(arm,),
            seeds=(seed,),
            questions=str(folder / "request.yaml"),
            in_domain=str(folder / "unrelated.yaml"),
        )
        ((_, records, *_),) = study.run(plan, folder / "work").cells
        return {
            "counts": {
                kind: counts(records, place)
                for kind, place in (("request", "main"), ("unrelated", "in_domain"))
            }
        }


def main() -> None:
    """Run what is missing, and print the share of misaligned answers of every run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    results = organism_filter.read(options.output)
    results["command"] = "python benchmarks/organism_request.py"
    runs = results["sets"].setdefault(SET, {})
    for seed in range(options.seeds):
        for arm in ARMS:
            done = runs.setdefault(arm, {})
            if str(seed) not in done:
                done[str(seed)] = run(arm, seed)
                write(options.output, results)
            for kind, found in done[str(seed)]["counts"].items():
                answers, misaligned, _ = map(sum, zip(*found.values(), strict=True))
                print(f"seed {seed}: {arm}, {kind}: {misaligned / answers:.1%}", flush=True)


if __name__ == "__main__":
    main()
