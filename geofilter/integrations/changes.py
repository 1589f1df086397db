"""Rows of a scored data set that `map` changes: a system turn, or two answers exchanged.

What comes back are the columns that change, whole, and a new one where rows need it. It then is
there in every batch, since `datasets` takes the columns of the first one for those of all.
"""

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from geofilter.data.layouts import LAYOUTS
from geofilter.data.layouts.cells import SYSTEMS
from geofilter.data.layouts.choose import Layouts
from geofilter.data.layouts.pairs import read_pair
from geofilter.data.problems import CannotChange
from geofilter.data.rows import Row
from geofilter.data.system_turn import with_system
from geofilter.data.two_answers import exchanged
from geofilter.errors import DataError
from geofilter.integrations.batches import Added, Columns, columns_from, plain_values
from geofilter.integrations.scored import REJECTED, SCORE, column
from geofilter.selection import choose
from geofilter.support.display import escape, quote

Change = Callable[[Mapping[str, object]], Mapping[str, object]]


def inoculated(
    layouts: Layouts,
    given: Columns,
    rows: Sequence[Row],
    batched: bool,
    *,
    threshold: float,
    text: str,
) -> dict[str, Any]:
    """What changes of `given`, whose `rows` were read, for those that score `threshold` or more."""
    chosen = choose.threshold(column(given, SCORE, batched), threshold)
    flagged = np.setdiff1d(chosen.drop, chosen.unscored).tolist()
    new = _column_for_system(layouts, list(given))
    return _changed(given, rows, batched, flagged, lambda r: with_system(layouts, r, text), new)


def switched(
    layouts: Layouts, given: Columns, rows: Sequence[Row], batched: bool, *, margin: float
) -> dict[str, Any]:
    """The same for rows whose chosen answer scores more than `margin` above the rejected one."""
    scores, rejected = (column(given, name, batched) for name in (SCORE, REJECTED))
    flagged = choose.margin(scores, rejected, margin).drop.tolist()

    def change(record: Mapping[str, object]) -> dict[str, object]:
        own = {SCORE: record[REJECTED], REJECTED: record[SCORE]}  # both are numbers
        return {**exchanged(layouts, record), **own}

    return _changed(given, rows, batched, flagged, change)


def of_two_answers(names: Iterable[str]) -> frozenset[str]:
    """The columns that may say something of one of two answers."""
    sides = (name for name in names if "chosen" in name or "rejected" in name)
    return frozenset((*sides, SCORE, REJECTED)).intersection(names)


def _column_for_system(layouts: Layouts, names: Collection[str]) -> str | None:
    """The column that a prompt and a response lack for a system turn; None where it is there."""
    for name, shape in LAYOUTS.items():
        columns = {role: layouts.columns.get(role, role) for role in shape.roles}
        if layouts.name not in (None, name) or shape.read is not read_pair:
            continue
        if all(columns[role] in names for role in shape.required):
            own = [columns[role] for role in shape.roles if role in SYSTEMS and columns[role]]
            return None if not own or not set(own).isdisjoint(names) else own[0]
    return None


def _changed(
    given: Columns,
    rows: Sequence[Row],
    batched: bool,
    flagged: Collection[int],
    change: Change,
    new: str | None = None,
) -> dict[str, Any]:
    """The columns that change, as `map` takes them, with the values of all `rows`.

    `flagged`: places in `rows` of those that change. `new`: a column of text that is added. Warns
    of rows that cannot be changed, which stay as they are. Raises `DataError` where a row needs
    another column than there are.
    """
    cells: dict[str, dict[int, object]] = {}
    for place in flagged:
        record = rows[place].record
        assert record is not None  # it has a score
        try:
            values = change(record)
        except CannotChange as error:
            warnings.warn(
                f"rows that cannot be changed stay as they are: {escape(error.reason, limit=None)}",
                stacklevel=4,
            )
            continue
        for name, value in values.items():
            cells.setdefault(name, {})[place] = value
    missing = next((name for name in cells if name not in given and name != new), None)
    if missing is not None:
        raise DataError(
            f"the rows need a column {quote(missing)}, and this data set has none; add one before, "
            f"with ds.add_column({missing!r}, [''] * len(ds))"
        )
    added = Added(batched=batched)
    if new is not None:
        texts = [cells.get(new, {}).get(place) for place in range(len(rows))]
        added = columns_from({new: (texts, pa.string())}, given, batched)
    for name in cells:
        if name in given:
            values_of = plain_values(given, name, batched)
            found = [cells[name].get(place, value) for place, value in enumerate(values_of)]
            added[name] = found if batched else found[0]
    return added
