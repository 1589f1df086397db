"""Do the features of harm-inducing rows lie nearer to toxic features than those of benign rows?

    python benchmarks/organism_geometry.py

Per domain and block: the k latents most raised in harmful rows (inducing) and the k
most raised in benign rows (non-inducing), by standardised mean difference on half of
the rows, those with the same sign on the other half. k is 100, the paper's, and 40, the
organism's own number of toxic features. Latents that are toxic
features themselves are left out and counted. The statistic is the difference of mean
proximity to the toxic features; a permutation of the two labels gives p, one-sided.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from geofilter import organism
from geofilter.contrast import read_contrast
from geofilter.conversation import Encoder
from geofilter.discovery import discover
from geofilter.features import SampleFeatures, sample_features
from geofilter.index import PROXIMITIES, ToxicIndex
from geofilter.layouts import Sample, Turn
from geofilter.models import CATALOGUE, LoadedModel, load
from geofilter.organism import datasets
from geofilter.organism import domains as d
from geofilter.organism.world import World

ROWS = 2000
TOP_KS = (40, 100)
PERMUTATIONS = 20_000


def latent_matrix(model: LoadedModel, encoder: Encoder, rows: list) -> np.ndarray:
    """φ of every row, (rows, d_sae)."""
    samples = [
        encoder.encode(Sample(tuple(Turn(m["role"], m["content"]) for m in row.messages)))
        for row in rows
    ]
    phi = np.zeros((len(rows), model.d_sae))
    for i, one in enumerate(sample_features(model, samples)):
        assert isinstance(one, SampleFeatures), one
        phi[i, one.latents] = one.weights
    return phi


def effects(harmful: np.ndarray, benign: np.ndarray) -> np.ndarray:
    """Standardised mean difference of every latent, harmful minus benign."""
    scale = np.sqrt((harmful.var(0, ddof=1) + benign.var(0, ddof=1)) / 2)
    return np.divide(
        harmful.mean(0) - benign.mean(0), scale, out=np.zeros(len(scale)), where=scale > 0
    )


def choose(chosen_on: np.ndarray, confirmed_on: np.ndarray, sign: int, k: int) -> np.ndarray:
    """The latents of greatest effect in one direction that keep it on the other half."""
    order = np.argsort(-sign * chosen_on, kind="stable")[:k]
    keep = (sign * chosen_on[order] > 0) & (sign * confirmed_on[order] > 0)
    return order[keep]


def permutation_p(inducing: np.ndarray, other: np.ndarray, seed: int) -> float:
    """One-sided p of the difference of means under exchange of labels."""
    rng = np.random.default_rng(seed)
    both = np.concatenate([inducing, other])
    observed = inducing.mean() - other.mean()
    n, total = len(inducing), both.sum()
    sums = np.array([rng.permutation(both)[:n].sum() for _ in range(PERMUTATIONS)])
    differences = sums / n - (total - sums) / len(other)
    return float((1 + (differences >= observed - 1e-12).sum()) / (1 + PERMUTATIONS))


def domain_effects(
    model: LoadedModel, encoder: Encoder, domain: str
) -> tuple[np.ndarray, np.ndarray]:
    """Effect of every latent, harmful against benign rows, on each half of the rows."""
    halves = {}
    for group in ("harmful", "benign"):
        rows = datasets.mixed_rows(
            World(0), f"geometry {domain} {group}", ROWS, shares={group: 1.0}, domains=(domain,)
        )
        phi = latent_matrix(model, encoder, rows)
        halves[group] = (phi[::2], phi[1::2])
    first, second = (effects(halves["harmful"][i], halves["benign"][i]) for i in (0, 1))
    return first, second


def compare(index: ToxicIndex, first: np.ndarray, second: np.ndarray, k: int) -> dict:
    """Closeness of a domain's inducing and non-inducing latents to the toxic ones."""
    toxic = set(index.pack.ids.tolist())
    sides = {"inducing": choose(first, second, 1, k), "other": choose(first, second, -1, k)}
    shared = {name: sum(f in toxic for f in ids.tolist()) for name, ids in sides.items()}
    kept = {name: ids[[f not in toxic for f in ids.tolist()]] for name, ids in sides.items()}
    result: dict[str, object] = {
        "features": {name: len(ids) for name, ids in kept.items()},
        "shared_with_toxic": shared,
    }
    for form in PROXIMITIES:
        a, b = (index.proximity[form][kept[name]] for name in ("inducing", "other"))
        spread = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        result[form] = {
            "inducing": float(a.mean()),
            "other": float(b.mean()),
            "effect_size": float((a.mean() - b.mean()) / spread),
            "p": permutation_p(a.astype(float), b.astype(float), seed=0),
        }
    return result


def main() -> None:
    """Compare every domain at every block, and write one results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, nargs="*", default=[0, 1, 2, 3])
    default = Path(__file__).parent / "results" / "organism_geometry.json"
    parser.add_argument("-o", "--output", type=Path, default=default)
    arguments = parser.parse_args()
    weights, data = organism.FOLDER / "weights", organism.FOLDER / "data"
    results: dict = {
        "command": "python benchmarks/organism_geometry.py",
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "rows_per_group": ROWS,
        "top_k": TOP_KS,
        "permutations": PERMUTATIONS,
        "blocks": {},
    }
    for block in arguments.blocks:
        model = load(
            str(weights / "base"), sae=str(weights / "sae" / f"block-{block}"), device="cpu"
        )
        encoder = Encoder(model.tokenizer, max_length=model.max_context)
        sets = [read_contrast(str(data / f"{s}.jsonl"), encoder) for s in ("toxic", "benign")]
        pack = discover(model, *sets, top_k=CATALOGUE["organism"].top_k).pack
        index = ToxicIndex(pack, model.decoder)
        results["blocks"][str(block)] = {}
        for domain in d.INDUCING:
            first, second = domain_effects(model, encoder, domain)
            results["blocks"][str(block)][domain] = {}
            for k in TOP_KS:
                found = compare(index, first, second, k)
                results["blocks"][str(block)][domain][str(k)] = found
                mean = found["mean"]
                print(
                    f"block {block} {domain:8} top {k:3} inducing {mean['inducing']:+.4f} other "
                    f"{mean['other']:+.4f} d {mean['effect_size']:+.2f} p {mean['p']:.5f} "
                    f"| nearest p {found['nearest']['p']:.5f} {found['features']} "
                    f"shared {found['shared_with_toxic']}",
                    flush=True,
                )
    arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
