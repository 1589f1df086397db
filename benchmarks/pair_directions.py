"""Could the direction that tells bad answers apart be better than it is? Ways tried, on SmolLM2.

    python benchmarks/pair_directions.py              # 15 minutes of one core
    python benchmarks/pair_directions.py --report     # runs nothing, writes the table into the page

`real_filter.py` drops half of a set by `persona`: a filter that orders rows better keeps fewer bad
ones. Here directions are made and tried on the pairs of the split `make` alone, in six folds over
its domains, so that no row of `real_filter.py` and none that anything is reported on is looked
at. Every way is fitted on five sixths of the domains and scores both answers of all pairs of the
last sixth. AUROC is over all these rows, not within pairs; `kept` is the share of bad rows in
the half with the lower scores, 0.5 by chance. Both are means over the folds, and over draws of
the pairs where only some are used. Many ways are tried: the best of them flatters itself a little.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import real_text_features as features
import real_text_sets as sets
from geofilter.data.encoder import Encoded
from geofilter.model.loading import LoadedModel
from geofilter.packs.dense import SHRINKAGE, dense_direction
from geofilter.stats.auroc import auroc
from geofilter.support.manifest import library_versions
from resuming import kept_results, write
from study_tables import put

RESULT = Path(__file__).parent / "results" / "pair_directions.json"
PAGE = Path(__file__).parents[1] / "docs" / "real-text.md"
MODEL = "smollm2-135m"
BLOCKS = (6, 10, 14, 17, 19, 22, 26)
CHOSEN = 19
FOLDS = 6
SEED = 0
# What a row is reduced to at a block: the mean of the response is what geofilter takes.
POOLS = ("mean", "last", "closing", "second half", "prompt", "asked")
QUESTION = "Was that a good answer, one that does no harm? Say yes or no."
Floats = NDArray[np.float64]


class Answers(NamedTuple):
    """Both sides of all pairs, (pairs, blocks, pools, d_model), and the pairs' domains."""

    harmful: Floats
    helpful: Floats
    domains: NDArray[np.str_]


# -- reading -------------------------------------------------------------------------


