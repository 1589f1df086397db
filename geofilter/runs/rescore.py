"""Score again from saved features: no model, no tokenizer, only the SAE."""

import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geofilter.data.problems import MODEL_UNSCORED
from geofilter.data.rows import Data, RowFile, open_rows
from geofilter.errors import DataError, ModelError, PackError, TableError
from geofilter.model import fingerprint, saes
from geofilter.model.adapter import entry_of
from geofilter.model.catalogue import NO_SAE
from geofilter.packs.index import ToxicIndex
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.runs.defaults import block_of, scorer_of
from geofilter.runs.engines.driver import TablePlan, make_table
from geofilter.runs.engines.threads import OnError, ThreadEngine
from geofilter.runs.engines.worker import SavedWorker
from geofilter.runs.provenance import (
    ABOVE,
    ANSWERS,
    beyond_blocks,
    describe_contrast,
    describe_contrast_sets,
    describe_origin,
    describe_scorer,
    lasting,
    settings_from,
)
from geofilter.runs.score import Scored, default_output
from geofilter.scoring.features_file import SavedFeatures
from geofilter.scoring.score import make_scorer
from geofilter.settings import Proximity, Settings
from geofilter.support.atomic import check_output
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, library_versions
from geofilter.support.progress import Progress, no_progress


def rescore(
    data: RowFile | Data,
    features: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    pack: str | None = None,
    scorer: str | None = None,
    proximity: Proximity = "nearest",
    sae: str | None = None,
    on_error: OnError = "stop",
    restart: bool = False,
    progress: Progress = no_progress,
) -> Scored:
    """Score the rows of `data` from their saved features: the scores that the model would give.

    Neither model nor tokenizer is loaded, only the SAE, if any: that of the features, from
    `sae` where it has moved. `pack` and `scorer` are by default those that the features were
    saved with.
    Raises `TableError` for features that are damaged or of other data, `PackError` for a
    pack of another model, SAE or pooling, `ModelError` for another SAE.
    """
    rows = data if isinstance(data, RowFile) else open_rows(data)
    out = Path(output if output is not None else default_output(rows.given))
    check_output(out, overwrite=True)
    saved = SavedFeatures.read(features)
    _refuse_other_data(rows, saved)
    chosen = _pack_for(saved, pack)
    settings = _settings_for(saved, pack, scorer, proximity, sae)
    name = scorer_of(settings).name
    decoder = _decoder_for(saved, sae)
    rule = make_scorer(name, ToxicIndex(chosen, decoder), proximity=proximity)
    if scorer_of(settings).needs_query:
        raise TableError(
            f"{escape(saved.source, limit=200)}: scores by {name} cannot be made of saved "
            "features; score with --model"
        )
    needed = beyond_blocks(scorer_of(settings))
    if not needed <= saved.manifest.decides.keys():
        raise TableError(
            f"{escape(saved.source, limit=200)}: were saved without what {name} needs; save "
            f"them with --scorer {name} --save-features"
        )
    left_out = {"pooling"} | ({ABOVE, ANSWERS} - needed)
    decides = {k: v for k, v in saved.manifest.decides.items() if k not in left_out}
    decides |= {"pack": chosen.digest, "scorer": describe_scorer(settings)}
    decides["versions"] = _versions_for(saved)
    facts = {
        **describe_origin(rows),
        "settings": asdict(settings),
        "contrast": describe_contrast(chosen),
        "contrast_sets": describe_contrast_sets(chosen),
        "features": os.path.abspath(saved.source),
        "started": saved.manifest.facts.get("started"),
        "reading": saved.manifest.facts.get("reading"),
    }
    plan = TablePlan(
        Manifest(decides, facts),
        partial(_check_saved, saved) if on_error == "stop" else None,
        restart,
        progress=progress,
    )
    return Scored(make_table(saved, ThreadEngine(SavedWorker(rule)), out, plan))


def _fact(saved: SavedFeatures, name: str) -> str | None:
    value = saved.manifest.facts.get(name)
    return value if isinstance(value, str) else None


def _refuse_other_data(rows: RowFile, saved: SavedFeatures) -> None:
    data = saved.manifest.decides.get("data")
    if not isinstance(data, dict) or rows.fingerprint() != data.get("sha256"):
        origin = escape(_fact(saved, "source") or "other data", limit=200)
        raise TableError(
            f"{escape(saved.source, limit=200)}: holds the features of {origin}, and "
            f"{escape(rows.source, limit=200)} is other data or has changed since; give the "
            "data they were made from, or score with --model"
        )


