"""Whether features of harm-inducing rows lie nearer to toxic features than others do.

Inducing features are the latents most raised in inducing rows, the others those most
raised in benign rows: chosen on one half of the rows, kept where the other half agrees.
The proximity of their decoder directions to the toxic features is compared per block and
domain, toxic features themselves left out, by a permutation of the two labels.

A small p says that one set of directions lies nearer. It does not say that the rows induce
anything: that takes fine-tuning.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.errors import DataError
from geofilter.model.activations import TokenBudget
from geofilter.model.features import SampleFeatures, sample_features
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import (
    Contrast,
    read_contrast,
    read_groups,
)
from geofilter.packs.figures import moments, standardised_difference
from geofilter.packs.halves import MINIMUM_ROWS, require_rows, split_halves
from geofilter.packs.index import ToxicIndex
from geofilter.packs.pack import FeaturePack
from geofilter.settings import PROXIMITIES, Pooling, Proximity
from geofilter.stats.permutation import PERMUTATIONS, RankTrend, greater_mean_p, holm, rank_trend
from geofilter.support.display import escape
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded, Encoder

Floats64 = NDArray[np.float64]
Ids = NDArray[np.int64]

TOP_K = 100  # the paper's
# Below this, an order of blocks is no order.
FEWEST_BLOCKS = 3

_FEWEST_FEATURES = 2  # of each side, or there is no spread
_CHUNK = 256  # samples between two reports of progress
_PARTS = ("inducing selection", "inducing report", "benign selection", "benign report")


@dataclass(frozen=True)
class RowSets:
    """Inducing and benign rows to be compared; of one domain, or all of them for None."""

    domain: str | None
    inducing: Contrast
    benign: Contrast


class ReadSets(NamedTuple):
    """What two files hold; `without_domain` counts rows, by file, that no domain claims."""

    sets: Sequence[RowSets]
    without_domain: Mapping[str, int]


@dataclass(frozen=True)
class Halves:
    """A domain's rows, split: those that features are chosen on, those that confirm them.

    Keys of `parts`: `inducing selection`, `inducing report`, `benign selection`, `benign
    report`. No row stands in two of them.
    """

    domain: str | None
    parts: Mapping[str, Sequence["Encoded"]]


@dataclass(frozen=True)
class Effects:
    """What a domain's inducing rows raise against its benign ones at one block.

    `chosen_on` and `confirmed_on` are the standardised mean differences of every latent,
    inducing minus benign, on the two halves of the rows, (d_sae,) each. `rows` counts
    those that were used, by the keys of `Halves.parts`.
    """

    domain: str | None
    chosen_on: Floats64
    confirmed_on: Floats64
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Closeness:
    """Proximity of both sides' features to the toxic ones; higher = nearer to harm.

    `inducing` and `other` hold one cosine per feature, in [-1, 1]. `effect_size` is the
    difference of their means over the root of their mean variance, with its 95 % interval
    (Hedges and Olkin 1985; it takes features for independent). `p` is one-sided: small
    where inducing features lie nearer. `p_holm` is `p` corrected for the tests of a study.
    """

    inducing: Floats64
    other: Floats64
    effect_size: float
    effect_low: float
    effect_high: float
    p: float
    p_holm: float = float("nan")


@dataclass(frozen=True)
class Comparison:
    """One domain at one block.

    By side, `inducing` and `other`: `features` are the latents compared, `shared` counts
    those that are toxic features themselves, `unconfirmed` those that the other half of the
    rows did not confirm. Both of these are left out.
    """

    block: int
    domain: str | None
    rows: Mapping[str, int]
    features: Mapping[str, Ids]
    shared: Mapping[str, int]
    unconfirmed: Mapping[str, int]
    closeness: Mapping[Proximity, Closeness]


@dataclass(frozen=True)
class LeftOut:
    """A comparison that could not be made, and why; at no block where `block` is None."""

    block: int | None
    domain: str | None
    reason: str


@dataclass(frozen=True)
class Study:
    """Every comparison, by block and domain, and how effect sizes go with the block.

    `trend` falls where earlier blocks are the stronger ones. It has no entry where fewer
    than `FEWEST_BLOCKS` blocks were compared or no domain has them all.
    """

    comparisons: tuple[Comparison, ...]
    left_out: tuple[LeftOut, ...]
    trend: Mapping[Proximity, RankTrend]


def read_sets(inducing: str, benign: str, encoder: "Encoder", *, by: str | None = None) -> ReadSets:
    """Read both files; with `by`, as one pair of sets for each value of that column.

    A domain is compared with the benign rows of its own where the benign file has that
    column, and with all of them where it has not. Raises `DataError`, also where no
    inducing row has a value.
    """
    if by is None:
        both = read_contrast(inducing, encoder), read_contrast(benign, encoder)
        return ReadSets([RowSets(None, *both)], {})
    raised, others = (read_groups(place, encoder, by) for place in (inducing, benign))
    apart, whole = raised.pop(None, None), others.pop(None, None)
    if not raised:
        raise DataError(
            f"{escape(inducing, limit=200)}: no row has text or a number in a column "
            f"'{escape(by)}'; name another with --by"
        )
    without = {"inducing": len(apart.samples) if apart else 0, "benign": 0}
    if others:
        without["benign"] = len(whole.samples) if whole else 0
        whole = None
    sets = [
        RowSets(
            name,
            rows,
            whole or others.get(name) or Contrast([], f"{benign} ({by}={name})", "", {}),
        )
        for name, rows in raised.items()
    ]
    return ReadSets(sets, without)


def split(sets: Iterable[RowSets]) -> tuple[list[Halves], list[LeftOut]]:
    """Split every domain's rows by their hash, and say which domains cannot be split.

    Equal rows count once, and in neither set when both hold them. When no domain is left,
    raises the `DataError` of the first: too few rows, or two sets that are much the same.
    """
    halves: list[Halves] = []
    left_out: list[LeftOut] = []
    for one in sets:
        try:
            found = split_halves(one.inducing, one.benign).parts
        except DataError as error:
            left_out.append(LeftOut(None, one.domain, str(error)))
        else:
            parts = {name: found[name.replace("inducing", "toxic")] for name in _PARTS}
            halves.append(Halves(one.domain, parts))
    _require_some(halves, left_out)
    return halves, left_out


def _require_some(found: Sequence[object], left_out: Sequence[LeftOut]) -> None:
    if not found:
        more = f" (and {len(left_out) - 1} more such)" if len(left_out) > 1 else ""
        raise DataError(left_out[0].reason + more if left_out else "there is nothing to compare")


def measure(
    model: LoadedModel,
    halves: Sequence[Halves],
    *,
    pooling: Pooling = "mean",
    budget: TokenBudget | None = None,
    progress: Progress = no_progress,
) -> list[Effects]:
    """What each domain's rows raise at the model's block. A row passes the model once.

    Keeps the features of all rows in memory. Rows without finite activations are in no part.
    """
    budget = budget or TokenBudget.for_device(model.device)
    # Domains may share their benign rows.
    rows = {id(row): row for one in halves for part in one.parts.values() for row in part}
    features: dict[int, SampleFeatures] = {}
    keys = list(rows)
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        answers = sample_features(model, [rows[k] for k in chunk], pooling=pooling, budget=budget)
        for key, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, SampleFeatures):
                features[key] = answer
        progress(f"block {model.block}", start + len(chunk), len(keys))
    return [_effects(one, features, model.d_sae) for one in halves]


def _effects(halves: Halves, features: Mapping[int, SampleFeatures], d_sae: int) -> Effects:
    found = {
        name: [features[id(row)] for row in part if id(row) in features]
        for name, part in halves.parts.items()
    }
    rows = {name: len(part) for name, part in found.items()}
    if min(rows.values()) < MINIMUM_ROWS // 2:  # `compare` refuses them
        return Effects(halves.domain, np.zeros(d_sae), np.zeros(d_sae), rows)
    known = {name: moments(part, d_sae) for name, part in found.items()}
    chosen_on, confirmed_on = (
        standardised_difference(known[f"inducing {half}"], known[f"benign {half}"])
        for half in ("selection", "report")
    )
    return Effects(halves.domain, chosen_on, confirmed_on, rows)


def compare(
    index: ToxicIndex,
    effects: Effects,
    *,
    top_k: int = TOP_K,
    permutations: int = PERMUTATIONS,
) -> Comparison:
    """Compare the `top_k` latents that inducing rows raise most with those that benign rows do.

    Raises `DataError` when fewer than two are left on a side, or all lie equally near, and
    when a half has too few rows.
    """
    features: dict[str, Ids] = {}
    shared: dict[str, int] = {}
    unconfirmed: dict[str, int] = {}
    for side, sign in (("inducing", 1), ("other", -1)):
        order = np.argsort(-sign * effects.chosen_on, kind="stable")[:top_k]
        raised = order[sign * effects.chosen_on[order] > 0]
        confirmed = raised[sign * effects.confirmed_on[raised] > 0]
        toxic = np.isin(confirmed, index.pack.ids)
        features[side] = confirmed[~toxic]
        shared[side] = int(toxic.sum())
        unconfirmed[side] = len(raised) - len(confirmed)
    domain = "" if effects.domain is None else f", {escape(effects.domain)}"
    where = f"block {index.pack.block}{domain}"
    for name, rows in effects.rows.items():
        require_rows(f"{where}: {name}", rows, MINIMUM_ROWS // 2)
    for side, ids in features.items():
        if len(ids) < _FEWEST_FEATURES:
            raise DataError(
                f"{where}: features of the {side} side left to compare: {len(ids)}, at least "
                f"{_FEWEST_FEATURES} are needed ({shared[side]} are toxic features themselves, "
                f"{unconfirmed[side]} were not confirmed on the other half of the rows); give "
                "more rows or a larger --top-k"
            )
    closeness = {
        form: _closeness(
            *(index.proximity[form][ids].astype(np.float64) for ids in features.values()),
            permutations=permutations,
            where=where,
        )
        for form in PROXIMITIES
    }
    return Comparison(
        index.pack.block, effects.domain, effects.rows, features, shared, unconfirmed, closeness
    )


def _closeness(inducing: Floats64, other: Floats64, *, permutations: int, where: str) -> Closeness:
    n, m = len(inducing), len(other)
    spread = math.sqrt((inducing.var(ddof=1) + other.var(ddof=1)) / 2)
    if spread == 0:
        raise DataError(f"{where}: all features lie equally near to toxic ones; give other rows")
    effect = float(inducing.mean() - other.mean()) / spread
    error = 1.96 * math.sqrt((n + m) / (n * m) + effect**2 / (2 * (n + m)))
    p = greater_mean_p(inducing, other, permutations)
    return Closeness(inducing, other, effect, effect - error, effect + error, p)


def corrected(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """The comparisons with `p_holm`, over every test in them, both forms of proximity."""
    comparisons = tuple(comparisons)
    p_values = [one.closeness[form].p for one in comparisons for form in PROXIMITIES]
    adjusted = iter(holm(p_values))
    return tuple(
        replace(
            one,
            closeness={
                form: replace(one.closeness[form], p_holm=next(adjusted)) for form in PROXIMITIES
            },
        )
        for one in comparisons
    )


def block_trend(
    comparisons: Sequence[Comparison], form: Proximity, permutations: int = PERMUTATIONS
) -> RankTrend | None:
    """Whether effect sizes fall from block to block, over the domains that have every block.

    None for fewer than `FEWEST_BLOCKS` blocks. Blocks are permuted for all domains together,
    since a block's SAE and pack are one draw, however many domains are measured with them.
    """
    blocks = sorted({one.block for one in comparisons})
    sizes: dict[str | None, dict[int, float]] = {}
    for one in comparisons:
        sizes.setdefault(one.domain, {})[one.block] = one.closeness[form].effect_size
    whole = [[of[block] for block in blocks] for of in sizes.values() if len(of) == len(blocks)]
    if len(blocks) < FEWEST_BLOCKS or not whole:
        return None
    return rank_trend(whole, permutations)


def study(
    models: Iterable[LoadedModel],
    sets: Sequence[RowSets],
    pack_of: Callable[[LoadedModel], FeaturePack],
    *,
    top_k: int = TOP_K,
    permutations: int = PERMUTATIONS,
    progress: Progress = no_progress,
) -> Study:
    """Compare every domain at the block of every model.

    `models` are one model read at several blocks, by whose tokenizer the rows of `sets` were
    encoded; `pack_of` gives the toxic features of each. What cannot be compared is left out
    with its reason. Raises `DataError` when nothing can, and when the toxic features
    were chosen from the inducing rows themselves.
    """
    halves, left_out = split(sets)
    comparisons: list[Comparison] = []
    for model in models:
        pack = pack_of(model)
        _refuse_pack_of_inducing_rows(pack, sets)
        index = ToxicIndex(pack, model.decoder)
        for effects in measure(model, halves, pooling=pack.pooling, progress=progress):
            try:
                one = compare(index, effects, top_k=top_k, permutations=permutations)
            except DataError as error:
                left_out.append(LeftOut(model.block, effects.domain, str(error)))
            else:
                comparisons.append(one)
    _require_some(comparisons, left_out)
    trends = {form: block_trend(comparisons, form, permutations) for form in PROXIMITIES}
    known = {form: trend for form, trend in trends.items() if trend is not None}
    return Study(corrected(comparisons), tuple(left_out), known)


def _refuse_pack_of_inducing_rows(pack: FeaturePack, sets: Sequence[RowSets]) -> None:
    if pack.made_from("toxic") == sets[0].inducing.sha256:
        raise DataError(
            f"{escape(sets[0].inducing.source, limit=200)}: the toxic features were chosen from "
            "the inducing rows themselves; give two different files"
        )
