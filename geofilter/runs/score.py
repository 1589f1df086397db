"""Score a data set as it was asked for: with which engine, how many workers, what is kept."""

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from geofilter.data.encoder import Encoder
from geofilter.data.formats.places import named_by
from geofilter.data.layouts.choose import Layouts
from geofilter.data.reading import UNREAD_LIMIT, OnReading, unheard
from geofilter.data.rows import Data, RowFile, open_rows
from geofilter.errors import TableError
from geofilter.model import quantized
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.runs.defaults import scorer_of
from geofilter.runs.encodings import KnownEncodings
from geofilter.runs.engines.driver import Engine, TablePlan, make_table
from geofilter.runs.engines.feature_parts import FeaturesFile
from geofilter.runs.engines.parts import parts_folder
from geofilter.runs.engines.pool import devices_of
from geofilter.runs.engines.processes import ProcessEngine
from geofilter.runs.engines.threads import OnError, ThreadEngine, check_rows
from geofilter.runs.engines.worker import SampleEncoder, TwoSteps, Worker
from geofilter.runs.prepare import (
    Run,
    check_contrast,
    choose,
    load_encoder,
    load_model,
    prepare,
)
from geofilter.runs.provenance import (
    lasting,
)
from geofilter.scoring.score import BatchScorer, make_scorer
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings
from geofilter.support.atomic import check_output
from geofilter.support.display import shown
from geofilter.support.manifest import Manifest
from geofilter.support.progress import Progress, no_progress

EngineName = Literal["local", "ray"]

_NOT_OF_FEATURES = ("pack", "scorer")


@dataclass(frozen=True)
class Scored:
    """A finished table, and what was noticed while the model was loaded."""

    table: ScoreTable
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """How a process makes its own worker; small enough to be sent there.

    `devices` are dealt out by the number of the process. `threads` of the CPU belong to
    each; None leaves them as they are. `answers`: where the model's own answers are kept, for a
    scorer that reads them.
    """

    settings: Settings
    dtype: str
    pack: FeaturePack
    layouts: Layouts
    max_length: int
    keep_features: bool
    devices: tuple[str, ...]
    answers: Path | None = None
    threads: int | None = None

    def __call__(self, place: int) -> Worker:
        if self.threads is not None:
            import faiss

            torch.set_num_threads(self.threads)
            faiss.omp_set_num_threads(self.threads)
        settings = self.settings
        device = self.devices[place % len(self.devices)]
        model = load_model(replace(settings, device=device, dtype=self.dtype))
        encoder = Encoder(model.tokenizer, max_length=self.max_length, last_turn=settings.last_turn)
        name = scorer_of(settings).name
        scorer = BatchScorer(model, self.pack, scorer=name, proximity=settings.proximity)
        if scorer.answers is not None and self.answers is not None:
            scorer.answers.keep(self.answers)
        steps = _two_steps(scorer, settings) if self.keep_features else scorer
        return Worker(self.layouts, encoder, steps)


