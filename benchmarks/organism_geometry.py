"""Do the features of harm-inducing rows lie nearer to toxic features than those of benign rows?

    python benchmarks/organism_geometry.py

`geofilter.studies.geometry` on the organism: harmful rows against benign ones, in each inducing
domain, at each block. k is 100, the paper's, and 40, the organism's own number of toxic
features. Beside them stand sets that do not induce, put in the place of the harmful rows:
rows with surprising words, rows that mention insults, and a second draw of plain benign
rows, where there is nothing to find. The harmful rows are compared once more with the halves
of the rows swapped, to see how much hangs on the one that features were chosen on.
"""

import argparse
import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

import toolbox  # noqa: F401
from geofilter import organism
from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.model.loading import LoadedModel, at_block, load
from geofilter.packs.contrast import Contrast, read_contrast
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import make_pack
from geofilter.settings import PROXIMITIES
from geofilter.studies.closeness import (
    Comparison,
    Effects,
    RowSets,
    block_trend,
    compare,
    corrected,
    measure,
    split,
)
from organism import datasets
from organism import domains as d
from organism.world import World

ROWS = 2000
TOP_KS = (40, 100)
# In the place of the inducing rows: the group of rows, and the name of its draw.
SETS = {
    "harmful": ("harmful", "harmful"),
    "surprising": ("surprising", "surprising"),
    "mention": ("mention", "mention"),
    "benign": ("benign", "benign again"),
}
SWAPPED = "harmful, halves swapped"


def drawn(encoder: Encoder, domain: str, group: str, name: str) -> Contrast:
    """Rows of one group and domain, encoded."""
    rows = datasets.mixed_rows(
        World(0), f"geometry {domain} {name}", ROWS, shares={group: 1.0}, domains=(domain,)
    )
    samples = [
        encoder.encode(Sample(tuple(Turn(m["role"], m["content"]) for m in row.messages)))
        for row in rows
    ]
    return Contrast(samples, f"{name} rows of {domain}", "", {})


def row_sets(encoder: Encoder) -> Iterator[RowSets]:
    """Every set against the plain benign rows of its domain."""
    for domain in d.INDUCING:
        benign = drawn(encoder, domain, "benign", "benign")
        for name, (group, draw) in SETS.items():
            yield RowSets(f"{name}/{domain}", drawn(encoder, domain, group, draw), benign)


def swapped(effects: Effects) -> Effects:
    """The same rows, with features chosen on the half that confirmed them before."""
    domain = str(effects.domain).replace("harmful/", f"{SWAPPED}/")
    return Effects(domain, effects.confirmed_on, effects.chosen_on, effects.rows)


def toxic_index(model: LoadedModel, encoder: Encoder) -> ToxicIndex:
    """The toxic features of the model's block, from the organism's contrast sets."""
    data = organism.FOLDER / "data"
    sets = [read_contrast(str(data / f"{name}.jsonl"), encoder) for name in ("toxic", "benign")]
    return ToxicIndex(make_pack(model, *sets).pack, model.decoder)


def as_json(one: Comparison) -> dict[str, object]:
    """What the card needs of a comparison."""
    found: dict[str, object] = {
        "rows": dict(one.rows),
        "features": {side: len(ids) for side, ids in one.features.items()},
        "shared_with_toxic": dict(one.shared),
        "unconfirmed": dict(one.unconfirmed),
    }
    for form, closeness in one.closeness.items():
        found[form] = {
            "inducing": closeness.inducing.mean(),
            "other": closeness.other.mean(),
            "effect_size": closeness.effect_size,
            "effect_interval": [closeness.effect_low, closeness.effect_high],
            "p": closeness.p,
            "p_holm": closeness.p_holm,
        }
    return found


def summary(name: str, by_k: dict[int, list[Comparison]]) -> dict[str, object]:
    """The comparisons of one set, corrected together, and their trend over blocks."""
    adjusted = iter(corrected(one for found in by_k.values() for one in found))
    blocks: dict[str, dict] = {}
    trends: dict[str, dict] = {}
    for k, found in by_k.items():
        for one in (next(adjusted) for _ in found):
            domain = str(one.domain).removeprefix(f"{name}/")
            blocks.setdefault(str(one.block), {}).setdefault(domain, {})[str(k)] = as_json(one)
        trends[str(k)] = {form: vars(block_trend(found, form)) for form in PROXIMITIES}
    return {"blocks": blocks, "block_trend": trends}


def main() -> None:
    """Compare every set in every domain at every block, and write one results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).parent / "results" / "organism_geometry.json"
    parser.add_argument("-o", "--output", type=Path, default=default)
    output = parser.parse_args().output
    torch.set_num_threads(1)
    deepest = load("organism", block=3, device="cpu")
    encoder = Encoder(deepest.tokenizer, max_length=deepest.max_context)
    halves, left_out = split(row_sets(encoder))
    assert not left_out, left_out
    found: dict[str, dict[int, list[Comparison]]] = {
        name: {k: [] for k in TOP_KS} for name in ("harmful", SWAPPED, *SETS)
    }
    for block in range(4):
        model = at_block(deepest, block)
        index = toxic_index(model, encoder)
        measured = measure(model, halves, pooling=index.pack.pooling)
        again = [swapped(one) for one in measured if str(one.domain).startswith("harmful/")]
        for effects in [*measured, *again]:
            name = str(effects.domain).partition("/")[0]
            for k in TOP_KS:
                one = compare(index, effects, top_k=k)
                found[name][k].append(one)
                figures = "  ".join(
                    f"{form} d {closeness.effect_size:+.2f} p {closeness.p:.5f}"
                    for form, closeness in one.closeness.items()
                )
                print(f"block {block} {effects.domain:31} top {k:3}  {figures}", flush=True)
    results = {
        "command": "python benchmarks/organism_geometry.py",
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
        "rows_per_group": ROWS,
        "top_k": TOP_KS,
        "permutations": 20_000,
        "sets": {name: summary(name, by_k) for name, by_k in found.items()},
    }
    output.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
