"""Score a data set as it was asked for: with which engine, how many workers, what is kept.

This module chooses and connects. It knows nothing about how rows are encoded, scored or
stored, nor about the command line.
"""

import gc
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from geofilter.data.encoder import Encoder
from geofilter.data.layouts import Layout
from geofilter.data.problems import MODEL_UNSCORED
from geofilter.data.rows import RowFile
from geofilter.errors import DataError, ModelError, PackError, TableError
from geofilter.model import fingerprint, loading, saes
from geofilter.packs.index import ToxicIndex
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.runs.engines.driver import Engine, TablePlan, make_table
from geofilter.runs.engines.feature_parts import FeaturesFile
from geofilter.runs.engines.processes import ProcessEngine
from geofilter.runs.engines.threads import OnError, ThreadEngine, check_rows
from geofilter.runs.engines.worker import SavedWorker, TwoSteps, Worker
from geofilter.runs.prepare import Run, block_of, prepare
from geofilter.runs.provenance import (
    ABOVE,
    describe_contrast,
    describe_contrast_sets,
    describe_scorer,
    lasting,
    settings_from,
)
from geofilter.scoring.features_file import SavedFeatures
from geofilter.scoring.score import BatchScorer, make_scorer
from geofilter.scoring.scorers import scorer_named
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Proximity, Settings
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, library_versions

EngineName = Literal["local", "ray"]
# Called with the phase, the rows done in it, and the rows in all where that is known.
Report = Callable[[str, int, int | None], None]

_NOT_OF_FEATURES = ("pack", "scorer")