def _pack_for(saved: SavedFeatures, pack: str | None) -> FeaturePack:
    """The pack that was asked for, or the one that the features were saved with."""
    shown = escape(saved.source, limit=200)
    place = pack or _fact(saved, "pack")
    if place is None:
        raise PackError(f"{shown}: the pack they were saved with was not kept; give --pack")
    chosen = load_pack(place)
    if pack is None and chosen.digest != saved.manifest.facts.get("pack_digest"):
        raise PackError(
            f"{escape(place, limit=200)}: is not the pack any more that the features in {shown} "
            "were saved with; give --pack"
        )
    model = saved.manifest.decides.get("model")
    if dict(chosen.fingerprint) != model:
        raise PackError(
            f"{escape(place, limit=200)}: was made with {escape(chosen.model_name)} and SAE "
            f"{escape(chosen.sae_name)}, other than the features in {shown}; "
            "give a pack of their model and SAE"
        )
    pooling = saved.manifest.decides.get("pooling")
    if chosen.pooling != pooling:
        raise PackError(
            f"{escape(place, limit=200)}: pools by {chosen.pooling}, and the features in {shown} "
            f"by {escape(str(pooling))}; score with --model, or give a pack of their pooling"
        )
    return chosen


def _decoder_for(saved: SavedFeatures, sae: str | None) -> torch.Tensor:
    """The decoder of the features' SAE, (d_sae, d_model), on the CPU; without one d_sae is 0."""
    place = sae or _fact(saved, "sae")
    if place == NO_SAE and saved.d_sae == 0:
        return torch.zeros(0, saved.d_model)
    return saes.decoder(_sae_for(saved, place))


def _sae_for(saved: SavedFeatures, place: str | None) -> Any:
    """The SAE of the features, on the CPU."""
    if place is None:
        raise TableError(f"{escape(saved.source, limit=200)}: names no SAE; give --sae")
    loaded = saes.load_sae(place, "cpu")
    model = saved.manifest.decides.get("model")
    if not isinstance(model, dict) or fingerprint.of_sae(loaded) != model.get("sae"):
        raise ModelError(
            f"SAE {escape(place, limit=200)}: is not the one that the features in "
            f"{escape(saved.source, limit=200)} were made with; give that one with --sae"
        )
    if (loaded.cfg.d_in, loaded.cfg.d_sae) != (saved.d_model, saved.d_sae):
        raise TableError(
            f"{escape(saved.source, limit=200)}: states sizes that its SAE does not have; "
            "save the features again with --save-features"
        )
    return loaded


def _settings_for(
    saved: SavedFeatures,
    pack: str | None,
    scorer: str | None,
    proximity: Proximity,
    sae: str | None,
) -> Settings:
    """The settings with which the model would give the same table."""
    known = saved.manifest.facts.get("settings")
    try:
        settings = settings_from(known)
    except TypeError:
        raise TableError(
            f"{escape(saved.source, limit=200)}: does not say how it was made; "
            "save the features again with --save-features"
        ) from None
    block = block_of(settings)
    entry = entry_of(settings.model)
    if block is None and entry is not None and scorer not in (None, settings.scorer):
        block = entry.default_block
    return replace(
        settings,
        # The features' own: another scorer may have another default.
        block=block,
        scorer=scorer or settings.scorer,
        proximity=proximity,
        pack=lasting(pack) if pack else settings.pack,
        contrast=None if pack else settings.contrast,
        sae=lasting(sae) if sae else settings.sae,
    )


def _versions_for(saved: SavedFeatures) -> dict[str, object]:
    """Those that made the features, and the geofilter that makes the scores."""
    known = saved.manifest.decides.get("versions")
    return {**(known if isinstance(known, dict) else {}), **library_versions(["geofilter"])}


def _check_saved(saved: SavedFeatures) -> None:
    """Raise `DataError` at the first row that had a problem before the model saw it."""
    for row in saved:
        for side in row.sides:
            if side.problem is not None and side.problem.status not in MODEL_UNSCORED:
                raise DataError(
                    f"row {row.index + 1} of {escape(saved.source, limit=200)}: "
                    f"{side.problem.status}: {escape(side.problem.reason, limit=None)}; "
                    "keep such rows unscored with --on-error keep"
                )