def score(
    data: RowFile | Data,
    settings: Settings,
    output: str | os.PathLike[str] | None = None,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
    engine: EngineName = "local",
    workers: int | None = None,
    save_features: str | os.PathLike[str] | None = None,
    on_error: OnError = "stop",
    unread_limit: float = UNREAD_LIMIT,
    restart: bool = False,
    progress: Progress = no_progress,
    on_reading: OnReading = unheard,
) -> Scored:
    """Score every row of `data` as `settings` say, into a score table at `output`.

    `data`: what `open_rows` opens, or rows that are open; `layout` and `columns`
    are as there. `output` is by default the name of the data (of several files that of the
    first) with `.scores.parquet` after it, in the current folder. `engine` and `workers`
    decide no score; by default there is one worker per GPU that `settings.device` stands for,
    or one.
    `save_features` names a file for the rows' features, with which `rescore` needs no model.
    `on_error="stop"` refuses a row that cannot be scored before any is, and before the model
    is loaded; so does `unread_limit` a larger share of rows than this, 0 to 1, that are
    unreadable or malformed. `on_reading` gets what was read, once the model is loaded. A run
    that was interrupted goes on where it stopped, unless `restart`.

    Raises `DataError`, `ModelError`, `PackError`, `TableError`, `OutputError`, and
    `MissingExtraError` without Ray.
    """
    rows = data if isinstance(data, RowFile) else open_rows(data, layout=layout, columns=columns)
    out = Path(output if output is not None else default_output(rows.given))
    # A finished or half-finished table may be there; the driver knows what to do with it.
    check_output(out, overwrite=True)
    quantized.rounding(settings.load_in, choose(settings).device)
    if save_features is not None and scorer_of(settings).needs_query:
        raise TableError(
            f"{shown(save_features)}: scores by {scorer_of(settings).name} cannot "
            "be made of saved features; leave out --save-features"
        )
    if settings.pack:
        load_pack(settings.pack)  # a wrong path is reported at once
    check_contrast(settings)
    begun = not restart and (out.exists() or parts_folder(out).exists())
    known: KnownEncodings | None = None
    if on_error == "stop" and not begun:
        known = KnownEncodings(load_encoder(settings))
    survey = rows.survey(
        check=on_error == "stop",
        look=None if known is None else known.encode,
        progress=progress,
    )
    survey.reading.refuse_above(unread_limit, shown(rows.source))
    run = prepare(rows, settings, reading=survey.reading, progress=progress)
    on_reading(survey.reading)
    features = None
    if save_features is not None:
        features = FeaturesFile(Path(save_features), _describe_features(run))

    def of_all(phase: str, done: int, _: int | None) -> None:
        progress(phase, done, survey.rows)

    check = partial(check_rows, rows, run.encoder, progress=of_all) if known is None else _checked
    plan = TablePlan(
        run.manifest,
        check if on_error == "stop" else None,
        restart,
        features=features,
        progress=of_all,
    )
    notes = run.notes
    encoder = run.encoder if known is None else known
    keep = features is not None
    answers = answers_file(out)
    if run.scorer.answers is not None:
        run.scorer.answers.keep(answers)
    chosen = _engine(run, encoder, rows.layouts, engine, workers, answers, keep_features=keep)
    # With other engines the workers load their own network, and this one makes room.
    del run
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Scored(make_table(rows, chosen, out, plan), notes)


def default_output(data: Data) -> str:
    """`train.jsonl.scores.parquet` for `some/folder/train.jsonl`: in the current folder.

    Of several files the name of the first, of a folder its own. Raises `OutputError` for what
    has no name: standard input and pipes.
    """
    return named_by(data) + ".scores.parquet"


def answers_file(out: Path) -> Path:
    """Where the model's own answers for a table at `out` are kept, if its scorer reads them."""
    return out.with_name(out.name + ".answers")


def _checked() -> None:
    """Every row was looked at before the model was loaded."""


def _engine(
    run: Run,
    encoder: SampleEncoder,
    layouts: Layouts,
    engine: EngineName,
    workers: int | None,
    answers: Path,
    *,
    keep_features: bool,
) -> Engine:
    devices = devices_of(run.settings.device)
    recipe = Recipe(
        settings=run.settings,
        dtype=str(run.model.network.dtype).removeprefix("torch."),
        pack=run.pack,
        layouts=layouts,
        max_length=run.encoder.max_length,
        keep_features=keep_features,
        devices=devices,
        answers=answers,
    )
    if engine == "ray":
        from geofilter.runs.engines.ray import RayEngine

        # Ray shows each worker its own GPUs only, so that there is no other to choose. Its
        # workers may be on other machines, which have no such file.
        ours = replace(recipe, devices=(run.settings.device,), answers=None)
        return RayEngine(ours, workers)
    count = workers or (len(devices) if run.settings.device == "auto" else 1)
    if count == 1:
        steps = _two_steps(run.scorer, run.settings) if keep_features else run.scorer
        return ThreadEngine(Worker(layouts, encoder, steps))
    if devices[0].startswith("cuda"):
        return ProcessEngine(recipe, count)
    threads = max(1, torch.get_num_threads() // count)
    return ProcessEngine(replace(recipe, threads=threads), count)


def _two_steps(scorer: BatchScorer, settings: Settings) -> TwoSteps:
    rule = make_scorer(scorer_of(settings).name, scorer.index, proximity=settings.proximity)
    return TwoSteps(scorer.features, rule)


def _describe_features(run: Run) -> Manifest:
    decides = {k: v for k, v in run.manifest.decides.items() if k not in _NOT_OF_FEATURES}
    facts = {
        "source": run.manifest.facts["source"],
        "settings": run.manifest.facts["settings"],
        "started": run.manifest.facts["started"],
        "reading": run.manifest.facts.get("reading"),
        "model_name": run.model.name,
        "sae": lasting(run.model.sae_name),
        "pack": lasting(run.pack_path),
        "pack_digest": run.pack.digest,
        "d_model": run.model.d_model,
        "d_sae": run.model.d_sae,
    }
    return Manifest({**decides, "pooling": run.pack.pooling}, facts)
