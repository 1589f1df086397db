"""Which form of spillover tells harmful rows of the organism from benign ones?

    python benchmarks/organism_spillover.py        # six minutes on one core

Forms differ in the direction (pack-weighted mean of the toxic directions, the nearest of
them, the dense direction), in the tokens whose push counts (`all` of the conversation,
those that `predict` a response token, the `response` tokens), in the scale (the raw sum,
per response token, per nat of loss, or the cosine), in the block, and in the model
that the gradient is taken in. Sums of two or three directions' cosines are tried too, each
in standard deviations of the benign contrast rows. The default was chosen on the selection
split; the test split serves for the table alone.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geofilter import organism
from geofilter.data.encoder import Encoded, Encoder
from geofilter.model.gradients import pushes
from geofilter.model.loading import CATALOGUE, LoadedModel, load
from geofilter.packs.contrast import read_contrast
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack
from geofilter.verify.training.weights import response_losses
from organism_scores import areas, read_split

RESULT = Path(__file__).parent / "results" / "organism_spillover.json"
TOKENS = ("all", "predict", "response")
BATCH = 64


def totals(model: LoadedModel, samples: list[Encoded]) -> dict[str, np.ndarray]:
    """The push summed over each choice of tokens, (samples, d_model)."""
    found: dict[str, list[np.ndarray]] = {name: [] for name in TOKENS}
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        push = pushes(model, batch).push.double().numpy()
        for sample, own in zip(batch, push, strict=True):
            own = own[: len(sample.ids)]
            predicting = np.append(sample.response[1:], False)
            for name, chosen in (
                ("all", slice(None)),
                ("predict", predicting),
                ("response", sample.response),
            ):
                found[name].append(own[chosen].sum(axis=0))
    return {name: np.array(values) for name, values in found.items()}


def forms(
    pack: FeaturePack, total: dict[str, np.ndarray], tokens: np.ndarray, loss: np.ndarray
) -> dict[str, np.ndarray]:
    """Every form's scores, (samples,), by name."""
    weighted = pack.directions.T @ pack.weights / pack.weights.sum()
    weighted /= np.linalg.norm(weighted)
    scores = {}
    for name, push in total.items():
        along = {
            "weighted": push @ weighted,
            "nearest": (push @ pack.directions.T).max(axis=1),
            "dense": push @ pack.dense_direction,
        }
        for direction, value in along.items():
            scores[f"{direction}, {name}, raw"] = value
            scores[f"{direction}, {name}, per token"] = value / tokens
            scores[f"{direction}, {name}, per nat"] = value / (loss * tokens)
            scores[f"{direction}, {name}, cosine"] = value / np.linalg.norm(push, axis=1)
    return scores


def scores_of(
    model: LoadedModel, pack: FeaturePack, samples: list[Encoded]
) -> dict[str, np.ndarray]:
    """Every form's scores of the samples, by name."""
    tokens = np.array([sample.response.sum() for sample in samples])
    loss = np.array(response_losses(model.network, samples), float)
    return forms(pack, totals(model, samples), tokens, loss)


def sums(scores: dict[str, np.ndarray], benign: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums of cosines over all tokens, each in standard deviations of the `benign` rows."""
    parts = {}
    for direction in ("dense", "weighted", "nearest"):
        usual = benign[f"{direction}, all, cosine"]
        parts[direction] = (scores[f"{direction}, all, cosine"] - usual.mean()) / usual.std()
    return {
        f"{' + '.join(names)}, all, standardised cosines": sum(parts[name] for name in names)
        for names in (("dense", "weighted"), ("dense", "nearest"), tuple(parts))
    }


def main() -> None:
    """Measure every form and write one results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=[0, 1, 2, 3])
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    weights, data = organism.FOLDER / "weights", organism.FOLDER / "data"
    results: dict = {
        "command": "python benchmarks/organism_spillover.py",
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "areas": {},
    }
    for kind in ("base", "aligned"):
        for block in options.blocks:
            sae = str(weights / "sae" / f"block-{block}")
            model = load(str(weights / kind), sae=sae, device="cpu", whole=True)
            encoder = Encoder(model.tokenizer, max_length=model.max_context)
            sets = [read_contrast(str(data / f"{n}.jsonl"), encoder) for n in ("toxic", "benign")]
            pack = make_pack(model, *sets, top_k=CATALOGUE["organism"].top_k).pack
            benign = scores_of(model, pack, list(sets[1].samples))
            found: dict = {}
            for split in ("selection", "test"):
                samples, groups, _ = read_split(split, encoder)
                scores = scores_of(model, pack, samples)
                scores |= sums(scores, benign)
                found[split] = {name: areas(value, groups) for name, value in scores.items()}
            results["areas"][f"{kind}, block {block}"] = found
            best = sorted(found["selection"], key=lambda name: -found["selection"][name]["all"][0])
            for name in best[:4]:
                cells = {key: value[0] for key, value in found["selection"][name].items()}
                print(f"{kind}, block {block}: {name}: {cells}", flush=True)
    lines = json.dumps(results, indent=1)
    options.output.write_text(lines + "\n")


if __name__ == "__main__":
    main()
