"""What the scorers that read SAE features reach on the sets of `real_text.py`.

Features depend on the SAE, so that each block of an SAE is a pass of its own over the rows,
truncated at that block. Packs are made as `geofilter discover` makes them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

import real_text_features as features
import real_text_sets as sets
from geofilter.data.encoder import Encoded, Encoder
from geofilter.model.activations import TokenBudget, in_batches, residuals
from geofilter.model.catalogue import CATALOGUE
from geofilter.model.features import SampleFeatures, pool
from geofilter.model.loading import LoadedModel, load
from geofilter.packs.contrast import Contrast
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.packs.pairs import encode, shipped
from geofilter.scoring.score import SampleScore, make_scorer
from geofilter.scoring.scorers import SCORERS
from geofilter.settings import Pooling
from real_text_cells import Scores
from real_text_measure import CONTRASTS, Table, Way

# The sets that features are measured on: each costs a pass for every block with an SAE.
MEASURED = (*sets.PUSHED, "persona")
READERS = [name for name, scorer in SCORERS.items() if scorer.needs_sae]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
# Pairs of the split `report` that a pack is tested on when it is made; its figures there are
# not used, and packs want some.
TESTED = 12


def features_table(name: str, found: Sequence[sets.Set], cache: Path) -> Table:
    """Scores by way, block and set, of every scorer that needs an SAE, at each block with one."""
    table: Table = {}
    for block in CATALOGUE[name].sae:
        model = load(name, block=block, device="cpu")
        encoder = Encoder(model.tokenizer, max_length=features.WINDOW)
        store = features.Store.of(cache, model)
        read = {
            one.name: [_read(store, model, encoder, side) for side in (one.harmful, one.benign)]
            for one in found
            if one.name in MEASURED
        }
        for contrast in CONTRASTS:
            for pooling in POOLINGS:
                index = ToxicIndex(
                    _pack(store, model, encoder, contrast, pooling, found), model.decoder
                )
                for scorer in READERS:
                    score = make_scorer(scorer, index)
                    way = Way(scorer, contrast, "features", pooling)
                    table.setdefault(way, {})[block] = {
                        set_name: _scores(sides, [score(side.pooled[pooling]) for side in sides])
                        for set_name, sides in read.items()
                    }
        print(f"{name}: features at block {block}", flush=True)
    return table


class _Side(NamedTuple):
    """Features of one side of a set, by pooling, and the groups of its rows."""

    pooled: dict[Pooling, list[SampleFeatures]]
    groups: list[str]


def _read(
    store: features.Store, model: LoadedModel, encoder: Encoder, items: Sequence[sets.Item]
) -> _Side:
    """The features of the items that have a sample."""
    encoded = list(zip(items, features.encode(encoder, items), strict=True))
    samples = [sample for _, sample in encoded if sample is not None]
    missing = [s for s in samples if not store.path("features", s).exists()]

    def work(batch: Sequence[Encoded]) -> list[dict[str, np.ndarray]]:
        hidden = residuals(model, batch)
        both = {pooling: pool(model, hidden, batch, pooling) for pooling in POOLINGS}
        return [
            {
                f"{pooling} {field}": np.asarray(getattr(one[row], field))
                for pooling, one in both.items()
                for field in FIELDS
            }
            for row in range(len(batch))
        ]

    for start in range(0, len(missing), features.AT_ONCE):
        part = missing[start : start + features.AT_ONCE]
        for sample, arrays in zip(
            part, in_batches(part, work, TokenBudget(features.FORWARD)), strict=True
        ):
            store.save("features", sample, arrays)
    found: dict[Pooling, list[SampleFeatures]] = {pooling: [] for pooling in POOLINGS}
    for sample in samples:
        with np.load(store.path("features", sample)) as file:
            for pooling in POOLINGS:
                values = {field: file[f"{pooling} {field}"] for field in FIELDS}
                plain = {f: v.item() if v.ndim == 0 else v for f, v in values.items()}
                found[pooling].append(SampleFeatures(**plain))
    return _Side(found, [item.group for item, sample in encoded if sample is not None])


FIELDS = (
    "latents",
    "weights",
    "decoded",
    "mean_hidden",
    "n_tokens",
    "squared_error",
    "squared_norm",
)


def _pack(
    store: features.Store,
    model: LoadedModel,
    encoder: Encoder,
    contrast: str,
    pooling: Pooling,
    found: Sequence[sets.Set],
) -> FeaturePack:
    """The pack of a contrast, made once: of pairs by the split `make`."""
    path = store.folder / "features" / f"{contrast}-{pooling}.pack"
    if path.exists():
        return load_pack(path)
    if contrast == "pairs":
        made = shipped("make")
        domains = frozenset(pair.domain for pair in made)
        both = encode([*made, *shipped("report")[:TESTED]], encoder, selection=domains)
    else:
        one = next(one for one in found if one.name == contrast)
        both = _contrast(one.harmful, encoder), _contrast(one.benign, encoder)
    pack = make_pack(model, *both, pooling=pooling).pack
    pack.save(path)
    return pack


def _contrast(items: Sequence[sets.Item], encoder: Encoder) -> Contrast:
    samples = [sample for sample in features.encode(encoder, items) if sample is not None]
    return Contrast(samples, "fragments", "", {})


def _scores(sides: Sequence[_Side], answers: Sequence[Sequence[object]]) -> Scores:
    """Scores of both sides; a row that no latent speaks for gets the lowest of the set."""
    raw = [
        np.array([one.score if isinstance(one, SampleScore) else np.nan for one in side])
        for side in answers
    ]
    lowest = float(np.nanmin(np.concatenate(raw)))
    above, below = (np.where(np.isnan(side), lowest, side) for side in raw)
    tokens = [float(row.n_tokens) for side in sides for row in side.pooled[POOLINGS[0]]]
    ours, theirs = (side.groups for side in sides)
    return Scores(above, below, (ours, theirs), np.array(tokens))
