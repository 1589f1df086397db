"""A reference of clean rows for the data of a score table: their scores by the same scorer.

The reference is a score table, or data that is scored here as the table's data was and
kept in the cache, so that choosing again runs no model. Rows that would break the
exchangeability with the data's clean rows are left out, and counted: those that occur in
the data too, those that the pack was made from, and every repetition. Different rows are
what is drawn, so that copies, a sign that rows may have been drawn, are reported.
"""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from geofilter.data.formats.places import is_local
from geofilter.data.reading import reading_from
from geofilter.data.rows import RowFile, open_rows
from geofilter.errors import DataError, TableError
from geofilter.runs.provenance import describe_data, open_alike, settings_of, versions
from geofilter.scoring.table import ScoreTable, is_score_table
from geofilter.selection.fdr import different, require_reference
from geofilter.selection.reference_check import (
    MEASURES,
    CleanShare,
    Difference,
    clean_share,
    compare,
)
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, difference
from geofilter.support.progress import Progress, no_progress
from geofilter.support.spool import STDIN, is_pipe

UNSCORED = "have no score"
IN_DATA = "occur in the data too"
IN_PACK = "served to make the pack"
REPEATED = "repeat another row"
# A share of rows above which copies are reported.
_MATERIAL = 0.01
# Rows of a reference that show whether it has the columns of the data.
_FIRST = 100


@dataclass(frozen=True, eq=False)
class Reference:
    """Scores of clean rows, higher = nearer to harm, that a table's scores can be held against.

    `scores` (n,): each row once. `rows` counts all rows of the reference, and `left_out`
    those that are not in `scores`, by reason. `differences` compare its low-scoring rows
    with the data's; `clean` is what it implies of the data. `warnings`: what speaks against
    taking it, one line each.
    """

    scores: npt.NDArray[np.float32]
    source: str
    rows: int
    left_out: Mapping[str, int]
    differences: Sequence[Difference]
    clean: CleanShare
    warnings: Sequence[str]


def read_reference(
    source: str | os.PathLike[str],
    table: ScoreTable,
    *,
    q: float | None = None,
    progress: Progress = no_progress,
) -> Reference:
    """The reference at `source` for the data of `table`.

    `source`: a score table that was made as `table` was, or data, which is scored unless
    that was done before; `progress` then hears how far that is.
    With `q`, a reference too small for `conformal.fdr` at it is refused before that.

    Raises `TableError` naming the difference when the reference was scored otherwise,
    `DataError` when no row of it is left, and what `score` raises.
    """
    name = os.fspath(source)
    read_once = name == STDIN or is_pipe(name)  # so not to be looked into first
    is_table = not read_once and is_score_table(name)
    made = ScoreTable.read(name) if is_table else _scored(name, table, q, progress)
    warnings = _refuse_other_scores(name, made, table) + _other_layout(made, table)
    contrast, unread = _contrast_rows(table)
    if unread:
        places = ", ".join(escape(place, limit=200) for place in unread)
        warnings.append(
            f"the pack was made from {places}, gone or changed since, so that it is "
            "unknown whether rows of the reference served for it; such rows make the bound fail"
        )
    hashes = table.column("row_hash")
    usable, left_out = _usable(made, set(hashes), contrast)
    if not usable.any():
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        raise DataError(
            f"{escape(name, limit=200)}: no row of the reference is left "
            f"({reasons or 'it has none'}); give clean rows that are not in the data and can be "
            "scored, as `geofilter score` reports"
        )
    scored = ~np.ma.getmaskarray(table.scores)
    counted = different(hashes, scored)
    differences = compare(_columns(table, counted), _columns(made, usable))
    scores = made.scores[usable].compressed()
    clean = clean_share(table.scores[counted], scores)
    warnings += _of_copies(1 - counted.sum() / max(1, scored.sum()), made, left_out)
    warnings += [_doubt(one) for one in differences if one.doubtful]
    if clean.doubtful:
        warnings.append(
            f"if the reference is right, at most {clean.at_most:.0%} of the data's rows are clean; "
            "if you do not believe that, it is of another kind, and the bound fails"
        )
    return Reference(scores, name, len(made), left_out, differences, clean, warnings)


def _scored(name: str, table: ScoreTable, q: float | None, progress: Progress) -> ScoreTable:
    """The score table of a data file by the settings of `table`, from the cache or made."""
    # The model's libraries load only where a model runs.
    from geofilter.runs.score import score
    from geofilter.support.cache import cache_folder

    settings = settings_of(table)
    rows = _opened(name, table)
    total = sum(1 for _ in rows)
    if q is not None:
        require_reference(total, q)
    decides = table.manifest.decides
    expected = Manifest({**decides, "data": describe_data(rows), "versions": versions(settings)})
    place = cache_folder() / "references" / f"{expected.hash[:32]}.parquet"
    if place.exists():
        with suppress(TableError):
            made = ScoreTable.read(place)
            if made.manifest.hash == expected.hash:
                return made
        place.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    settings = replace(settings, device="auto", dtype=str(decides.get("dtype")))
    # Its rows without a score are left out, and counted.
    scored = score(rows, settings, place, on_error="keep", unread_limit=1.0, progress=progress)
    return scored.table


def _opened(name: str, table: ScoreTable) -> RowFile:
    """The data at `name`, in the layout of `table` where it has those columns, else in its own."""
    own = open_rows(name)
    try:
        alike = open_alike(name, table)
    except DataError:
        if _any_read(own):
            return own
        raise  # names the column that is missing
    return own if not _any_read(alike) and _any_read(own) else alike


