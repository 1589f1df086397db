"""Write a data set's kept and dropped rows to two files, as a selection says.

This module knows nothing about how the selection was made.
"""

import os
from collections.abc import Callable

from geofilter.formats.raw import RowNote
from geofilter.rows import RowFile
from geofilter.selection import Selection
from geofilter.table import ScoreTable


def write_split(
    rows: RowFile,
    table: ScoreTable,
    selection: Selection,
    kept: str | os.PathLike[str],
    dropped: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write the rows that `selection` keeps to `kept`, the others to `dropped` if given.

    Kept rows keep their bytes; each dropped row has its score, rank, status and reason
    beside it. Raises `OutputError`, and then leaves nothing half-written behind.
    """
    # The dropped rows first: a kept file without them would look like finished work.
    if dropped is not None:
        notes = notes_of(table, selection)
        rows.write(dropped, selection.drop.tolist(), notes=notes, overwrite=overwrite)
    rows.write(kept, selection.keep.tolist(), overwrite=overwrite)


def notes_of(table: ScoreTable, selection: Selection) -> Callable[[int], RowNote]:
    """What is written beside a dropped row; to be asked in the order of the rows."""
    lines = iter(table)

    def note_of(index: int) -> RowNote:
        line = next(line for line in lines if line.row == index)
        if line.score is None:
            reason = f"unscored: {line.reason}"
        else:
            reason = f"rank {line.rank} of {selection.n_scored}, 1 = nearest to harm"
        return RowNote(line.score, line.rank, line.status, reason)

    return note_of
