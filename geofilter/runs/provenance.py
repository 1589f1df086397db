"""What made a score table, as its manifest says it, and how a table's data is opened again."""

import math
import os
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geofilter.data.formats.places import is_local
from geofilter.data.layouts.choose import UNKNOWN
from geofilter.data.reading import Reading, reading_from
from geofilter.data.rows import Data, RowFile, open_rows
from geofilter.errors import GeofilterError, TableError
from geofilter.model.catalogue import CATALOGUE
from geofilter.runs.defaults import resolved, scorer_of
from geofilter.scoring.scorers.base import Scorer
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, library_versions
from geofilter.support.spool import STDIN_SHOWN

if TYPE_CHECKING:
    from geofilter.packs.pack import FeaturePack


def describe_data(rows: RowFile) -> dict[str, object]:
    """What decides a score on the side of the data."""
    return {
        "sha256": rows.fingerprint(),
        "layout": rows.layouts.name,
        "columns": dict(rows.layouts.columns),
    }


def describe_origin(rows: RowFile) -> dict[str, object]:
    """Where the data was when it was scored, which decides nothing."""
    files = [file if file == STDIN_SHOWN else os.path.abspath(file) for file in rows.files]
    several = {"files": files} if files[1:] else {}
    return {"source": rows.source, **several}


def versions(settings: Settings) -> dict[str, str | None]:
    """Those of what makes the scores that `settings` ask for."""
    return library_versions([*_VERSIONS, *(["bitsandbytes"] if settings.load_in else [])])


def stated_rounding(settings: Settings) -> dict[str, str]:
    """What the weights were rounded to when they were loaded, where they were."""
    return {} if settings.load_in is None else {"load_in": settings.load_in}


def describe_scorer(settings: Settings) -> dict[str, str]:
    """What decides a score besides the features and the pack."""
    scorer = scorer_of(settings)
    return {"name": scorer.name, **{name: getattr(settings, name) for name in scorer.settings}}


def describe_contrast(pack: "FeaturePack") -> dict[str, float | None]:
    """What was usual in the contrast rows, so that a table can be judged without its pack."""
    figures = asdict(pack.contrast)
    return {name: _number_or_none(value) for name, value in figures.items()}


def describe_contrast_sets(pack: "FeaturePack") -> list[dict[str, object]]:
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


def lasting(place: str | None, names: Collection[str] = CATALOGUE) -> str | None:
    """A path as it can be found from another folder; `names` and hub ids stay as they are."""
    if place is None or place in names:
        return place
    path = Path(place).expanduser()
    return os.path.abspath(path) if path.exists() or is_local(place) else place


def open_scored(source: Data, table: ScoreTable) -> RowFile:
    """Open the data that `table` was made from, in the layout that it was read in.

    Raises `TableError` when `source` is other data or has changed since.
    """
    rows = open_alike(source, table)
    if rows.fingerprint() != _data_of(table)["sha256"]:
        origin = table.manifest.facts.get("source", "other data")
        order = ", or its files came in another order" if rows.files[1:] else ""
        raise TableError(
            f"{escape(str(table.path), limit=200)}: was made from other data "
            f"({escape(origin, limit=200)}) or {escape(rows.source, limit=200)} has changed "
            f"since{order}; give the data it was made from, or score this data"
        )
    return rows


def open_alike(source: Data, table: ScoreTable) -> RowFile:
    """Open any data as the data of `table` was, by the layout and columns that were asked for."""
    data = _data_of(table)
    return open_rows(source, layout=data["layout"], columns=data["columns"])


def reading_of(table: ScoreTable, rows: RowFile) -> Reading:
    """What was read of `rows`, the data of `table`: as it says, or else read once more."""
    recorded = reading_from(table.manifest.facts.get("reading"))
    return rows.survey(check=False).reading if recorded is None else recorded


def _data_of(table: ScoreTable) -> dict[str, Any]:
    """What `describe_data` said when `table` was made. Raises `TableError`: tables are foreign."""
    data: Any = table.manifest.decides.get("data")
    match data:
        case {"sha256": str(sha256), "columns": dict(columns)}:
            layout = data.get("layout")
            named = all(isinstance(column, str) for column in columns.values())
            if named and isinstance(layout, str | None):
                # Older tables name the layout of the whole file, or say that there was none.
                layout = None if layout == UNKNOWN else layout
                return {"sha256": sha256, "layout": layout, "columns": columns}
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
    """The settings that a manifest records. Raises `TypeError` where no run was made with them."""
    if not isinstance(record, dict):
        raise TypeError("no settings")
    try:
        return resolved(Settings(**record))
    except GeofilterError as error:
        raise TypeError(str(error)) from error


def _not_of_a_run(table: ScoreTable) -> TableError:
    return TableError(
        f"{escape(str(table.path), limit=200)}: does not say how it was made; score the data again"
    )


def meaning(manifest: Manifest) -> Manifest:
    """What a score means: all that decides it but what moves it by rounding only."""
    rounding = {"dtype", "versions"}
    return Manifest({k: v for k, v in manifest.decides.items() if k not in rounding})


# In a manifest: the hash of what comes after the SAE's block, where it decides anything.
ABOVE = "model_above"
# How the model's own answers were generated, likewise.
ANSWERS = "answers"


def beyond_blocks(scorer: Scorer) -> set[str]:
    """What a manifest has to say of a scorer that needs more of the model than its lower blocks."""
    return ({ABOVE} if scorer.needs_whole else set()) | (
        {ANSWERS} if scorer.needs_answer else set()
    )


_VERSIONS = ("geofilter", "torch", "transformers", "tokenizers", "sae-lens")
