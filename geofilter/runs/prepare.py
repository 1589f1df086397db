"""One scoring run: the model, window, pack and scorer that were asked for, and their record.

`prepare` loads what `Settings` name and describes it in a manifest; `prepare_again`
loads what made an existing table, and refuses anything that has changed since.

This module knows nothing about the command line, and nothing about how scores are
made or stored.
"""

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from geofilter.choices import PROXIMITIES, SCORERS, Proximity, ScorerName
from geofilter.data.encoder import Encoder
from geofilter.data.rows import RowFile, open_rows
from geofilter.errors import TableError
from geofilter.model import fingerprint, loading, saes
from geofilter.model.catalogue import AXES
from geofilter.model.loading import LoadedModel
from geofilter.packs.default_pack import DefaultPack, window
from geofilter.packs.pack import HUB, FeaturePack, load_pack
from geofilter.runs.engines.threads import OnError, check_rows
from geofilter.scoring.rules import BatchScorer
from geofilter.scoring.table import ScoreTable
from geofilter.support import hub
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, difference, library_versions

# In a manifest: the hash of what lies behind the SAE's block, where it decides anything.
ABOVE = "model_above"
_VERSIONS = ("geofilter", "torch", "transformers", "tokenizers", "sae-lens")


@dataclass(frozen=True)
class Settings:
    """What decides a run besides the data; None stands for the default.

    `model`, `sae`, `block`, `device`, `dtype`: as in `models.load`. `pack`: a file made by
    `discover`; the default is the model's own. `max_length`: tokens per row.
    `proximity` belongs to the scorer `nearest`. `trust_remote_code` lets the model run
    code that comes with it; it is never read from a table.
    """

    model: str
    sae: str | None = None
    block: int | None = None
    device: str = "auto"
    pack: str | None = None
    scorer: ScorerName = "nearest"
    proximity: Proximity = "nearest"
    max_length: int | None = None
    last_turn: bool = False
    dtype: str | None = None
    trust_remote_code: bool = False

    @property
    def wanted_block(self) -> int | None:
        """The block that was asked for, or the catalogue's for this scorer.

        None leaves it to the SAE, or to the model's default, for which packs are made.
        """
        entry = loading.CATALOGUE.get(self.model)
        if self.block is not None or self.sae or self.pack or entry is None:
            return self.block
        return entry.spillover_block if self.scorer == "spillover" else None


@dataclass(frozen=True)
class Run:
    """All that is needed to score rows: give its parts to `engines.local.score_file`.

    `pack_path` is the pack's file; None where it could not be kept.
    """

    settings: Settings
    model: LoadedModel
    encoder: Encoder
    pack: FeaturePack
    scorer: BatchScorer
    manifest: Manifest
    pack_path: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed while the model was loaded, one line each."""
        return self.model.notes


@dataclass(frozen=True)
class Parts:
    """What `Settings` name, loaded: all that makes scores, whatever the rows."""

    model: LoadedModel
    encoder: Encoder
    pack: FeaturePack
    scorer: BatchScorer
    pack_path: str | None


def load_parts(
    settings: Settings,
    *,
    before_pack: Callable[[Encoder], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Parts:
    """Load what `settings` name.

    Where the model's own pack has to be made first, `before_pack` is called before that,
    and `progress` with (contrast rows done, in all). Raises `ModelError`, `PackError`, and
    `DataError` where the contrast sets cannot be had.
    """
    # Read before the model is loaded: a wrong path is told at once.
    pack = load_pack(settings.pack) if settings.pack else None
    model = loading.load(
        settings.model,
        sae=settings.sae,
        block=settings.wanted_block,
        device=settings.device,
        dtype=settings.dtype,
        trust_remote_code=settings.trust_remote_code,
        whole=settings.scorer == "spillover",
    )
    encoder = Encoder(
        model.tokenizer,
        max_length=window(model, settings.max_length),
        last_turn=settings.last_turn,
    )
    pack_path = settings.pack
    if pack is None:
        default = DefaultPack(model)
        pack = default.cached()
        if pack is None:
            if before_pack is not None:
                before_pack(encoder)
            pack = default.make(progress)
        pack_path = str(default.path) if default.path.exists() else None
    scorer = BatchScorer(model, pack, scorer=settings.scorer, proximity=settings.proximity)
    return Parts(model, encoder, pack, scorer, pack_path)


def prepare(
    rows: RowFile,
    settings: Settings,
    *,
    on_error: OnError = "keep",
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Load what `settings` name and describe a run over `rows`.

    Where the model's own pack has to be made first, `progress` is called with (contrast
    rows done, in all); with `on_error="stop"` the rows are looked at before that, so that
    a bad one is not found minutes later. Raises `ModelError`, `PackError`, `DataError`.
    """
    check = partial(check_rows, rows) if on_error == "stop" else None
    parts = load_parts(settings, before_pack=check, progress=progress)
    manifest = _describe(rows, settings, parts.model, parts.encoder, parts.pack)
    return Run(
        settings, parts.model, parts.encoder, parts.pack, parts.scorer, manifest, parts.pack_path
    )


