"""Write a data set's kept and dropped rows to two files, as a selection says.

Before anything is written, every line of the table is held against its row: a row
without a line would be in neither file. This module knows nothing about how the
selection was made.
"""

import os
from collections.abc import Callable, Iterator
from itertools import zip_longest

from geofilter.data.formats.source import RowNote
from geofilter.data.rows import Row, RowFile
from geofilter.errors import TableError
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import Selection
from geofilter.support.display import escape


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
    beside it. Raises `TableError` where `table` is not of these rows, and `OutputError`;
    it then leaves nothing half-written behind.
    """
    check_match(rows, table)
    # The dropped rows first: a kept file without them would look like finished work.
    if dropped is not None:
        notes = notes_of(table, selection)
        rows.write(dropped, selection.drop.tolist(), notes=notes, overwrite=overwrite)
    rows.write(kept, selection.keep.tolist(), overwrite=overwrite)


def check_match(rows: RowFile, table: ScoreTable) -> None:
    """Raise `TableError` unless `table` has one line for each of the rows, in their order."""
    for _ in matched(rows, table):
        pass


def matched(rows: RowFile, table: ScoreTable) -> Iterator[Row]:
    """The rows in order, each after its hash was found in its line of `table`.

    Raises `TableError` at the first row or line without the other.
    """
    for place, (row, row_hash) in enumerate(zip_longest(rows, _hashes(table)), start=1):
        if row is None:
            raise _unlike(table, rows, f"it has more lines than the {place - 1} rows there")
        if row_hash is None:
            raise _unlike(table, rows, f"row {place} there has no line")
        if row.row_hash != row_hash:
            raise _unlike(table, rows, f"line {place} is of another row")
        yield row


def _unlike(table: ScoreTable, rows: RowFile, why: str) -> TableError:
    return TableError(
        f"{escape(str(table.path), limit=200)}: was made from other rows than those of "
        f"{escape(rows.source, limit=200)} ({why}); score the data again"
    )


def _hashes(table: ScoreTable) -> Iterator[str]:
    for batch in table.batches(["row_hash"]):
        yield from batch.column("row_hash").to_pylist()


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