def _any_read(rows: RowFile) -> bool:
    """Whether one of the first rows is understood."""
    records = (row.record for row in islice(rows, _FIRST) if row.record is not None)
    return any(rows.layouts.of(record).problem is None for record in records)


def _other_layout(made: ScoreTable, table: ScoreTable) -> list[str]:
    """A warning where the reference was read by other columns than the data."""
    ours, theirs = (_layout_in_words(one) for one in (table, made))
    if ours == theirs:
        return []
    return [
        f"the reference was read as {theirs}, the data as {ours}; if these do not make the same "
        "text of the same row, the bound fails"
    ]


def _layout_in_words(table: ScoreTable) -> str:
    """The layouts that were read, and the columns that are called otherwise in the file."""
    data = table.manifest.decides.get("data")
    if not isinstance(data, dict):
        return "unknown"
    columns = data.get("columns")
    renamed = columns.items() if isinstance(columns, dict) else ()
    spelled = [f"{role}={column}" for role, column in renamed if role != column]
    reading = reading_from(table.manifest.facts.get("reading"))
    names = [str(data.get("layout"))] if reading is None else sorted(reading.layouts)
    return escape(", ".join([*names, *spelled]), limit=200)


def _refuse_other_scores(name: str, made: ScoreTable, table: ScoreTable) -> list[str]:
    """Raise unless both score alike; other versions move a score by rounding, and only warn."""
    ours, theirs = (_how(one.manifest, {"data", "versions"}) for one in (table, made))
    if differing := difference(ours, theirs):
        raise TableError(
            f"{escape(name, limit=200)}: is scored otherwise than the data "
            f"({'; '.join(differing)}); score it as {escape(str(table.path), limit=200)} was made"
        )
    versions = [_only(one.manifest, "versions") for one in (table, made)]
    if differing := difference(*versions):
        return [
            f"data and reference were scored with other versions ({'; '.join(differing)}); "
            "score both again with one"
        ]
    return []


def _how(manifest: Manifest, without: set[str]) -> Manifest:
    return Manifest({k: v for k, v in manifest.decides.items() if k not in without})


def _only(manifest: Manifest, key: str) -> Manifest:
    return Manifest({key: manifest.decides.get(key)})


def _contrast_rows(table: ScoreTable) -> tuple[set[str], list[str]]:
    """Hashes of the rows that the table's pack was made from, and the files that are lost."""
    hashes: set[str] = set()
    lost = []
    sets = table.manifest.facts.get("contrast_sets")
    for one in sets if isinstance(sets, list) else []:
        if not isinstance(one, dict):
            continue
        place = str(one.get("source"))
        try:
            # Nothing is fetched, and no pipe is waited for, because a table says so.
            if not is_local(place):
                raise DataError(f"{place}: is gone")
            rows = open_rows(place)
            if rows.fingerprint() != one.get("sha256"):
                raise DataError(f"{place}: has changed")
            hashes.update(row.row_hash for row in rows)
        except DataError:
            lost.append(place)
    return hashes, lost


def _usable(
    made: ScoreTable, in_data: set[str], in_pack: set[str]
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Which lines of the reference count, and why the others do not."""
    left_out: Counter[str] = Counter()
    seen: set[str] = set()
    usable = np.zeros(len(made), dtype=bool)
    unscored = np.ma.getmaskarray(made.scores)
    for index, row_hash in enumerate(made.column("row_hash")):
        if unscored[index]:
            left_out[UNSCORED] += 1
        elif row_hash in in_data:
            left_out[IN_DATA] += 1
        elif row_hash in in_pack:
            left_out[IN_PACK] += 1
        elif row_hash in seen:
            left_out[REPEATED] += 1
        else:
            usable[index] = True
            seen.add(row_hash)
    return usable, dict(left_out)


def _of_copies(repeating: float, made: ScoreTable, left_out: Mapping[str, int]) -> list[str]:
    """What copies say against a reference; `repeating`: the share of the data's scored rows."""
    scored = int(made.scores.count())
    in_data, repeated = (left_out.get(reason, 0) / scored for reason in (IN_DATA, REPEATED))
    warnings = []
    if in_data > _MATERIAL:
        warnings.append(
            f"{in_data:.0%} of the reference's rows occur in the data too and were left out, so "
            "that it lacks the kinds of rows that have copies, and the bound may fail; deduplicate "
            "the data, draw the reference from it, and take that out"
        )
    if max(repeating, repeated) > _MATERIAL:
        warnings.append(
            f"{repeating:.0%} of the data's rows and {repeated:.0%} of the reference's repeat "
            "another row; the bound counts each different row once, and fails if the reference "
            "was drawn from the rows rather than from the different rows"
        )
    return warnings


def _columns(
    table: ScoreTable, taken: npt.NDArray[np.bool_]
) -> dict[str, np.ma.MaskedArray[Any, np.dtype[Any]]]:
    return {name: table.column(name)[taken] for name in MEASURES}


def _doubt(one: Difference) -> str:
    return (
        "the reference does not resemble the data: below its median score, where rows should be "
        f"clean and alike, at least {one.at_least:.0%} of the data's rows differ in "
        f"{MEASURES[one.measure]}; either it is of another kind, and the bound fails, or many "
        "harmful rows score low"
    )