def pooled(model: LoadedModel, sample: Encoded, asked: Sequence[int]) -> Floats:
    """(blocks, pools, d_model): one answer at every block, reduced in every way."""
    response = np.flatnonzero(sample.pooled)
    prompt = np.flatnonzero(~sample.pooled[: response[0]])
    places = (
        response,
        response[-1:],
        np.array([min(response[-1] + 1, len(sample.ids) - 1)]),
        response[len(response) // 2 :],
        prompt,
    )
    hidden = hidden_states(model, sample.ids)
    after = hidden_states(model, asked)
    return np.stack(
        [
            [*(hidden[block][place].mean(axis=0) for place in places), after[block][-1]]
            for block in BLOCKS
        ]
    )


def hidden_states(model: LoadedModel, ids: Sequence[int] | NDArray[np.int32]) -> dict[int, Floats]:
    """The residual stream after each of `BLOCKS`, (tokens, d_model)."""
    given = torch.tensor([list(map(int, ids))])
    with torch.no_grad():
        seen = model.network.base_model(
            input_ids=given, output_hidden_states=True, use_cache=False
        ).hidden_states
    return {block: seen[block + 1][0].double().numpy() for block in BLOCKS}


def read(model: LoadedModel, found: sets.Set) -> Answers:
    """Every answer of the pairs, read by the model once as it stands and once with a question."""
    encoder = features.encoder_of(model)
    sides = []
    for side in (found.harmful, found.benign):
        rows = []
        for item, sample in zip(side, features.encode(encoder, side), strict=True):
            assert sample is not None, "every pair that ships can be scored"
            turns = [{"role": turn.role, "content": turn.content} for turn in item.sample.turns]
            asked = model.tokenizer.apply_chat_template(
                [*turns, {"role": "user", "content": QUESTION}],
                add_generation_prompt=True,
                return_dict=False,
            )
            rows.append(pooled(model, sample, asked))
            if len(rows) % 100 == 0:
                print(f"{len(rows)} of {len(side)} answers of a side", flush=True)
        sides.append(np.stack(rows))
    return Answers(sides[0], sides[1], np.array([item.group for item in found.harmful]))


def kept_answers(cache: Path) -> Answers:
    """What was read before of these pairs, with this question, or is read now."""
    known = facts()
    key = sha256(json.dumps([known["pairs_sha256"], QUESTION, BLOCKS, POOLS]).encode())
    path = cache / f"pair-directions-{key.hexdigest()[:16]}.npz"
    if not path.exists():
        answers = read(features.load_at_last_block(MODEL, MODEL), sets.pairs("make"))
        cache.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half.npz")
        np.savez(half, **answers._asdict())
        half.replace(path)
    with np.load(path) as file:
        return Answers(*(file[name] for name in Answers._fields))


# -- ways to score -------------------------------------------------------------------

# Given answers and which pairs to fit on: scores of a side's rows, higher nearer to harm.
Fit = Callable[[Answers, NDArray[np.int64]], Callable[[Floats], Floats]]


class Part(NamedTuple):
    """A block and a pool."""

    block: int = CHOSEN
    pool: str = "mean"

    def of(self, rows: Floats) -> Floats:
        found: Floats = rows[:, BLOCKS.index(self.block), POOLS.index(self.pool)]
        return found


def one(part: Part, shrinkage: float = SHRINKAGE, pairs: bool = True) -> Fit:
    """The direction that geofilter makes, of one block and pool."""
    return joined([part], shrinkage, pairs)


def joined(parts: Sequence[Part], shrinkage: float = SHRINKAGE, pairs: bool = True) -> Fit:
    """One direction over several parts laid side by side, each scaled to variance 1."""

    def fit(answers: Answers, used: NDArray[np.int64]) -> Callable[[Floats], Floats]:
        both = np.concatenate([answers.harmful[used], answers.helpful[used]])
        scales = [np.sqrt(part.of(both).var(axis=0).mean()) for part in parts]

        def side_by_side(rows: Floats) -> Floats:
            return np.concatenate(
                [part.of(rows) / scale for part, scale in zip(parts, scales, strict=True)], axis=1
            )

        above, below = side_by_side(answers.harmful[used]), side_by_side(answers.helpful[used])
        direction = dense_direction(above, below, pairs=pairs, shrinkage=shrinkage)
        return lambda rows: side_by_side(rows) @ direction

    return fit


def summed(parts: Sequence[Part], shrinkage: float = SHRINKAGE) -> Fit:
    """A direction for each part; their scores are added, each scaled to variance 1."""

    def fit(answers: Answers, used: NDArray[np.int64]) -> Callable[[Floats], Floats]:
        scorers = [one(part, shrinkage)(answers, used) for part in parts]
        both = np.concatenate([answers.harmful[used], answers.helpful[used]])
        scales = [scorer(both).std() for scorer in scorers]
        return lambda rows: sum(
            (scorer(rows) / scale for scorer, scale in zip(scorers, scales, strict=True)),
            start=np.zeros(len(rows)),
        )

    return fit


def less_prompt(part: Part) -> Fit:
    """The direction of what an answer adds to the mean of its prompt."""

    def apart(rows: Floats) -> Floats:
        return part.of(rows) - part._replace(pool="prompt").of(rows)

    def fit(answers: Answers, used: NDArray[np.int64]) -> Callable[[Floats], Floats]:
        sides = (apart(answers.harmful[used]), apart(answers.helpful[used]))
        direction = dense_direction(*sides, pairs=True)
        return lambda rows: apart(rows) @ direction

    return fit


def beyond_prompt(part: Part, ridge: float = 1.0) -> Fit:
    """The usual score less what the prompt alone lets one expect, by ridge regression."""

    def fit(answers: Answers, used: NDArray[np.int64]) -> Callable[[Floats], Floats]:
        usual = one(part)(answers, used)
        prompts = part._replace(pool="prompt").of(answers.harmful[used])
        centre, scale = prompts.mean(axis=0), prompts.std(axis=0) + 1e-6
        known = (prompts - centre) / scale
        wanted = (usual(answers.harmful[used]) + usual(answers.helpful[used])) / 2
        gram = known @ known.T + ridge * len(known) * np.eye(len(known))
        slope = known.T @ np.linalg.solve(gram, wanted - wanted.mean())

        def score(rows: Floats) -> Floats:
            expected = (part._replace(pool="prompt").of(rows) - centre) / scale @ slope
            found: Floats = usual(rows) - expected
            return found

        return score

    return fit


def ways() -> Iterator[tuple[str, Fit]]:
    yield "as shipped: mean of the response, block 19", one(Part())
    yield "plain difference of means", one(Part(), pairs=False)
    for shrinkage in (0.03, 0.3, 0.5):
        yield f"shrinkage {shrinkage:g}", one(Part(), shrinkage)
    for block in BLOCKS:
        if block != CHOSEN:
            yield f"block {block}", one(Part(block))
    for pool in POOLS[1:]:
        if pool != "prompt":  # which both answers of a pair share
            yield f"pool: {pool}", one(Part(pool=pool))
    yield "the prompt's mean taken off", less_prompt(Part())
    yield "less what the prompt lets expect", beyond_prompt(Part())
    several = [Part(block) for block in (14, 17, 19, 22)]
    yield "blocks 14, 17, 19, 22, scores added", summed(several)
    yield "blocks 14, 17, 19, 22, side by side", joined(several)
    yield "mean, last and closing, scores added", summed([Part(pool=p) for p in POOLS[:3]])
    yield "mean and asked, scores added", summed([Part(), Part(pool="asked")])
    yield "mean and asked, side by side", joined([Part(), Part(pool="asked")])


# -- trying them ---------------------------------------------------------------------


def tried(answers: Answers, fit: Fit, most: int | None = None, draws: int = 1) -> list[float]:
    """AUROC and the share of bad rows kept, means over folds and draws of `most` pairs."""
    rng = np.random.default_rng(SEED)
    names = rng.permutation(np.unique(answers.domains))
    figures = []
    for held in np.array_split(names, FOLDS):
        out = np.isin(answers.domains, held)
        for draw in range(draws):
            used = np.random.default_rng([SEED, draw]).permutation(np.flatnonzero(~out))[:most]
            score = fit(answers, used)
            above, below = score(answers.harmful[out]), score(answers.helpful[out])
            middle = np.median(np.concatenate([above, below]))
            kept = [int((side <= middle).sum()) for side in (above, below)]
            figures.append((float(auroc(above, below).value), kept[0] / sum(kept)))
    return [round(float(value), 4) for value in np.mean(figures, axis=0)]


def facts() -> dict[str, Any]:
    shipped = files("geofilter.packs").joinpath("data/pairs.jsonl").read_bytes()
    return {
        "command": "python benchmarks/pair_directions.py",
        "model": MODEL,
        "question": QUESTION,
        "folds": FOLDS,
        "seed": SEED,
        "pairs_sha256": sha256(shipped).hexdigest(),
        "columns": ["auroc", "kept"],
        "versions": library_versions(["geofilter", "torch", "transformers", "numpy"]),
    }


def markdown(results: dict[str, Any]) -> str:
    lines = ["| direction | AUROC | bad rows in the kept half |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {value:.2f} | {kept:.0%} |"
        for name, (value, kept) in {**results["ways"], **results["pairs"]}.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache/geofilter-real-text")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.report:
        put(PAGE, "directions", markdown(json.loads(options.output.read_text())))
        return
    torch.set_num_threads(1)
    kept_results(options.output, facts())
    answers = kept_answers(options.cache)
    results = {
        **facts(),
        "ways": {name: tried(answers, fit) for name, fit in ways()},
        "pairs": {
            f"as shipped, of {most} pairs": tried(answers, one(Part()), most, draws=5)
            for most in (50, 100, 200, 300, 400, 500)
        },
    }
    write(options.output, results)
    put(PAGE, "directions", markdown(results))


if __name__ == "__main__":
    main()
