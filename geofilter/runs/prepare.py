"""One scoring run: the model, window, pack and scorer that were asked for, and their record.

`prepare` loads what `Settings` name and describes it in a manifest; `prepare_again`
loads what made an existing table, and refuses anything that has changed since.
"""

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from geofilter.data.encoder import Encoder
from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Problem
from geofilter.data.reading import Reading
from geofilter.data.rows import Row, RowFile
from geofilter.data.window import Limited, window_length
from geofilter.errors import TableError
from geofilter.model import chosen, fingerprint, loading, saes
from geofilter.model.adapter import base_of, entry_of
from geofilter.model.catalogue import AXES
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.loading import LoadedModel
from geofilter.model.own_answers import DECODING
from geofilter.packs.default_pack import DefaultPack
from geofilter.packs.named import NAMES, identity
from geofilter.packs.pack import HUB, FeaturePack, load_pack
from geofilter.runs.defaults import block_of, resolved, scorer_of
from geofilter.runs.provenance import (
    ABOVE,
    ANSWERS,
    beyond_blocks,
    describe_contrast,
    describe_contrast_sets,
    describe_data,
    describe_origin,
    describe_scorer,
    lasting,
    meaning,
    settings_of,
    stated_rounding,
    versions,
)
from geofilter.scoring.explain import explain
from geofilter.scoring.explanation import Explanation
from geofilter.scoring.score import BatchScorer
from geofilter.scoring.scorers import refuse_without_sae
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings
from geofilter.support import hub
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, difference
from geofilter.support.progress import Progress, no_progress


@dataclass(frozen=True)
class Loaded:
    """What `Settings` name, loaded: all that makes scores, whatever the rows.

    `settings` name the scorer, where those that were given left it open.
    `pack_path` is the pack's file; None where it could not be kept.
    """

    settings: Settings
    model: LoadedModel
    encoder: Encoder
    pack: FeaturePack
    scorer: BatchScorer
    pack_path: str | None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed while the model was loaded, one line each."""
        return self.model.notes


@dataclass(frozen=True)
class Run(Loaded):
    """All that scores one data set, and the record of it."""

    manifest: Manifest


def choose(settings: Settings) -> chosen.Chosen:
    """What the model and the SAE of `settings` stand for; nothing is opened.

    Raises `ModelError`, and `PackError` for a scorer that needs an SAE where there is no SAE.
    """
    found = chosen.choose(
        settings.model, settings.sae, block_of(settings), settings.device, settings.dtype
    )
    if not found.has_sae:
        refuse_without_sae(scorer_of(settings).name)
    return found


class _Limit(NamedTuple):
    name: str
    max_context: int


def load_encoder(settings: Settings) -> Encoder:
    """What makes tokens of samples for `settings`: small files, no weights. Raises `ModelError`."""
    texts = loading.read_texts(open_checkpoint(settings.model), settings.trust_remote_code)
    return encoder_of(settings, *texts)


def encoder_of(settings: Settings, config: Any, tokenizer: Any) -> Encoder:
    """The encoder that `settings` ask for, with a tokenizer and the model's configuration."""
    limit = _Limit(settings.model, loading.max_context(config, tokenizer))
    return _encoder(settings, limit, tokenizer)


def _encoder(settings: Settings, limit: Limited, tokenizer: Any) -> Encoder:
    longest = window_length(limit, settings.max_length)
    return Encoder(tokenizer, max_length=longest, last_turn=settings.last_turn)


def load_model(settings: Settings) -> LoadedModel:
    """The model and SAE of `settings`, as much of the model as the scorer needs."""
    return loading.load(
        settings.model,
        sae=settings.sae,
        block=block_of(settings),
        device=settings.device,
        dtype=settings.dtype,
        load_in=settings.load_in,
        trust_remote_code=settings.trust_remote_code,
        whole=scorer_of(settings).needs_whole,
    )


def check_contrast(settings: Settings) -> None:
    """Raise `DataError` where the contrast sets are a file that cannot be read."""
    if settings.contrast is not None:
        identity(settings.contrast)


def load(settings: Settings, *, progress: Progress = no_progress) -> Loaded:
    """Load what `settings` name; the model's own pack is made first where it has none yet.

    Raises `ModelError`, `PackError`, and `DataError` where contrast sets cannot be fetched.
    """
    settings = resolved(settings)
    # Read before the model is loaded: a wrong path is reported at once, and a wrong scorer.
    pack = load_pack(settings.pack) if settings.pack else None
    choose(settings)
    check_contrast(settings)
    model = load_model(settings)
    encoder = _encoder(settings, model, model.tokenizer)
    pack_path = settings.pack
    if pack is None:
        default = DefaultPack(model, settings.contrast)
        pack = default.cached() or default.make(progress)
        pack_path = str(default.path) if default.path.exists() else None
    name = scorer_of(settings).name
    scorer = BatchScorer(model, pack, scorer=name, proximity=settings.proximity, progress=progress)
    return Loaded(settings, model, encoder, pack, scorer, pack_path)


