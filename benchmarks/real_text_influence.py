"""What the scorer `influence` reaches on the sets of `real_text.py`.

The query is that of a pack of pairs: the mean loss of the harmful less that of the helpful
answers of the split `make`. It needs a pass over these, forward and back, and another over the
rows that `spillover` is measured on, and none of what the other scorers keep: so it can be
measured alone, after them. Blocks are those that have an SAE, of which the split `choose`
chooses, as for the other scorers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file

import real_text_features as features
import real_text_measure as measure
import real_text_sets as sets
from geofilter.data.encoder import Encoded, Encoder
from geofilter.model.activations import TokenBudget, in_batches
from geofilter.model.influence import Gradient, influences, mean_gradient
from geofilter.model.loading import LoadedModel
from real_text_cells import Scores
from real_text_measure import Table, Way

WAY = Way("influence", "pairs", "gradients")


class Measured(NamedTuple):
    """What one side of a set has: influence by block, groups and lengths of its rows."""

    influence: measure.Floats  # (rows, blocks)
    groups: list[str]
    tokens: list[float]


def influence_table(
    model: LoadedModel, blocks: Sequence[int], found: Sequence[sets.Set], store: features.Store
) -> Table:
    """Scores by block and set, on the rows of the sets that `spillover` is measured on."""
    encoder = features.encoder_of(model)
    made = next(one for one in found if one.name == measure.CONTRASTS["pairs"])
    query = _query(store, model, encoder, made, blocks)
    scored: dict[int, dict[str, Scores]] = {block: {} for block in blocks}
    for one in found:
        if one.name not in sets.PUSHED:
            continue
        few = one.thinned(sets.Sizes().pushed)
        above, below = (
            _side(store, model, encoder, items, query, blocks)
            for items in (few.harmful, few.benign)
        )
        for place, block in enumerate(blocks):
            scored[block][one.name] = Scores(
                above.influence[:, place],
                below.influence[:, place],
                (above.groups, below.groups),
                np.array([*above.tokens, *below.tokens]),
            )
        print(f"{model.name}: {one.name}, influence", flush=True)
    return {WAY: scored}


def _query(
    store: features.Store,
    model: LoadedModel,
    encoder: Encoder,
    made: sets.Set,
    blocks: Sequence[int],
) -> Gradient:
    """The gradient of the pairs' query by the weights of all the blocks, kept in the store."""
    path: Path = store.folder / "features" / f"query-{'-'.join(map(str, blocks))}.safetensors"
    if path.exists():
        return load_file(path)
    sides = [
        [sample for sample in features.encode(encoder, items) if sample is not None]
        for items in (made.harmful, made.benign)
    ]
    total = sum(map(len, sides))

    said = 0

    def report(done: int) -> None:
        nonlocal said
        if done >= said + features.AT_ONCE or done == total:
            said = done
            print(f"{model.name}: query, {done} of {total}", flush=True)

    query = mean_gradient(model, sides, (1, -1), blocks, TokenBudget(features.BACK), report)
    half = path.with_suffix(".half")
    save_file(dict(query), half)
    half.replace(path)
    return query


def _side(
    store: features.Store,
    model: LoadedModel,
    encoder: Encoder,
    items: Sequence[sets.Item],
    query: Gradient,
    blocks: Sequence[int],
) -> Measured:
    """The influence of the items that have a sample; what the store holds is not measured again."""
    encoded = list(zip(items, features.encode(encoder, items), strict=True))
    samples = [sample for _, sample in encoded if sample is not None]
    parts = [[name for name in query if f".{block}." in name] for block in blocks]
    kind = "influences"
    (store.folder / kind).mkdir(exist_ok=True)

    def work(batch: Sequence[Encoded]) -> list[np.ndarray]:
        done = influences(model, batch, query)
        return list(torch.stack([done.of(part).sum(dim=1) for part in parts], dim=1).numpy())

    missing = [sample for sample in samples if not store.path(kind, sample).exists()]
    found = in_batches(missing, work, TokenBudget(features.BACK))
    for sample, values in zip(missing, found, strict=True):
        store.save(kind, sample, {"influences": values})
    rows = []
    for sample in samples:
        with np.load(store.path(kind, sample)) as file:
            rows.append(file["influences"].astype(np.float64))
    return Measured(
        np.stack(rows),
        [item.group for item, sample in encoded if sample is not None],
        [float(sample.pooled.sum()) for sample in samples],
    )
