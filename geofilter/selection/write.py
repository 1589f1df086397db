"""Write a data set's rows as a selection says: split into two files, or all, some of them changed.

Before anything is written, every line of the table is compared with its row: a row
without a line would be in neither file.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from typing import NamedTuple

from geofilter.data.formats.source import Changes, LossNote, RowNote
from geofilter.data.problems import CannotChange
from geofilter.data.rows import Row, RowFile
from geofilter.errors import DataError, TableError
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import Selection
from geofilter.selection.loss_note import RowLoss
from geofilter.support.display import escape, quote

# The status of a row that is dropped without a score table.
NOT_SCORED = "not_scored"


def write_split(
    rows: RowFile,
    table: ScoreTable | None,
    selection: Selection,
    kept: str | os.PathLike[str],
    dropped: str | os.PathLike[str] | None = None,
    *,
    reason: Callable[[int], str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write the rows that `selection` keeps to `kept`, the others to `dropped` if given.

    Kept rows keep their bytes; each dropped row is noted with its score, rank, status and
    reason, which `reason` may give. Without a `table` it has no score. Raises `TableError` where
    `table` is not of these rows, and `OutputError`; then nothing is left half-written.
    """
    if table is not None:
        check_match(rows, table)
    # The dropped rows first: a kept file without them would look like finished work.
    if dropped is not None:
        notes = notes_of(table, selection, reason)
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
    for (row_hash,) in table.records(["row_hash"]):
        yield row_hash


def notes_of(
    table: ScoreTable | None,
    selection: Selection,
    reason: Callable[[int], str | None] | None = None,
) -> Callable[[int], RowNote]:
    """The note of each dropped row; to be called in the order of the rows.

    `reason` gives the reason, where it is another than the row's rank, else None.
    """
    columns = ["score", "rank", "status", "reason", "rejected_score"]
    numbered = None if table is None else enumerate(table.records(columns))

    def note_of(index: int) -> RowNote:
        if numbered is None:
            return RowNote(None, None, NOT_SCORED, reason(index) if reason else None)
        score, rank, status, why, other = next(line for row, line in numbered if row == index)
        if score is None:
            why = f"unscored: {why}"
        else:
            why = f"rank {rank} of {selection.n_scored}, 1 = nearest to harm"
            if other is not None:
                why += f"; it scores {score:.4g}, the rejected answer {other:.4g}"
        return RowNote(score, rank, status, (reason and reason(index)) or why)

    return note_of


def write_losses(
    rows: RowFile,
    table: ScoreTable,
    path: str | os.PathLike[str],
    losses: Iterator[RowLoss],
    *,
    overwrite: bool = False,
) -> None:
    """Write all rows to `path`, each with its loss in `losses`, its score and its rank.

    `table` is known to match. Raises `OutputError`.
    """
    lines = zip(table.records(["score", "rank"]), losses, strict=False)

    def note_of(_index: int) -> LossNote:
        (score, rank), loss = next(lines)
        return loss.note(score, rank)

    rows.write(path, range(len(table)), notes=note_of, kind=LossNote, overwrite=overwrite)


class Changed(NamedTuple):
    """What became of the rows that were to change.

    `rows` of them were changed, in the columns `columns`; `already` are as they were to be.
    `left` could not be changed and stay as they are, the first of them for the reason `why`.
    """

    rows: int
    columns: tuple[str, ...]
    already: int
    left: int
    why: str | None

    @property
    def where(self) -> str:
        """The columns, to follow what was done to the rows."""
        return f" ({', '.join(map(quote, self.columns))})" if self.columns else ""


def write_changed(
    rows: RowFile,
    table: ScoreTable,
    selection: Selection,
    path: str | os.PathLike[str],
    change: Callable[[Mapping[str, object]], dict[str, object]],
    *,
    overwrite: bool = False,
) -> Changed:
    """Write all rows to `path`, those that `selection` would drop with the values of `change`.

    `change` gives for a record the columns that change, the same ones when it is asked again, or
    raises `CannotChange`. The other rows keep their bytes. Raises `DataError` where none of the
    rows can be changed, `TableError` where `table` is not of these rows, and `OutputError`.
    """
    wanted = set(selection.drop.tolist())
    places: set[int] = set()
    columns: dict[str, None] = {}
    new: dict[str, object] = {}
    left: list[str] = []
    for row in matched(rows, table):
        if row.index not in wanted:
            continue
        assert row.record is not None  # it has a score
        try:
            values = change(row.record)
        except CannotChange as error:
            left.append(f"{row.where}: {error.reason}")
            continue
        if values:
            places.add(row.index)
            columns |= dict.fromkeys(values)
            new |= {name: value for name, value in values.items() if row.record.get(name) is None}
    if left and len(left) == len(wanted):
        raise DataError(
            f"{left[0]}; none of the {len(wanted):,} rows chosen can be changed, so take another "
            "action, such as --action drop"
        )
    changes = Changes(places, change, new)
    rows.write(path, range(selection.n_rows), changes=changes, overwrite=overwrite)
    already = len(wanted) - len(places) - len(left)
    return Changed(len(places), tuple(columns), already, len(left), next(iter(left), None))
