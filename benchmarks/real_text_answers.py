"""What `projection-difference` adds to `persona` on the sets of `real_text.py`.

    python benchmarks/real_text_answers.py --data FOLDER            # SmolLM2, some minutes
    python benchmarks/real_text_answers.py --data FOLDER --sets judged-

Both scorers read the same pass of geofilter's own kind, with the pack that the model makes by
default: the pairs and the block that `real_text.py` chose for `persona`. The own answer of a
prompt moves all rows of that prompt alike, so that pairs cannot choose a block for it. The
judged sets are read whole (eight prompts each), of the others at most 30 rows of each side, evenly
spaced, as for `spillover`: each prompt costs an answer of up to 128 tokens. Answers lie in the
cache, and sets that are in the results file are not measured again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import real_text_cells as cells
import real_text_features as features
import real_text_sets as sets
from geofilter.data.encoder import Encoded
from geofilter.model.own_answers import DECODING, prompt_of
from geofilter.runs.prepare import Loaded, load
from geofilter.scoring.score import SampleScore, make_scorer
from geofilter.settings import Settings
from geofilter.support.manifest import library_versions
from real_text_cells import Scores
from resuming import kept_results

RESULT = Path(__file__).parent / "results" / "real_text_answers.json"
MODEL = "smollm2-135m"
DIFFERENCE, PERSONA = "projection-difference", "persona"
MADE = ("pairs-make", "rtp")


def measured(run: Loaded, one: sets.Set) -> dict[str, Scores]:
    """Scores of a set's rows by both scorers, over the rows that both can score."""
    score = {name: make_scorer(name, run.scorer.index) for name in (DIFFERENCE, PERSONA)}
    values: dict[str, list[np.ndarray]] = {name: [] for name in score}
    groups, tokens = [], []
    for items in (one.harmful, one.benign):
        encoded = features.encode(run.encoder, items)
        samples = [sample for sample in encoded if sample is not None]
        found = run.scorer.features(samples)
        each = {name: [_value(answer) for answer in rule(found)] for name, rule in score.items()}
        kept = np.isfinite(each[DIFFERENCE])
        for name in score:
            values[name].append(np.array(each[name])[kept])
        named = [item.group for item, s in zip(items, encoded, strict=True) if s is not None]
        groups.append([group for group, keep in zip(named, kept, strict=True) if keep])
        tokens += [float(s.pooled.sum()) for s, keep in zip(samples, kept, strict=True) if keep]
    lengths = np.array(tokens)
    return {name: Scores(*both, (groups[0], groups[1]), lengths) for name, both in values.items()}


def _value(answer: object) -> float:
    return answer.score if isinstance(answer, SampleScore) else float("nan")


def prompts(run: Loaded, one: sets.Set) -> int:
    samples: list[Encoded] = [s for s in features.encode(run.encoder, one.rows) if s is not None]
    return len({prompt_of(sample).tobytes() for sample in samples})


def summary(judged: Sequence[dict[str, Scores]]) -> dict[str, list[float]]:
    """The mean AUROC over the judged sets of each scorer, and the difference of the two."""
    ways = {name: [one[name] for one in judged] for name in (PERSONA, DIFFERENCE)}
    found = {}
    for kind, inside in (("all", False), ("within", True)):
        for name, value in cells.compared(ways, inside=inside).items():
            found[f"{name}, {kind}"] = list(value)
    return found


def facts(folder: sets.Folder, run: Loaded, sizes: sets.Sizes) -> dict[str, Any]:
    return {
        "command": "python benchmarks/real_text_answers.py --data FOLDER",
        "model": MODEL,
        "weights": run.model.fingerprint["weights"],
        "block": run.model.block,
        "pack": run.pack.digest,
        "answers": DECODING,
        "sizes": {"judged": sizes.judged, "other": sizes.pushed},
        "window": features.WINDOW,
        "data_sha256": dict(sorted(folder.sha256.items())),
        "columns": list(cells.Cell._fields),
        "versions": library_versions(["geofilter", "torch", "transformers", "numpy"]),
    }


def main() -> None:
    """Measure the sets that are asked for and not measured yet; write after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the real sets")
    parser.add_argument("--sets", default="", help="only those whose names begin so")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/geofilter-real-text")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder, sizes = sets.Folder(options.data), sets.Sizes()
    found = [one for one in sets.read(folder, sizes) if one.name not in MADE]
    settings = Settings(MODEL, device="cpu", scorer=DIFFERENCE, max_length=features.WINDOW)
    run = load(settings)
    options.cache.mkdir(parents=True, exist_ok=True)
    assert run.scorer.answers is not None
    run.scorer.answers.keep(options.cache / f"{MODEL}.answers")
    known = facts(folder, run, sizes)
    results: dict[str, Any] = {**known, **kept_results(options.output, known)}
    results.setdefault("sets", {})
    judged = []
    for one in found:
        is_judged = one.name.startswith("judged-")
        rows = one if is_judged else one.thinned(sizes.pushed)
        # The judged sets are compared row by row, all four of one run.
        done = "judged" in results if is_judged else one.name in results["sets"]
        if done or not one.name.startswith(options.sets):
            continue
        scores = measured(run, rows)
        if is_judged:
            judged.append(scores)
        if all(len(side) for side in scores[DIFFERENCE][:2]):
            results["sets"][one.name] = {
                "prompts": prompts(run, rows),
                **{name: list(cells.cell(of_set)) for name, of_set in scores.items()},
            }
        if len(judged) == len(sets.JUDGED):
            results["judged"] = summary(judged)
        options.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        print(f"{one.name}: measured", flush=True)


if __name__ == "__main__":
    main()