def prepare(
    rows: RowFile,
    settings: Settings,
    *,
    reading: Reading | None = None,
    progress: Progress = no_progress,
) -> Run:
    """Load what `settings` name, as `load` does, and describe a run over `rows`.

    `reading`: what was read of them, for the record.
    """
    loaded = load(settings, progress=progress)
    manifest = _describe(rows, loaded, reading)
    return Run(**vars(loaded), manifest=manifest)


def _describe(rows: RowFile, loaded: Loaded, reading: Reading | None) -> Manifest:
    settings, model, encoder, pack = loaded.settings, loaded.model, loaded.encoder, loaded.pack
    template = str(model.tokenizer.chat_template).encode("utf-8", "surrogatepass")
    # No device: it moves a score by rounding only. The dtype moves it by more.
    decides: dict[str, object] = {
        "data": describe_data(rows),
        "model": model.fingerprint,
        **_above(model, settings),
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "chat_template": hashlib.sha256(template).hexdigest(),
        "pack": pack.digest,
        "scorer": describe_scorer(settings),
        "window": {"max_length": encoder.max_length, "last_turn": encoder.last_turn},
        **stated_rounding(settings),
        "versions": versions(settings),
    }
    facts = {
        **describe_origin(rows),
        "settings": asdict(settings)
        | {name: lasting(getattr(settings, name)) for name in ("model", "sae", "pack")}
        | {"contrast": lasting(settings.contrast, NAMES)},
        "contrast": describe_contrast(pack),
        "contrast_sets": describe_contrast_sets(pack),
        # Commits on the hub; None for what is not from there.
        "revisions": {"model": model.revision, "sae": model.sae_revision},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if reading is not None:
        facts["reading"] = reading.record()
    return Manifest(decides, facts)


def _above(model: LoadedModel, settings: Settings) -> dict[str, object]:
    """What decides a score besides the blocks up to the SAE's, where anything does."""
    found: dict[str, object] = {}
    needed = beyond_blocks(scorer_of(settings))
    if ABOVE in needed:
        found[ABOVE] = fingerprint.of_whole(model.network)
    if ANSWERS in needed:
        found[ANSWERS] = dict(DECODING)
    return found


def unasked(settings: Settings) -> list[str]:
    """Which of model, SAE and pack would come from a hub repository that was not chosen here.

    It is in no catalogue, and nothing of it was fetched to this machine before. Raises
    `ModelError` for an SAE of an unknown release.
    """
    entry = entry_of(settings.model)
    model, sae, pack = settings.model, settings.sae or "", settings.pack or ""
    found = []
    base = base_of(model) or model
    if entry is None and _names_repository(base) and hub.main_commit(base) is None:
        found.append(base)
    listed = sae.startswith(AXES) or (entry is not None and sae in entry.sae.values())
    if not listed and _names_repository(sae) and saes.revision(sae) is None:
        found.append(sae)
    if pack.startswith(HUB) and hub.main_commit(pack[len(HUB) :].partition("@")[0]) is None:
        found.append(pack)
    return found


def _names_repository(place: str) -> bool:
    return "/" in place and not place.startswith((".", "/", "~")) and not os.path.exists(place)


def prepare_again(
    rows: RowFile,
    table: ScoreTable,
    *,
    purpose: str,
    model: str | None = None,
    trust_remote_code: bool = False,
) -> Run:
    """The run that made `table`, ready to look at single rows of it.

    `purpose` completes "its rows cannot be", for the refusal. `model` says where its model is
    now, by default where it was. Raises `TableError` naming
    the difference when the model, the pack or anything else but versions and precision is not
    what it was, and what `prepare` raises.
    """
    chosen = settings_of(table)
    chosen = replace(chosen, model=model or chosen.model)
    # Where and with what precision the model runs moves what is seen by rounding only.
    run = prepare(rows, replace(chosen, device="auto", trust_remote_code=trust_remote_code))
    changed = difference(meaning(table.manifest), meaning(run.manifest))
    if changed:
        raise TableError(
            f"{escape(str(table.path), limit=200)}: its rows cannot be {purpose}, since "
            f"something has changed after it was made ({'; '.join(changed)}); score the data again"
        )
    return run


def explain_row(run: Run, layouts: Layouts, row: Row) -> Explanation | Problem:
    """Why `row`, which has a score, has it: the score divided among its tokens.

    Of a preference row the chosen side. The scorer that is divided is that of the run, where
    its scores are sums; see `explain.explained_by`.
    """
    assert row.record is not None
    sample = run.encoder.encode(layouts.samples(row.record)[0])
    return explain(
        run.model,
        run.scorer.index,
        sample,
        scorer=scorer_of(run.settings).name,
        proximity=run.settings.proximity,
    )
