"""A person's decisions on single rows: the list of `--action review` as it comes back.

One line for a row, in any format that rows are read from. `row` counts from 0. `decision` is
drop, keep, unsure or nothing; without that column each row that is listed is to go. `row_hash`,
where it is filled, says which row was looked at. Other columns are left alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from geofilter.data.formats import Data, open_source
from geofilter.data.layouts.cells import is_filled, listing
from geofilter.data.layouts.choose import Layouts
from geofilter.data.rows import RowFile
from geofilter.errors import DataError
from geofilter.selection.choose import Selection
from geofilter.support.display import quote, shown

DROP, KEEP, UNSURE = WORDS = ("drop", "keep", "unsure")
_ROW, _DECISION, _HASH = COLUMNS = ("row", "decision", "row_hash")
# Spreadsheets and data frames write whole numbers so, too.
_WHOLE = re.compile(r"(\d{1,18})(?:\.0+)?")


class Line(NamedTuple):
    """One line of the list: its place, its decision ("" for none), and the hash of its row."""

    where: str
    decision: str
    row_hash: str


@dataclass(frozen=True)
class Decisions:
    """The lines of a list by the rows that they are about. `name`: the list's, for messages."""

    name: str
    lines: Mapping[int, Line]

    @property
    def undecided(self) -> int:
        """How many rows the list leaves open."""
        return sum(line.decision not in (DROP, KEEP) for line in self.lines.values())

    def reason(self, row: int) -> str:
        """Why a row goes."""
        return f"{DROP}, by {self.lines[row].where}"

    def applied(self, rows: RowFile) -> Selection:
        """Exactly the rows that are to go, of the data that was looked at.

        Raises `DataError` for a line about a row that the data does not have, or another row.
        """
        count = 0
        for row in rows:
            count += 1
            line = self.lines.get(row.index)
            if line is not None and line.row_hash not in ("", row.row_hash):
                raise DataError(
                    f"{line.where}: row {row.index} of {shown(rows.source)} is another row than "
                    "the one that was reviewed; give the data that the list was made of"
                )
        beyond = next((row for row in self.lines if row >= count), None)
        if beyond is not None:
            there = f"has rows 0 to {count - 1}" if count else "has no rows"
            raise DataError(
                f"{self.lines[beyond].where}: there is no row {beyond}: {shown(rows.source)} "
                f"{there}, counted from 0; give the data that the list was made of, or mend the "
                "number"
            )
        gone = np.zeros(count, np.bool_)
        gone[[row for row, line in self.lines.items() if line.decision == DROP]] = True
        nothing = np.zeros(0, np.int64)
        return Selection(np.flatnonzero(~gone), np.flatnonzero(gone), nothing, None, 0)


def read_decisions(path: Data) -> Decisions:
    """Read a list of decisions.

    Raises `DataError` for one that cannot be read, names a row twice or has another word than
    `WORDS`, and for one that decides nothing.
    """
    opened = open_source(path, COLUMNS)
    listed = RowFile(opened.name, opened.source, Layouts())
    lines: dict[int, Line] = {}
    open_ones = stated = False
    for one in listed:
        if one.record is None:
            reason = one.problem.reason if one.problem else "no record"
            raise DataError(f"{one.where}: {reason}; repair the line, or delete it")
        if not any(map(is_filled, one.record.values())):
            continue  # what a spreadsheet leaves of a row that was emptied
        stated = stated or _DECISION in one.record
        row, line = _line(one.where, one.record)
        if row in lines:
            raise _twice(row, lines[row], line)
        open_ones = open_ones or not line.decision
        lines[row] = line
    if not stated:  # the list is one of rows to drop
        lines = {row: line._replace(decision=DROP) for row, line in lines.items()}
    elif open_ones and not any(line.decision for line in lines.values()):
        raise DataError(
            f"{shown(opened.name)}: no row has a decision; write {' or '.join(WORDS)} into the "
            f"column {_DECISION}, or take that column out to drop every row that is listed"
        )
    return Decisions(opened.name, lines)


def _line(where: str, record: Mapping[str, object]) -> tuple[int, Line]:
    if _ROW not in record:
        raise DataError(
            f"{where}: has no column {quote(_ROW)}, but {listing(record)}; name the numbers of the "
            "rows so, counted from 0"
        )
    row = _number(record[_ROW])
    if row is None:
        raise DataError(
            f"{where}: row is {quote(record[_ROW])}, which is no row; give its number, from 0"
        )
    decision = _text(record.get(_DECISION)).lower()
    if decision not in ("", *WORDS):
        raise DataError(
            f"{where}: the decision on row {row} is {quote(record[_DECISION])}; write "
            f"{', '.join(WORDS[:-1])} or {WORDS[-1]}"
        )
    return row, Line(where, decision, _text(record.get(_HASH)))


def _twice(row: int, first: Line, second: Line) -> DataError:
    if first.decision == second.decision:
        return DataError(
            f"{second.where}: row {row} is listed already, at {first.where}; delete one of the two"
        )
    said, before = (line.decision or "nothing" for line in (second, first))
    return DataError(
        f"{second.where}: says {said} of row {row}, and {first.where} says {before}; delete one of "
        "the two"
    )


def _number(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    found = None if isinstance(value, bool) else _WHOLE.fullmatch(str(value).strip())
    return None if found is None else int(found[1])


def _text(value: object) -> str:
    """A cell's text; of an empty one nothing, as readers of tables spell it."""
    return str(value).strip() if is_filled(value) else ""
