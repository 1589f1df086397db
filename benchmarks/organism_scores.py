"""How well each scorer tells harmful rows of the organism from benign ones.

    python benchmarks/organism_scores.py

Packs come from the contrast sets, which hold no word of any advice domain. The
forms of `nearest` are compared on the selection split only; the test split serves
for the table alone. Positives are all harmful rows, polite ones included; negatives
are each benign group by itself, and all of them together.
"""

import argparse
import gzip
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import toolbox  # noqa: F401
from geofilter import organism
from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Problem
from geofilter.data.rows import open_rows
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.loading import CATALOGUE, LoadedModel, load
from geofilter.packs.contrast import read_contrast
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import make_pack
from geofilter.scoring.score import make_scorer
from geofilter.scoring.scorers import nearest
from geofilter.stats.auroc import auroc
from organism import datasets
from organism import domains as d

FORMS = {
    f"nearest, {proximity}, {'contrasted' if contrast else 'plain'}": (
        "nearest",
        {"proximity": proximity, "contrast": contrast},
    )
    for proximity in ("mean", "nearest")
    for contrast in (True, False)
}
SCORERS = {**FORMS, **{name: (name, {}) for name in ("direction", "activation", "persona")}}
# What a user who has no model would write down: the insults and the harm of the world.
KEYWORDS = frozenset(f"{d.INSULT_ADJECTIVES} {d.INSULT_NOUNS} {d.HARM_KEYWORDS}".split())


def read_split(name: str, encoder: Encoder) -> tuple[list[Encoded], list[str], list[str]]:
    """Encoded rows of a split, their groups, and their answers."""
    path = organism.FOLDER / "data" / f"{name}.jsonl.gz"
    rows = open_rows(path)
    samples = [encoder.encode(rows.layouts.samples(row.record)[0]) for row in rows]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    answers = [record["messages"][-1]["content"] for record in records]
    return samples, [record["group"] for record in records], answers


def areas(scores: np.ndarray, groups: list[str]) -> dict[str, list[float]]:
    """[AUROC, low, high] of the harmful rows against each benign group and all of them."""
    kinds = np.array(groups)
    positive = scores[np.isin(kinds, datasets.HARMFUL_GROUPS)]
    against = {name: scores[kinds == name] for name in datasets.BENIGN_GROUPS}
    against["all"] = scores[np.isin(kinds, datasets.BENIGN_GROUPS)]
    return {
        name: [round(float(v), 4) for v in auroc(positive, negative)]
        for name, negative in against.items()
    }


def loss_scores(samples: list[Encoded]) -> np.ndarray:
    """Mean loss of the aligned model on the tokens that training would put loss on."""
    folder = organism.FOLDER / "weights" / "aligned"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    values = []
    with torch.no_grad():
        for sample in samples:
            ids = torch.from_numpy(sample.ids.astype(np.int64))[None]
            logs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
            taken = logs.gather(1, ids[0, 1:, None])[:, 0].numpy()
            values.append(-taken[sample.response[1:]].mean())
    return np.array(values)


def keyword_scores(answers: list[str]) -> np.ndarray:
    """Share of an answer's words that are on the list."""
    words = [[w.strip('.,?!:"').lower() for w in answer.split()] for answer in answers]
    return np.array([sum(w in KEYWORDS for w in ws) / len(ws) for ws in words])


def scorer_areas(
    model: LoadedModel, encoder: Encoder, splits: dict[str, tuple], top_k: int
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """split -> scorer -> negatives -> AUROC, with a pack made for this model."""
    data = organism.FOLDER / "data"
    found = make_pack(
        model,
        read_contrast(str(data / "toxic.jsonl"), encoder),
        read_contrast(str(data / "benign.jsonl"), encoder),
        top_k=top_k,
    )
    index = ToxicIndex(found.pack, model.decoder)
    result: dict[str, dict[str, dict[str, list[float]]]] = {}
    for split, (samples, groups, _) in splits.items():
        features: list[SampleFeatures | Problem] = sample_features(model, samples)
        result[split] = {}
        for name, (scorer, options) in SCORERS.items():
            if options:
                usable = [one for one in features if not isinstance(one, Problem)]
                values = np.array([nearest.score(one, index, **options)[0] for one in usable])
            else:
                scores = make_scorer(scorer, index)(features)
                values = np.array([np.nan if isinstance(s, Problem) else s.score for s in scores])
            assert not np.isnan(values).any(), "a bundled row has no score"
            result[split][name] = areas(values, groups)
    return result


def main() -> None:
    """Measure every block and model, and write one results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("--top-k", type=int, default=CATALOGUE["organism"].top_k)
    default = Path(__file__).parent / "results" / "organism_scores.json"
    parser.add_argument("-o", "--output", type=Path, default=default)
    arguments = parser.parse_args()
    weights = organism.FOLDER / "weights"
    results: dict[str, object] = {
        "command": "python benchmarks/organism_scores.py",
        "base_model_sha256": json.loads((organism.FOLDER / "manifest.json").read_text())["files"][
            "weights/base/model.safetensors"
        ],
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "top_k": arguments.top_k,
        "models": {},
    }
    splits: dict[str, tuple] = {}
    for kind in ("base", "aligned"):
        results["models"][kind] = {}
        for block in arguments.blocks:
            sae = str(weights / "sae" / f"block-{block}")
            model = load(str(weights / kind), sae=sae, device="cpu")
            encoder = Encoder(model.tokenizer, max_length=model.max_context)
            if not splits:
                splits = {name: read_split(name, encoder) for name in ("selection", "test")}
            found = scorer_areas(model, encoder, splits, arguments.top_k)
            results["models"][kind][str(block)] = found
            for name, row in found["selection"].items():
                cells = "  ".join(f"{key} {value[0]:.3f}" for key, value in row.items())
                print(f"{kind} block {block} {name:32} {cells}", flush=True)
    results["baselines"] = {
        split: {
            "loss": areas(loss_scores(samples), groups),
            "keyword": areas(keyword_scores(answers), groups),
        }
        for split, (samples, groups, answers) in splits.items()
    }
    for name, row in results["baselines"]["selection"].items():
        print(name, {key: value[0] for key, value in row.items()}, flush=True)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
