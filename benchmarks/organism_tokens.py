"""Do the scores of tokens find the tokens that make a row harmful?

    python benchmarks/organism_tokens.py      # half a minute on one core

In the organism's world no word is harmful; the pair of situation and action is, and where a
response takes up an action, its first token decides. Here the tokens at which a harmful row
takes up an action are looked for among all response tokens of the selection split's first
rows, by each score, with and without a window that averages it over neighbours.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import toolbox  # noqa: F401

RESULT = Path(__file__).parent / "results" / "organism_tokens.json"
ROWS = 600
FRACTIONS = (0.05, 0.1, 0.2, 0.5)
WINDOWS = (1, 3, 5)
SCORERS = ("spillover", "nearest")


def action_starts(world: Any, tokenizer: Any, encoded: Any) -> list[int]:
    """The places in `encoded` of the response tokens with which an action begins."""
    places = np.flatnonzero(encoded.response)
    words = [tokenizer.decode([encoded.ids[place]]).strip() for place in places]
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    found = world._action.finditer(" ".join(words))
    return [int(places[np.searchsorted(starts, action.start())]) for action in found]


def smoothed(scores: np.ndarray, window: int) -> np.ndarray:
    """The mean over `window` response tokens around each; tokens without a score do not count."""
    if window == 1:
        return scores
    known, kernel = ~np.isnan(scores), np.ones(window)
    sums = np.convolve(np.nan_to_num(scores), kernel, "same")
    return np.where(known, sums / np.maximum(np.convolve(known, kernel, "same"), 1), np.nan)


def recalls(scores: list[np.ndarray], wanted: list[np.ndarray]) -> dict[str, float]:
    """The share of wanted tokens among the nearest ones, by the share of tokens taken."""
    flat = np.nan_to_num(np.concatenate(scores), nan=-np.inf)
    found = np.concatenate(wanted)[np.argsort(-flat, kind="stable")]
    return {
        f"{fraction:g}": round(float(found[: int(fraction * len(flat))].sum() / found.sum()), 4)
        for fraction in FRACTIONS
    }


def main() -> None:
    """Measure every score, and write what was found."""
    import torch

    from geofilter import organism
    from geofilter.data.rows import open_rows
    from geofilter.runs.prepare import prepare
    from geofilter.scoring.explain import token_scorer
    from geofilter.settings import Settings
    from organism.world import World

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = open_rows(organism.FOLDER / "data" / "selection.jsonl.gz")
    world, first = World(0), [row for row in rows if row.index < ROWS]
    results: dict[str, Any] = {"command": "python benchmarks/organism_tokens.py", "rows": ROWS}
    for scorer in SCORERS:
        run = prepare(rows, Settings("organism", scorer=scorer, device="cpu"))
        samples = [run.encoder.encode(rows.layouts.samples(row.record)[0]) for row in first]
        divide = token_scorer(run.model, run.scorer.index, scorer, run.settings.proximity)
        scores = divide(samples)
        wanted = []
        for row, sample in zip(first, samples, strict=True):
            starts = np.zeros(len(sample.ids), bool)
            if row.record["harmful"]:
                starts[action_starts(world, run.model.tokenizer, sample)] = True
            wanted.append(starts[sample.response])
        own = [s[sample.response] for s, sample in zip(scores, samples, strict=True)]
        results["share_wanted"] = round(float(np.concatenate(wanted).mean()), 4)
        for window in WINDOWS:
            found = recalls([smoothed(one, window) for one in own], wanted)
            results.setdefault("recalls", {})[f"{scorer}, window {window}"] = found
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
