"""The columns of scores that a data set of `datasets` holds, and what is refused in their place."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from geofilter.data.in_memory import data_set_of, name_of
from geofilter.data.reading import NOT_UNDERSTOOD, UNREAD_LIMIT
from geofilter.errors import DataError
from geofilter.scoring.table import SCHEMA, Column
from geofilter.support.display import escape, quote

if TYPE_CHECKING:
    from datasets import Dataset

# The columns of the score table that are added, with their types there.
FIELDS = (
    "score",
    "rejected_score",
    "status",
    "reason",
    "n_tokens",
    "nearest_feature",
    "nearest_similarity",
)
COLUMNS: Mapping[str, pa.DataType] = {f"geofilter_{f}": SCHEMA.field(f).type for f in FIELDS}
SCORE, REJECTED = "geofilter_score", "geofilter_rejected_score"
STATUS, REASON = "geofilter_status", "geofilter_reason"
# Of fewer rows a share says little.
FEWEST_ROWS = 20


def column(rows: Mapping[str, Any], name: str, batched: bool) -> Column:
    """A column of scores of a batch, or that of a row, as a column of one."""
    if name not in rows:
        raise not_scored(list(rows), name)
    return masked(rows[name] if batched else [rows[name]])


def by_column(rows: object) -> bool:
    """Whether these are values by column; the splits of a `DatasetDict` are by name too."""
    return isinstance(rows, Mapping) and data_set_of(rows) != "rows"


def no_columns(rows: object, call: str) -> DataError:
    name, made = name_of(rows), data_set_of(rows)
    if made == "rows":
        return DataError(f"the rows are {name}, which calls the function itself: ds.{call}")
    if made is None or isinstance(rows, Mapping):
        remedy = "leave input_columns out, and with_rank"
    elif isinstance(rows, list | tuple):
        remedy = f"leave input_columns out, or make a data set of a list of rows: {made}.{call}"
    else:
        remedy = (
            "take a data set's format off with ds.with_format(None), or make a data set of "
            f"them: {made}.{call}"
        )
    return DataError(f"the rows came as {name}, not as columns by name; {remedy}")


def not_scored(names: Sequence[str], wanted: str = SCORE) -> DataError:
    return DataError(
        f"no column {wanted!r} among {', '.join(map(quote, names[:12])) or 'no columns'}; "
        "score the data set first, with ds.map(screen, batched=True)"
    )


def warn_of_unread(scored: "Dataset") -> None:
    """Such rows have no score, so that nothing that is chosen by scores drops them."""
    names = [name for name in (STATUS, REASON) if name in scored.column_names]
    if STATUS not in names:
        return
    columns = scored.select_columns(names).with_format("arrow")[:]
    statuses = columns[STATUS].to_pylist()
    unread = [row for row, status in enumerate(statuses) if status in NOT_UNDERSTOOD]
    if len(statuses) < FEWEST_ROWS or len(unread) <= UNREAD_LIMIT * len(statuses):
        return
    first = unread[0]
    why = f": {escape(columns[REASON][first].as_py(), limit=None)}" if REASON in names else ""
    warnings.warn(
        f"{len(unread):,} of {len(statuses):,} rows ({len(unread) / len(statuses):.1%}) could not "
        "be read and have no score, so that no choice by score drops them. The first: row "
        f"{first + 1}{why}",
        stacklevel=3,
    )


def masked(values: Any) -> Column:
    """Scores as the score table holds them; formats spell None as NaN."""
    numbers = np.array([math.nan if value is None else value for value in values], np.float32)
    return np.ma.MaskedArray(numbers, mask=np.isnan(numbers))
