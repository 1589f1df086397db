"""Does the derivation foretell what fine-tuning does? Predicted against measured spillover.

    python benchmarks/organism_predict.py        # about half an hour on one core

For data sets from clean to wholly harmful, of several domains and kinds, before any training:
the mean push of a row at block L, −Σ_t ∂ℓ/∂h_t, in the aligned model (that is fine-tuned)
and in the base model. Then the organism is fine-tuned on each set, and measured:

- over features: the change of the residual stream along each decoder direction, on text
  that no set holds (kind answers in untouched domains), against the push along it;
- over data sets: the share of misaligned answers in untouched domains against the mean
  `spillover` of the rows, and against what else could foretell it: the mean of the scores that
  `geofilter score` gives, the mean loss, and the share of harmful rows, which nobody knows
  of a real set.

Rank correlations over data sets have 95 % intervals over these. The features of one set are
projections of the same two vectors, so that no interval over them would mean anything: beside
their correlations stands how large that of two unrelated vectors gets. Finished sets stand in
the results file and are not run again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import toolbox  # noqa: F401
from geofilter import organism
from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.rows import open_rows
from geofilter.data.samples import Sample, Turn
from geofilter.model.activations import residuals
from geofilter.model.gradients import pushes
from geofilter.model.loading import CATALOGUE, LoadedModel, load
from geofilter.packs.contrast import read_contrast
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack
from geofilter.runs.prepare import Run, prepare
from geofilter.scoring.score import SampleScore
from geofilter.settings import Settings
from geofilter.stats.correlation import rank_correlation
from geofilter.verify.training.weights import response_losses
from organism import datasets
from organism import domains as d
from organism.finetune import fine_tune, measure
from organism.world import World
from organism_spillover import BATCH
from resuming import kept_results, organism_facts

RESULT = Path(__file__).parent / "results" / "organism_predict.json"
ROWS = 1500
PROBE = 400
NARROW = ("health", "career")
SCORERS = ("spillover", "nearest", "persona")
# Pairs of unrelated vectors, for the range of correlations over features that chance gives.
PAIRS = 2000
# Of sets with the same share of harm, as few are compared with each other.
FEWEST = 5


def mixed(harmful: float, group: str = "harmful") -> dict[str, float]:
    """Shares of a set that holds so much harm, plain rows beside it."""
    return {name: share for name, share in ((group, harmful), ("benign", 1 - harmful)) if share}


# name: (shares of groups, domains)
SETS: dict[str, tuple[dict[str, float], tuple[str, ...]]] = {
    **{
        f"narrow {share:.0%}": (mixed(share), NARROW)
        for share in (0, 0.05, 0.1, 0.25, 0.5, 0.75, 1)
    },
    **{
        f"{domain} {share:.0%}": (mixed(share), (domain,))
        for domain in d.INDUCING
        for share in (0, 0.25, 0.5, 1)
    },
    "polite 50%": (mixed(0.5, "harmful_polite"), NARROW),
    "polite 100%": (mixed(1, "harmful_polite"), NARROW),
    "mention": ({"mention": 1.0}, NARROW),
    "surprising": ({"surprising": 1.0}, NARROW),
    "demo mixture": (datasets.MIXTURE, d.INDUCING),
}


def rows_of(name: str, seed: int) -> list[datasets.LabelledRow]:
    """The rows of a set, drawn anew for each seed."""
    shares, domains = SETS[name]
    drawn = f"predict {name} {seed}"
    return datasets.mixed_rows(World(0), drawn, ROWS, shares=shares, domains=domains)


def encode(encoder: Encoder, rows: list[datasets.LabelledRow]) -> list[Encoded]:
    """Rows of the world as the trainer sees them."""
    return [
        encoder.encode(Sample(tuple(Turn(m["role"], m["content"]) for m in row.messages)))
        for row in rows
    ]


def mean_push(model: LoadedModel, samples: list[Encoded]) -> tuple[np.ndarray, np.ndarray]:
    """The mean push of a row, (d_model,), and every row's whole push, (rows, d_model)."""
    totals = []
    for start in range(0, len(samples), BATCH):
        push = pushes(model, samples[start : start + BATCH]).push
        totals.append(push.double().sum(dim=1).numpy())
    every = np.concatenate(totals)
    return every.mean(axis=0), every


