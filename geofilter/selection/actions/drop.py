"""Drop rows, those chosen or those on a list: the others go to one file, they may to another."""

import os

from geofilter.data.formats.standard_output import output_in_words
from geofilter.data.rows import RowFile
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions.base import Action, Done, Job
from geofilter.selection.choose import Selection
from geofilter.selection.decisions import Decisions
from geofilter.selection.write import write_split
from geofilter.support.display import escape


def _drop(job: Job) -> Done:
    chosen = job.selection
    write_split(job.rows, job.table, chosen, job.output, job.second, overwrite=job.overwrite)
    kept, dropped = os.fspath(job.output), job.second and os.fspath(job.second)
    n_without = len(set(chosen.drop.tolist()).intersection(chosen.unscored.tolist()))
    n_unscored_kept = len(chosen.unscored) - n_without
    without = f", {n_without:,} without a score" if n_without else ""
    place = f" → {escape(dropped, None)}" if dropped else ""
    lines = [
        f"{len(chosen.keep):,} of {chosen.n_rows:,} rows kept → {output_in_words(kept)}",
        f"{len(chosen.drop):,} rows dropped{without}{place}",
    ]
    if chosen.threshold is not None:
        lines.append(f"Scores from {chosen.threshold:.6g} up were dropped.")
    notes = []
    if n_unscored_kept:
        notes.append(
            f"{n_unscored_kept:,} of the kept rows have no score; --unscored drop leaves them out"
        )
    if chosen.n_tied_kept:
        notes.append(
            f"{chosen.n_tied_kept:,} kept rows have the same score as a dropped one; "
            "only their place in the file decided"
        )
    figures: dict[str, object] = {
        "rows": chosen.n_rows,
        "kept": len(chosen.keep),
        "dropped": len(chosen.drop),
        "unscored": len(chosen.unscored),
        "unscored_kept": n_unscored_kept,
        "unscored_dropped": n_without,
        "scored_dropped": len(chosen.drop) - n_without,
        "threshold": chosen.threshold,
        "tied_kept": chosen.n_tied_kept,
        "kept_file": kept,
        "dropped_file": dropped,
    }
    return Done(figures, lines, notes)


def drop_listed(
    rows: RowFile,
    table: ScoreTable | None,
    decisions: Decisions,
    kept: str | os.PathLike[str],
    dropped: str | os.PathLike[str] | None,
    *,
    overwrite: bool,
) -> tuple[Selection, Done]:
    """Drop exactly the rows that a list says are to go. Raises what `applied` and writing raise.

    With a `table` dropped rows are noted with their scores.
    """
    chosen = decisions.applied(rows)
    reason = decisions.reason
    write_split(rows, table, chosen, kept, dropped, reason=reason, overwrite=overwrite)
    place = f" → {escape(os.fspath(dropped), None)}" if dropped else ""
    lines = [
        f"{len(chosen.keep):,} of {chosen.n_rows:,} rows kept → {output_in_words(kept)}",
        f"{len(chosen.drop):,} rows dropped, as {escape(decisions.name, None)} says{place}",
    ]
    undecided = decisions.undecided
    is_one = undecided == 1
    open_ones = f"{undecided:,} {'row is' if is_one else 'rows are'} unsure or undecided, and kept"
    notes = [open_ones] if undecided else []
    figures: dict[str, object] = {
        "rows": chosen.n_rows,
        "kept": len(chosen.keep),
        "dropped": len(chosen.drop),
        "listed": len(decisions.lines),
        "undecided": undecided,
        "kept_file": os.fspath(kept),
        "dropped_file": dropped and os.fspath(dropped),
    }
    return chosen, Done(figures, lines, notes)


DROP = Action(about="they go", act=_drop, drops=True)