def _describe(
    rows: RowFile, settings: Settings, model: LoadedModel, encoder: Encoder, pack: FeaturePack
) -> Manifest:
    template = str(model.tokenizer.chat_template).encode("utf-8", "surrogatepass")
    # No device: it moves a score by rounding only. The dtype moves it by more.
    decides = {
        "data": describe_data(rows),
        "model": model.fingerprint,
        **_above(model, settings),
        "dtype": str(model.network.dtype).removeprefix("torch."),
        "chat_template": hashlib.sha256(template).hexdigest(),
        "pack": pack.digest,
        "scorer": describe_scorer(settings),
        "window": {"max_length": encoder.max_length, "last_turn": encoder.last_turn},
        "versions": versions(),
    }
    facts = {
        "source": rows.source,
        "settings": asdict(settings)
        | {name: lasting(getattr(settings, name)) for name in ("model", "sae", "pack")},
        "contrast": describe_contrast(pack),
        "contrast_sets": describe_contrast_sets(pack),
        # Commits on the hub; None for what is not from there.
        "revisions": {"model": model.revision, "sae": model.sae_revision},
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Manifest(decides, facts)


def _above(model: LoadedModel, settings: Settings) -> dict[str, str]:
    """What decides a push beside the blocks up to the SAE's: all that lies behind them."""
    return {ABOVE: fingerprint.of_whole(model.network)} if settings.scorer == "spillover" else {}


def describe_data(rows: RowFile) -> dict[str, object]:
    """What decides a score on the side of the data."""
    return {
        "sha256": rows.fingerprint(),
        "layout": rows.layout.name,
        "columns": dict(rows.layout.columns),
    }


def versions() -> dict[str, str | None]:
    """Those of what makes the scores."""
    return library_versions(_VERSIONS)


def describe_scorer(settings: Settings) -> dict[str, str]:
    """What decides a score beside the features and the pack."""
    if settings.scorer == "nearest":
        return {"name": settings.scorer, "proximity": settings.proximity}
    return {"name": settings.scorer}


def describe_contrast(pack: FeaturePack) -> dict[str, float | None]:
    """What was usual in the contrast rows, so that a table can be judged without its pack."""
    figures = asdict(pack.contrast)
    return {name: _number_or_none(value) for name, value in figures.items()}


def describe_contrast_sets(pack: FeaturePack) -> list[dict[str, object]]:
    """The data that the pack was made from, so that its rows can be known again.

    The default sets are left out: they are parts of the rows of a data set on the hub.
    """
    sets = [pack.provenance.get(side) for side in ("toxic", "benign")]
    return [
        {"source": lasting(str(one.get("source"))), "sha256": one.get("sha256")}
        for one in sets
        if isinstance(one, dict) and "dataset" not in one
    ]


def _number_or_none(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def lasting(place: str | None) -> str | None:
    """A path as it can be found from another folder; names and hub ids stay as they are."""
    if place is None or place in loading.CATALOGUE:
        return place
    path = Path(place).expanduser()
    return os.path.abspath(path) if path.exists() else place


def open_scored(source: str | os.PathLike[str], table: ScoreTable) -> RowFile:
    """Open the data that `table` was made from, in the layout that it was read in.

    Raises `TableError` when `source` is other data or has changed since.
    """
    rows = open_alike(source, table)
    if rows.fingerprint() != _data_of(table)["sha256"]:
        origin = table.manifest.facts.get("source", "other data")
        raise TableError(
            f"{escape(str(table.path), limit=200)}: was made from other data "
            f"({escape(origin, limit=200)}) or {escape(str(source), limit=200)} has changed "
            "since; give the data it was made from, or score this data"
        )
    return rows


def open_alike(source: str | os.PathLike[str], table: ScoreTable) -> RowFile:
    """Open any data in the layout that the data of `table` was read in."""
    data = _data_of(table)
    renamed = {own: column for own, column in data["columns"].items() if own != column}
    layout = None if data["layout"] == "unknown" else data["layout"]
    return open_rows(source, layout=layout, columns=renamed)


def _data_of(table: ScoreTable) -> dict[str, Any]:
    """What `describe_data` said when `table` was made. Raises `TableError`: tables are foreign."""
    data: Any = table.manifest.decides.get("data")
    match data:
        case {"sha256": str(), "layout": str(), "columns": dict(columns)}:
            if all(isinstance(column, str) for column in columns.values()):
                return dict(data)
    raise _not_of_a_run(table)


def settings_of(table: ScoreTable) -> Settings:
    """The settings that made `table`, less the trust in code that comes with the model.

    Raises `TableError` when it does not say.
    """
    try:
        settings = settings_from(table.manifest.facts.get("settings"))
    except TypeError:
        raise _not_of_a_run(table) from None
    return replace(settings, trust_remote_code=False)


def settings_from(record: object) -> Settings:
    """The settings that a manifest records. Raises `TypeError` for what no run was made with."""
    if not isinstance(record, dict):
        raise TypeError("no settings")
    settings = Settings(**record)
    texts = (settings.model, settings.device)
    optional = (settings.sae, settings.pack, settings.dtype)
    least = ((settings.block, 0), (settings.max_length, 1))
    flags = (settings.last_turn, settings.trust_remote_code)
    if not (
        all(isinstance(text, str) for text in texts)
        and all(text is None or isinstance(text, str) for text in optional)
        and all(number is None or (type(number) is int and number >= n) for number, n in least)
        and all(isinstance(flag, bool) for flag in flags)
        and settings.scorer in SCORERS
        and settings.proximity in PROXIMITIES
    ):
        raise TypeError("no settings of a run")
    return settings


def unasked(settings: Settings) -> list[str]:
    """Which of model, SAE and pack would come from a hub repository that nobody here chose.

    It is in no catalogue, and nothing of it was fetched to this machine before. Raises
    `ModelError` for an SAE of a release that is none.
    """
    entry = loading.CATALOGUE.get(settings.model)
    model, sae, pack = settings.model, settings.sae or "", settings.pack or ""
    found = []
    if entry is None and _names_repository(model) and hub.main_commit(model) is None:
        found.append(model)
    listed = sae.startswith(AXES) or (entry is not None and sae in entry.sae.values())
    if not listed and _names_repository(sae) and saes.revision(sae) is None:
        found.append(sae)
    if pack.startswith(HUB) and hub.main_commit(pack[len(HUB) :].partition("@")[0]) is None:
        found.append(pack)
    return found


def _names_repository(place: str) -> bool:
    return "/" in place and not place.startswith((".", "/", "~")) and not os.path.isdir(place)


def prepare_again(
    rows: RowFile, table: ScoreTable, *, model: str | None = None, trust_remote_code: bool = False
) -> Run:
    """The run that made `table`, ready to look at single rows of it.

    `model` says where its model is now, by default where it was. Raises `TableError` naming
    the difference when the model, the pack or anything else but versions and precision is not
    what it was, and what `prepare` raises.
    """
    chosen = settings_of(table)
    chosen = replace(chosen, model=model or chosen.model)
    # Where and with what precision the model runs moves what is seen by rounding only.
    run = prepare(rows, replace(chosen, device="auto", trust_remote_code=trust_remote_code))
    changed = difference(_meaning(table.manifest), _meaning(run.manifest))
    if changed:
        raise TableError(
            f"{escape(str(table.path), limit=200)}: cannot be explained, for something has "
            f"changed since it was made ({'; '.join(changed)}); score the data again"
        )
    return run


def _meaning(manifest: Manifest) -> Manifest:
    rounding = {"dtype", "versions"}
    return Manifest({k: v for k, v in manifest.decides.items() if k not in rounding})


def _not_of_a_run(table: ScoreTable) -> TableError:
    return TableError(
        f"{escape(str(table.path), limit=200)}: does not say how it was made; score the data again"
    )