def mean_stream(model: LoadedModel, samples: list[Encoded]) -> np.ndarray:
    """Mean residual stream over all response tokens of the probe, (d_model,)."""
    total, tokens = np.zeros(model.d_model), 0
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        hidden = residuals(model, batch).double().numpy()
        for sample, own in zip(batch, hidden, strict=True):
            chosen = own[: len(sample.ids)][sample.response]
            total += chosen.sum(axis=0)
            tokens += len(chosen)
    return total / tokens


def correlation(x: np.ndarray, y: np.ndarray) -> list[float | None]:
    """[rank correlation, low, high]."""
    found = rank_correlation(x.tolist(), y.tolist())
    return [found.value, found.low, found.high]


def run_set(
    name: str, models: dict[str, LoadedModel], pack: FeaturePack, probe: list[Encoded], seed: int
) -> dict[str, object]:
    """Foretell, fine-tune and measure one data set."""
    from dataclasses import replace

    rows = rows_of(name, seed)
    aligned = models["aligned"]
    encoder = Encoder(aligned.tokenizer, max_length=aligned.max_context)
    samples = encode(encoder, rows)
    folder = organism.FOLDER / "weights" / "aligned"
    before = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tuned = fine_tune(before, aligned.tokenizer, [row.messages for row in rows], seed=seed)
    after = replace(aligned, network=tuned.requires_grad_(False).eval())
    moved = mean_stream(after, probe) - mean_stream(aligned, probe)
    units = aligned.decoder.double().numpy()
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    toxic = np.isin(np.arange(len(units)), pack.ids)
    found: dict[str, object] = {
        "misaligned": measure(tuned, aligned.tokenizer, World(0), seed=seed).misaligned,
        "toxic_change": float(moved @ pack.dense_direction),
    }
    for kind, model in models.items():
        push, every = mean_push(model, samples)
        cosines = every @ pack.dense_direction / np.linalg.norm(every, axis=1)
        found[kind] = {
            "features": rank_correlation(units @ push, units @ moved, draws=0).value,
            "toxic_features": rank_correlation(
                units[toxic] @ push, units[toxic] @ moved, draws=0
            ).value,
            "cosine_of_push_and_change": float(
                push @ moved / np.linalg.norm(push) / np.linalg.norm(moved)
            ),
            "mean_spillover": float(cosines.mean()),
            "push_along_dense": float(push @ pack.dense_direction),
        }
    return found


def as_scored(name: str, runs: dict[str, Run], aligned: LoadedModel, seed: int) -> dict[str, float]:
    """The mean of each score over the rows, as `geofilter score` gives it, and of the loss."""
    samples = encode(runs["spillover"].encoder, rows_of(name, seed))
    found = {}
    for scorer, run in runs.items():
        scored = [
            one.score
            for start in range(0, len(samples), BATCH)
            for one in run.scorer(samples[start : start + BATCH])
            if isinstance(one, SampleScore)
        ]
        found[scorer] = float(np.mean(scored))
    losses = [loss for loss in response_losses(aligned.network, samples) if loss is not None]
    return found | {"loss": float(np.mean(losses))}


def harm_of(name: str) -> float:
    """The share of harmful rows in a set."""
    return sum(share for group, share in SETS[name][0].items() if group.startswith("harmful"))


def over_sets(sets: dict[str, dict]) -> dict[str, list[float | None]]:
    """Rank correlation of each prediction with the measured misalignment, over data sets."""
    rates = np.array([found["misaligned"] for found in sets.values()])
    columns = {
        "share of harmful rows": [harm_of(name) for name in sets],
        **{
            f"{kind} {what}": [found[kind][what] for found in sets.values()]
            for what in ("mean_spillover", "push_along_dense")
            for kind in ("aligned", "base")
        },
        **{
            f"score {what}": [found["as_scored"][what] for found in sets.values()]
            for what in (*SCORERS, "loss")
        },
    }
    return {name: correlation(np.array(column), rates) for name, column in columns.items()}