@dataclass(frozen=True)
class Outcome:
    """A finished table, and what was noticed while the model was loaded."""

    table: ScoreTable
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a process makes its own worker; small enough to be sent there.

    `devices` are dealt out by the number of the process. `threads` of the CPU belong to
    each; None leaves them as they are.
    """

    settings: Settings
    dtype: str
    pack: FeaturePack
    layout: Layout
    max_length: int
    keep_features: bool
    devices: tuple[str, ...]
    threads: int | None = None

    def __call__(self, place: int) -> Worker:
        if self.threads is not None:
            import faiss

            torch.set_num_threads(self.threads)
            faiss.omp_set_num_threads(self.threads)
        settings = self.settings
        model = loading.load(
            settings.model,
            sae=settings.sae,
            block=block_of(settings),
            device=self.devices[place % len(self.devices)],
            dtype=self.dtype,
            trust_remote_code=settings.trust_remote_code,
            whole=scorer_named(settings.scorer).needs_push,
        )
        encoder = Encoder(model.tokenizer, max_length=self.max_length, last_turn=settings.last_turn)
        scorer = BatchScorer(model, self.pack, scorer=settings.scorer, proximity=settings.proximity)
        steps = _two_steps(scorer, settings) if self.keep_features else scorer
        return Worker(self.layout, encoder, steps)


def score(
    rows: RowFile,
    settings: Settings,
    out: str | os.PathLike[str],
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    save_features: str | os.PathLike[str] | None = None,
    on_error: OnError = "stop",
    restart: bool = False,
    total: int | None = None,
    report: Report | None = None,
) -> Outcome:
    """Score `rows` as `settings` say into a table at `out`; see `pipeline.make_table`.

    `engine` and `workers` decide no score. By default there is one worker per GPU that
    `settings.device` stands for, or one. `save_features` names a file for the rows'
    features, with which `score_again` needs no model. `total` is only told to `report`.
    Raises what `prepare` and `make_table` raise, and `MissingExtraError` without Ray.
    """
    told = report or (lambda phase, done, of: None)
    run = prepare(rows, settings, on_error=on_error, progress=told)
    features = None
    if save_features is not None:
        features = FeaturesFile(Path(save_features), _describe_features(run))

    def progress(phase: str, done: int) -> None:
        told(phase, done, total)

    check = partial(check_rows, rows, run.encoder, progress=progress)
    plan = TablePlan(
        run.manifest,
        check if on_error == "stop" else None,
        restart,
        features=features,
        progress=progress,
    )
    notes = run.notes
    chosen = _engine(run, rows.layout, engine, workers, keep_features=features is not None)
    # With other engines the workers load their own network, and this one makes room.
    del run
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Outcome(make_table(rows, chosen, out, plan), notes)


def _engine(
    run: Run, layout: Layout, engine: EngineName, workers: int | None, *, keep_features: bool
) -> Engine:
    devices = _devices(run.settings.device)
    recipe = Recipe(
        settings=run.settings,
        dtype=str(run.model.network.dtype).removeprefix("torch."),
        pack=run.pack,
        layout=layout,
        max_length=run.encoder.max_length,
        keep_features=keep_features,
        devices=devices,
    )
    if engine == "ray":
        from geofilter.runs.engines.ray import RayEngine

        # Ray shows each worker its own GPUs only, so that there is no other to choose.
        return RayEngine(replace(recipe, devices=(run.settings.device,)), workers)
    count = workers or (len(devices) if run.settings.device == "auto" else 1)
    if count == 1:
        steps = _two_steps(run.scorer, run.settings) if keep_features else run.scorer
        return ThreadEngine(Worker(layout, run.encoder, steps))
    if devices[0].startswith("cuda"):
        return ProcessEngine(recipe, count)
    threads = max(1, torch.get_num_threads() // count)
    return ProcessEngine(replace(recipe, threads=threads), count)


def _devices(device: str) -> tuple[str, ...]:
    """What the workers of this machine run on, dealt out one by one."""
    if device in {"auto", "cuda"} and torch.cuda.is_available():
        return tuple(f"cuda:{place}" for place in range(torch.cuda.device_count()))
    return (device,)


def _two_steps(scorer: BatchScorer, settings: Settings) -> TwoSteps:
    rule = make_scorer(settings.scorer, scorer.index, proximity=settings.proximity)
    return TwoSteps(scorer.features, rule)


def _describe_features(run: Run) -> Manifest:
    decides = {k: v for k, v in run.manifest.decides.items() if k not in _NOT_OF_FEATURES}
    facts = {
        "source": run.manifest.facts["source"],
        "settings": run.manifest.facts["settings"],
        "started": run.manifest.facts["started"],
        "model_name": run.model.name,
        "sae": lasting(run.model.sae_name),
        "pack": lasting(run.pack_path),
        "pack_digest": run.pack.digest,
        "d_model": run.model.d_model,
        "d_sae": run.model.d_sae,
    }
    return Manifest({**decides, "pooling": run.pack.pooling}, facts)


def score_again(
    rows: RowFile,
    features: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pack: str | None = None,
    scorer: str = "nearest",
    proximity: Proximity = "nearest",
    sae: str | None = None,
    on_error: OnError = "stop",
    restart: bool = False,
    total: int | None = None,
    report: Report | None = None,
) -> Outcome:
    """Score `rows` from their saved features: the scores that the model would give.

    Neither model nor tokenizer is loaded, only the SAE: that of the features, from `sae`
    where it has moved. `pack` is by default the one that the features were saved with.
    Raises `TableError` for features that are damaged or of other data, `PackError` for a
    pack of another model, SAE or pooling, `ModelError` for another SAE.
    """
    saved = SavedFeatures.read(features)
    _refuse_other_data(rows, saved)
    chosen = _pack_for(saved, pack)
    settings = _settings_for(saved, pack, scorer, proximity, sae)
    decoder = saes.decoder(_sae_for(saved, sae))
    rule = make_scorer(scorer, ToxicIndex(chosen, decoder), proximity=proximity)
    pushed = scorer_named(scorer).needs_push
    if pushed and ABOVE not in saved.manifest.decides:
        raise TableError(
            f"{escape(saved.source, limit=200)}: were saved without what {scorer} needs; save "
            f"them with --scorer {scorer} --save-features"
        )
    left_out = {"pooling"} if pushed else {"pooling", ABOVE}
    decides = {k: v for k, v in saved.manifest.decides.items() if k not in left_out}
    decides |= {"pack": chosen.digest, "scorer": describe_scorer(settings)}
    decides["versions"] = _versions_for(saved)
    facts = {
        "source": rows.source,
        "settings": asdict(settings),
        "contrast": describe_contrast(chosen),
        "contrast_sets": describe_contrast_sets(chosen),
        "features": os.path.abspath(saved.source),
        "started": saved.manifest.facts.get("started"),
    }
    told = report or (lambda phase, done, of: None)
    plan = TablePlan(
        Manifest(decides, facts),
        partial(_check_saved, saved) if on_error == "stop" else None,
        restart,
        progress=lambda phase, done: told(phase, done, total),
    )
    return Outcome(make_table(saved, ThreadEngine(SavedWorker(rule)), out, plan))


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


def _sae_for(saved: SavedFeatures, sae: str | None) -> Any:
    """The SAE of the features, on the CPU."""
    place = sae or _fact(saved, "sae")
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
    scorer: str,
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
    return replace(
        settings,
        # The features' own: another scorer may have another default.
        block=block_of(settings),
        scorer=scorer,
        proximity=proximity,
        pack=lasting(pack) if pack else settings.pack,
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
                    f"row {row.index} of {escape(saved.source, limit=200)}: "
                    f"{side.problem.status}: {escape(side.problem.reason, limit=300)}; "
                    "keep such rows unscored with --on-error keep"
                )
