"""`geofilter geometry`: from files to comparisons, their JSON and their plots."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from geofilter.data.encoder import Encoder
from geofilter.data.reading import Reading
from geofilter.data.rows import open_rows
from geofilter.data.window import window_length
from geofilter.errors import DataError, GeofilterError, MissingExtraError, ModelError, PackError
from geofilter.model import loading
from geofilter.model.chosen import choose
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import read_contrast
from geofilter.packs.default_pack import DefaultPack
from geofilter.packs.halves import MINIMUM_ROWS, require_rows
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.scoring.domain_fit import domain_fit
from geofilter.settings import PROXIMITIES, Settings
from geofilter.stats.permutation import PERMUTATIONS
from geofilter.studies.closeness import (
    TOP_K,
    Closeness,
    Comparison,
    ReadSets,
    Study,
    read_sets,
    study,
)
from geofilter.support import charts
from geofilter.support.atomic import check_output, writing_folder
from geofilter.support.display import shown
from geofilter.support.manifest import library_versions
from geofilter.support.progress import Progress, no_progress

_TITLE = "Proximity of features to toxic features: mean (mark), 25-75 %, 5-95 % of features"

# The level that the verdict is said at, after Holm's correction.
LEVEL = 0.05

PackOf = Callable[[LoadedModel], FeaturePack]


@dataclass(frozen=True)
class Geometry:
    """What was compared, its record as JSON values, and the `verdict`, a line for people.

    `readings`: file -> what was read of it. `notes` are worth saying. `not_drawn` says what to
    install where the plots are missing.
    """

    study: Study
    record: Mapping[str, object]
    verdict: str
    readings: Mapping[str, Reading]
    notes: tuple[str, ...]
    not_drawn: MissingExtraError | None


def geometry(
    settings: Settings,
    inducing: str,
    benign: str,
    output: str,
    *,
    toxic: str | None = None,
    blocks: Sequence[int] | None = None,
    by: str | None = None,
    top_k: int = TOP_K,
    permutations: int = PERMUTATIONS,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Geometry:
    """Compare the rows of `inducing` with those of `benign`, and write the folder `output`.

    `settings` name the model, its SAE, and the pack that holds the toxic features. Without a
    pack they are chosen by the rows of `toxic`, or by the default contrast sets. `blocks` are
    by default all that the catalogue has an SAE for. See `closeness` for what is compared.
    `overwrite`: in place of a folder that is there.

    Raises what reading, loading and comparing raise, and `OutputError`; before the model is
    loaded `GeofilterError` for what no result could come of.
    """
    check_output(output, overwrite=overwrite)
    given = load_pack(settings.pack) if settings.pack is not None else None
    refuse_few_rows(inducing, benign, toxic)
    if given is not None and given.is_dense:
        raise PackError(
            f"{shown(str(settings.pack))}: holds the dense direction alone, and the geometry is "
            "one of SAE features; give a pack with features"
        )
    chosen = blocks_of(settings, blocks, given)
    refuse_few_exchanges(top_k, permutations, len(chosen or (None,)) * len(PROXIMITIES))
    deepest, wanted = load(settings, chosen)
    encoder = Encoder(deepest.tokenizer, max_length=window_length(deepest))
    read = read_sets(inducing, benign, encoder, by=by)
    source = _pack_source(given, toxic, benign, settings.contrast, encoder, progress)
    packs: list[FeaturePack] = []

    def pack_of(model: LoadedModel) -> FeaturePack:
        packs.append(source(model))
        return packs[-1]

    found = study(
        (loading.at_block(deepest, block) for block in wanted),
        read.sets,
        pack_of,
        top_k=top_k,
        permutations=permutations,
        progress=progress,
    )
    # Each set of a file knows what was read of the whole file.
    first = read.sets[0]
    sides = {inducing: first.inducing.reading, benign: first.benign.reading}
    readings = {place: one for place, one in sides.items() if one is not None}
    record = {
        "model": deepest.name,
        "revision": deepest.revision,
        "by": by,
        "top_k": top_k,
        "permutations": permutations,
        "pack": settings.pack,
        "toxic": toxic,
        **_record(found, read),
        "verdict": verdict(found),
        "reading": {place: one.record() for place, one in readings.items()},
    }
    not_drawn = None
    with writing_folder(output, overwrite=overwrite) as folder:
        text = json.dumps(record, indent=1, allow_nan=False) + "\n"
        (folder / "geometry.json").write_text(text, "ascii")
        try:
            _draw(found, folder / "geometry")
        except MissingExtraError as error:
            not_drawn = error
    notes = tuple(_notes(deepest, read, packs))
    return Geometry(found, record, verdict(found), readings, notes, not_drawn)


def verdict(found: Study) -> str:
    """One line: in how many tests inducing features lie nearer, at `LEVEL` after Holm.

    A test is one form of proximity at one block, of one domain where there are several.
    """
    tests = [one.closeness[form] for one in found.comparisons for form in PROXIMITIES]
    nearer = sum(one.p_holm <= LEVEL for one in tests)
    farther = sum(one.effect_high < 0 for one in tests)
    if nearer:
        said = f"inducing features lie nearer to toxic ones in {nearer} of {len(tests)} tests"
    else:
        said = f"in none of {len(tests)} tests do inducing features lie nearer to toxic ones"
    away = f"; in {farther} they lie farther, by an interval below 0" if farther else ""
    smallest = min(one.p_holm for one in tests)
    return f"{said} (Holm at {LEVEL:g}; the smallest corrected p is {smallest:.2g}){away}"


def refuse_few_rows(inducing: str, benign: str, toxic: str | None) -> None:
    """Raise `DataError` where a file has too few rows to be split, or is given for both sides."""
    if os.path.realpath(inducing) == os.path.realpath(benign):
        raise DataError(f"{shown(inducing)}: is --inducing and --benign; give two different sets")
    for place in (inducing, benign, toxic):
        if place is not None:
            rows = sum(1 for _ in islice(open_rows(place), MINIMUM_ROWS))
            require_rows(shown(place), rows, MINIMUM_ROWS)


def refuse_few_exchanges(top_k: int, permutations: int, tests: int) -> None:
    """Raise `GeofilterError` where no p could come to `LEVEL` once it is corrected for `tests`."""
    # All exchanges, and so an exact p, where there are no more than asked for.
    every = math.comb(2 * top_k, top_k)
    least = tests / min(permutations + 1, every)
    if least > LEVEL:
        needed = math.ceil(tests / LEVEL)
        remedy = (
            f"--top-k {next(k for k in range(2, 100) if math.comb(2 * k, k) >= needed)}"
            if every < needed
            else f"--permutations {needed - 1}"
        )
        raise GeofilterError(
            f"with --top-k {top_k} and --permutations {permutations} no p of {tests} tests can "
            f"fall below {least:.2g}, so that nothing could be said at {LEVEL:g}; "
            f"give {remedy} or more"
        )


def blocks_of(
    settings: Settings, blocks: Sequence[int] | None, pack: FeaturePack | None
) -> Sequence[int] | None:
    """The blocks to read the model at; None for that of its SAE."""
    if pack is not None:
        if blocks not in (None, (pack.block,)):
            raise GeofilterError(f"the pack is for block {pack.block} only; leave out --blocks")
        blocks = (pack.block,)
    entry = loading.CATALOGUE.get(settings.model)
    if entry is not None and settings.sae is None:
        blocks = blocks or tuple(sorted(entry.sae))
    for block in blocks or (None,):
        # Refuses a block without an SAE.
        if not choose(settings.model, settings.sae, block, settings.device, None).has_sae:
            raise ModelError(
                f"{shown(settings.model)} is read without an SAE, and the geometry is one of SAE "
                "features; give an SAE with --sae"
            )
    return blocks


def load(settings: Settings, blocks: Sequence[int] | None) -> tuple[LoadedModel, Sequence[int]]:
    """The model as deep as it is needed, and the blocks to read it at."""
    loaded = loading.load(
        settings.model,
        sae=settings.sae,
        block=max(blocks) if blocks else None,
        device=settings.device,
        trust_remote_code=settings.trust_remote_code,
    )
    return loaded, blocks or (loaded.block,)


def _pack_source(
    given: FeaturePack | None,
    toxic: str | None,
    benign: str,
    contrast: str | None,
    encoder: Encoder,
    progress: Progress,
) -> PackOf:
    """What gives the toxic features of a block: the pack, the toxic rows, or the default sets."""
    sets = [read_contrast(place, encoder) for place in (toxic, benign)] if toxic else None

    def pack_of(model: LoadedModel) -> FeaturePack:
        if given is not None:
            given.verify(model)
            return given

        def report(_phase: str, done: int, of: int | None) -> None:
            progress(f"discover at block {model.block}", done, of)

        if sets is not None:
            return make_pack(model, *sets, progress=report).pack
        default = DefaultPack(model, contrast)
        return default.cached() or default.make(report)

    return pack_of


def _notes(model: LoadedModel, read: ReadSets, packs: Sequence[FeaturePack]) -> Iterator[str]:
    yield from model.notes
    for side, count in read.without_domain.items():
        if count:
            yield f"{count:,} {side} rows have no value in the column of --by and were not used"
    samples = [row for one in read.sets for row in (*one.inducing.samples, *one.benign.samples)]
    unknown = [row.unknown_share for row in samples]
    if strange := domain_fit(unknown, [], packs[0].contrast, figures="figures"):
        yield f"warning: {strange}"
    benign = {one.benign.sha256 for one in read.sets}
    if any(pack.made_from("benign") in benign for pack in packs):
        yield (
            "the toxic features were chosen against the same benign rows, which alone brings "
            "inducing features nearer to them; a --pack of other benign rows does not"
        )


# -- the record ------------------------------------------------------------------------


def _record(found: Study, read: ReadSets) -> dict[str, object]:
    return {
        "sets": [
            {
                "domain": one.domain,
                "inducing": one.inducing.describe(),
                "benign": one.benign.describe(),
            }
            for one in read.sets
        ],
        "without_domain": dict(read.without_domain),
        "versions": library_versions(["geofilter", "torch", "transformers", "sae-lens"]),
        "comparisons": [_comparison(one) for one in found.comparisons],
        "left_out": [asdict(one) for one in found.left_out],
        "block_trend": {form: asdict(trend) for form, trend in found.trend.items()},
    }


def _comparison(one: Comparison) -> dict[str, object]:
    return {
        "block": one.block,
        "domain": one.domain,
        "rows": dict(one.rows),
        "features": {side: ids.tolist() for side, ids in one.features.items()},
        "shared": dict(one.shared),
        "unconfirmed": dict(one.unconfirmed),
        **{form: _closeness(closeness) for form, closeness in one.closeness.items()},
    }


def _closeness(one: Closeness) -> dict[str, object]:
    sides = {"inducing": one.inducing, "other": one.other}
    return {
        **{side: float(values.mean()) for side, values in sides.items()},
        "effect_size": one.effect_size,
        "effect_interval": [one.effect_low, one.effect_high],
        "p": one.p,
        "p_holm": one.p_holm,
        "proximity": {side: values.round(6).tolist() for side, values in sides.items()},
    }


# -- the plots -------------------------------------------------------------------------


def _draw(found: Study, path: Path) -> None:
    charts.save(path, charts.distributions(_panels(found), title=_TITLE))


def _panels(found: Study) -> list[charts.Panel]:
    domains = dict.fromkeys(one.domain for one in found.comparisons)
    return [
        charts.Panel(
            "all rows" if domain is None else domain,
            "block",
            "mean cosine to all" if form == "mean" else "cosine to the nearest",
            {
                str(one.block): {
                    "inducing": one.closeness[form].inducing,
                    "other": one.closeness[form].other,
                }
                for one in found.comparisons
                if one.domain == domain
            },
        )
        for domain in domains
        for form in PROXIMITIES
    ]