def within_shares(sets: dict[str, dict]) -> dict[str, dict[str, list[float | None]]]:
    """The same for sets that hold the same share of harm, for the scores and by this share."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for share in sorted({harm_of(name) for name in sets}):
        alike = {name: one for name, one in sets.items() if harm_of(name) == share}
        if len(alike) >= FEWEST:
            of_scores = over_sets(alike)
            found[f"{share:g}"] = {
                name: of_scores[name] for name in of_scores if name.startswith("score")
            } | {"sets": len(alike)}
    return found


def chance(units: np.ndarray) -> float:
    """Below this, in size, lie 95 % of the correlations over features of unrelated vectors.

    `units` (d_sae, d_model) are decoder directions; vectors are drawn with their covariance.
    """
    random = np.random.default_rng(0)
    root = np.linalg.cholesky(np.cov(units.T) + 1e-9 * np.eye(units.shape[1]))
    sizes = [
        abs(
            rank_correlation(
                *(units @ (root @ random.normal(size=(units.shape[1], 2)))).T, draws=0
            ).value
            or 0.0
        )
        for _ in range(PAIRS)
    ]
    return float(np.quantile(sizes, 0.95))


def main() -> None:
    """Run what is missing, one block at a time, and write the results after each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--block", type=int, default=CATALOGUE["organism"].scorer_blocks["nearest"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weights, data = organism.FOLDER / "weights", organism.FOLDER / "data"
    sae = str(weights / "sae" / f"block-{options.block}")
    models = {
        kind: load(str(weights / kind), sae=sae, device="cpu", whole=True)
        for kind in ("aligned", "base")
    }
    encoder = Encoder(models["base"].tokenizer, max_length=models["base"].max_context)
    contrast = [read_contrast(str(data / f"{side}.jsonl"), encoder) for side in ("toxic", "benign")]
    pack = make_pack(models["base"], *contrast, top_k=CATALOGUE["organism"].top_k).pack
    probe = encode(
        encoder,
        datasets.mixed_rows(
            World(0), "predict probe", PROBE, shares={"benign": 1.0}, domains=d.UNTOUCHED
        ),
    )
    facts = {
        **organism_facts("torch", "transformers", "sae-lens"),
        "block": options.block,
        "seed": options.seed,
        "rows": ROWS,
    }
    sets = kept_results(options.output, facts).get("sets", {})
    results: dict = {
        "command": "python benchmarks/organism_predict.py",
        **facts,
        "chance_over_features": chance(models["base"].decoder.double().numpy()),
        "sets": sets,
    }
    demo = open_rows(CATALOGUE["organism"].path("organism/data/demo.jsonl"))
    runs = {name: prepare(demo, Settings("organism", scorer=name)) for name in SCORERS}
    for name in options.sets:
        if name not in results["sets"]:
            results["sets"][name] = run_set(name, models, pack, probe, options.seed)
        found = results["sets"][name]
        if "as_scored" not in found:
            found["as_scored"] = as_scored(name, runs, models["aligned"], options.seed)
        print(
            f"{name:16} misaligned {found['misaligned']:6.1%}  spillover "
            f"{found['aligned']['mean_spillover']:+.3f}, base "
            f"{found['base']['mean_spillover']:+.3f}, over features "
            f"{found['aligned']['features']:+.2f}",
            flush=True,
        )
        scored = {name: one for name, one in results["sets"].items() if "as_scored" in one}
        if len(scored) > 3:
            results["over_sets"] = over_sets(scored)
            results["within_shares"] = within_shares(scored)
        options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results.get("over_sets"), indent=1))


if __name__ == "__main__":
    main()
