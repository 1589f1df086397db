"""Write the report of a score table and its data, in one call."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geofilter.data.outputs import check_outputs
from geofilter.data.rows import Data, RowFile
from geofilter.errors import GeofilterError, ModelError, TableError
from geofilter.report.contents import Contents, gather
from geofilter.report.page import render
from geofilter.runs.choice import Choice, choose
from geofilter.runs.provenance import open_scored, reading_of, settings_of
from geofilter.scoring.table import ScoreTable, is_score_table
from geofilter.support.atomic import writing
from geofilter.support.display import escape, shown
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.runs.prepare import Run

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Written:
    """A report that was written: what it says, its size in bytes, what people should know."""

    contents: Contents
    size: int
    notes: list[str]

    def as_record(self) -> dict[str, object]:
        """Its figures for programs."""
        choice = self.contents.choice
        return {
            "rows": len(self.contents.table),
            "scored": int(self.contents.columns.scored.sum()),
            "dropped": int(choice.dropped.sum()) if choice.made else None,
            "explained": len(self.contents.explained),
            "bytes": self.size,
            "reading": self.contents.reading.record(),
        }


def write_report(
    data: Data,
    scores: Place,
    output: Place,
    *,
    drop_fraction: float | None = None,
    threshold: float | None = None,
    fdr: float | None = None,
    reference: Place | None = None,
    by: Sequence[str] = (),
    baseline: Place | None = None,
    explain: int = 12,
    model: str | None = None,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = no_progress,
) -> Written:
    """Write one HTML file about `data` and its score table `scores` to `output`.

    `drop_fraction`, `threshold`, or `fdr` with `reference`: the choice that is shown, as in
    `filter_rows`; without one the tenth of the rows that is nearest to harm is set apart.
    A `reference` that is a score table is compared feature by feature, with `fdr` and without.
    `by`: columns of the rows whose drop rates are shown. `baseline`: a score table of the same
    data by another scorer. `explain`: of so many rows the tokens are marked, for which the
    model is loaded, and none for 0. `model` says where it is now: what the table names is not
    fetched unless `geofilter models` lists it. Where it cannot be loaded, the page says why.

    Raises `GeofilterError` for several choices, `TableError` where a table is not of `data`,
    `DataError` for a column that no row has, `OutputError` where `output` exists or cannot be
    written.
    """
    choice = Choice(drop_fraction, threshold, fdr, reference if fdr is not None else None)
    if choice.given > 1:
        raise GeofilterError("give one of --drop-fraction, --threshold and --fdr, or none")
    choice.check()
    check_outputs((output,), (data, scores, baseline, reference), overwrite=overwrite)
    table = ScoreTable.read(scores)
    other = ScoreTable.read(baseline) if baseline is not None else None
    alike = _reference(reference, needed=fdr is None) if reference is not None else None
    rows = open_scored(data, table)
    made = choose(table, choice, progress=progress) if choice.given else None
    chosen, bound = (made.selection, made.bound) if made else (None, None)
    notes = [*bound.notes] if bound else []
    run, why = None, "the model was not loaded"
    if explain:
        try:
            run = _load(rows, table, model, trust_remote_code)
        except GeofilterError as error:
            why = str(error)
            notes.append(f"no tokens are marked: {why}")
    contents = gather(
        rows,
        table,
        chosen=chosen,
        by=by,
        baseline=other,
        reference=alike,
        run=run,
        explain=explain,
        why_no_tokens=why,
        reading=reading_of(table, rows),
        promise=" ".join(bound.in_words().split()) if bound else None,
    )
    if contents.short:
        notes.append(contents.short)
    if contents.warning:
        notes.append(f"warning: {contents.warning}")
    return Written(contents, write(contents, output, overwrite=overwrite), notes)


def write(contents: Contents, path: Place, *, overwrite: bool = False) -> int:
    """Write the page to `path`, whole or not at all, and return its size in bytes.

    Raises `OutputError` when `path` exists, without `overwrite`, or cannot be written.
    """
    size = 0
    with writing(path, overwrite=overwrite) as handle:
        for piece in render(contents):
            size += handle.write(piece.encode("utf-8"))
    return size


def _reference(place: Place, *, needed: bool) -> ScoreTable | None:
    """The score table at `place`; None where it is data, which only a bound can use."""
    if is_score_table(place):
        return ScoreTable.read(place)
    if needed:
        raise TableError(
            f"{shown(place)}: is no score table, which --reference without --fdr takes to compare "
            "features; give one that `geofilter score` made, or --fdr too"
        )
    return None


def _load(rows: RowFile, table: ScoreTable, model: str | None, trust_remote_code: bool) -> "Run":
    """The run that made the table. Raises `GeofilterError` where it cannot be made again."""
    from geofilter.runs.prepare import prepare_again, unasked

    settings = settings_of(table)
    if model is None and (away := unasked(settings)):
        name = shlex.quote(escape(settings.model, limit=None))
        raise ModelError(
            f"{escape(', '.join(away), limit=200)} would be fetched because the table says so; "
            f"if you trust it, add --model {escape(name, limit=200)}"
        )
    return prepare_again(
        rows,
        table,
        purpose="marked token by token",
        model=model,
        trust_remote_code=trust_remote_code,
    )
