"""Rows as `datasets` hands them to a function, and columns as it takes them back.

A function gets one row as a mapping of values, or a batch as a mapping of columns. Its
columns are read from a copy, so that `datasets` passes on the Arrow data of the original as
it is. What comes back states its Arrow type, since `datasets` else takes it from the first
values that it writes, which may all be null.
"""

import copy
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Never

import numpy as np
import pyarrow as pa
from datasets.formatting.formatting import LazyBatch, LazyRow

from geofilter.data.formats.arrow_records import NO_VALUE, no_value
from geofilter.data.formats.strict_json import MAX_DEPTH
from geofilter.data.problems import Problem
from geofilter.data.rows import Row
from geofilter.errors import DataError

Columns = Mapping[str, Any]
_LISTS = (list, tuple, np.ndarray)


class TypedList(list[Any]):
    """A list that Arrow reads as an array of the type `type`, even where it holds only None."""

    def __init__(self, values: Sequence[Any], type: pa.DataType) -> None:
        super().__init__(values)
        self.type = type

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return pa.array(list(self), type or self.type)


# The functions of `datasets` that take what a function gives for an answer of `filter`.
_OF_FILTER = ("get_indices_from_mask_function", "add_mask")


def refuse_filter(depth: int = 2) -> None:
    """Raise `DataError` where `filter` called what calls this, `depth` calls up.

    Nothing that `filter` hands over says so, and it would take seven columns for seven answers.
    What calls from a function in between is caught by its answer; see `Added`.
    """
    caller = sys._getframe(depth)
    module = str(caller.f_globals.get("__name__"))
    if caller.f_code.co_name in _OF_FILTER and module.startswith("datasets."):
        _refuse_as_answer()


def _refuse_as_answer() -> Never:
    raise DataError(
        "a GeoFilter gives columns, which say nothing of which rows to keep; map first, then "
        "filter with screen.keep: ds.map(screen, batched=True).filter(screen.keep)"
    )


class _Name(str):
    """The name of a column, and never the answer to whether a row is kept."""

    def __bool__(self) -> bool:
        _refuse_as_answer()


class Added(dict[str, Any]):
    """Columns that are added: a dictionary that cannot pass for answers of a filter.

    `datasets` takes any value for one, and keeps a row by its truth. The columns of a row
    have none, and of a batch no name has: streams ask for the truth of a batch's columns when
    they map.
    """

    def __init__(self, columns: Mapping[str, Any] | None = None, *, batched: bool = False) -> None:
        super().__init__(columns or {})
        self.batched = batched

    def __bool__(self) -> bool:
        if not self.batched:
            _refuse_as_answer()
        return True

    def __iter__(self) -> Iterator[str]:
        return map(_Name, super().__iter__())

    def __missing__(self, name: object) -> Never:
        if isinstance(name, int):  # of an answer in a list of them
            _refuse_as_answer()
        raise KeyError(name)


def is_batch(
    given: Columns,
    read: Collection[str],
    *,
    talk: Collection[str] = (),
    indices: object = None,
) -> bool:
    """Whether these are the columns of a batch; else they are the values of one row.

    `datasets` says so by the type, and by `indices` where it gives them: a number for a row.
    Of a plain dictionary alone the values decide. The columns of a batch are lists of one
    length, and not empty. A column in `talk`, which hold conversations only, is one row's where
    it holds anything, and no list. Where there is none, a column in `read` is one row's
    conversation where it holds objects alone, messages. What cannot be distinguished is a batch
    in which no row has a list there, and a row that has a list of conversations.
    """
    if isinstance(given, LazyBatch | LazyRow):
        return isinstance(given, LazyBatch)
    if indices is not None:
        return not isinstance(indices, int)
    lengths = {_length(values) for values in given.values()}
    if len(lengths) != 1 or not lengths.isdisjoint({None, 0}):
        return False
    talks = [given[name] for name in talk if name in given]
    held = [values for values in talks if any(value is not None for value in values)]
    if held:
        return all(any(isinstance(value, _LISTS) for value in values) for values in held)
    others = (given[name] for name in read if name in given and name not in talk)
    return not any(all(isinstance(value, Mapping) for value in values) for values in others)


def rows_of(
    given: Columns, read: Collection[str], batched: bool, indices: object = None
) -> list[Row]:
    """The rows, with the values of the columns in `read`; those of all others are None.

    A row whose text is not UTF-8, or whose values are nested too deep, has a problem. Its place
    is that in the data set where `indices` say it.
    """
    columns = {name: _values(given, name, batched) for name in read if name in given}
    count = _count(given) if batched else 1
    names = dict.fromkeys(given)
    if isinstance(indices, list) and len(indices) == count:
        places = [f"row {index + 1}" for index in indices]
    elif batched:
        places = [f"row {place + 1} of the batch" for place in range(count)]
    else:
        places = [f"row {indices + 1}" if isinstance(indices, int) else "this row"]
    return [
        _row(place, where, names | {name: values[place] for name, values in columns.items()})
        for place, where in enumerate(places)
    ]


def check_batch(given: Columns, added: Mapping[str, pa.DataType]) -> None:
    """Raise `DataError` where a column of the batch would force its type on one to be `added`.

    `datasets` casts a new column to the type of the one that it replaces, if Arrow can.
    """
    for name, kind in added.items():
        if name in given and _forces(given, name, kind):
            raise DataError(
                f"the column {name!r} is there already and would turn {kind} into its own type; "
                f"remove it first, with ds.remove_columns({name!r})"
            )


def check_row(given: Columns, read: Collection[str]) -> None:
    """Raise `DataError` for a row whose format takes the types off what is added to it.

    Of the formats numpy alone shows in the text that is `read`.
    """
    if any(isinstance(given.get(name), np.ndarray | np.generic) for name in read):
        raise DataError(
            "the rows come one by one and as numpy, so that new columns cannot state their "
            "types; use ds.map(screen, batched=True), or take the format off with "
            "ds.with_format(None)"
        )


def columns_from(
    columns: Mapping[str, tuple[Sequence[Any], pa.DataType]], given: Columns, batched: bool
) -> Added:
    """The columns (values, type) as `datasets` takes them for what it had `given`."""
    if batched:
        lists = {name: TypedList(values, kind) for name, (values, kind) in columns.items()}
        return Added(lists, batched=True)
    if isinstance(given, LazyRow):
        # The one spelling in which the value of a row can state its type.
        return Added({name: pa.array(values, kind) for name, (values, kind) in columns.items()})
    return Added({name: values[0] for name, (values, _) in columns.items()})


def plain_values(given: Columns, name: str, batched: bool) -> list[Any]:
    """A column, or the value of a row as a column of one, without arrays, to be written again.

    Where a format gives numbers in an array, which has NaN for null, NaN is null again.
    """
    values = [_plain(value, 1) for value in _values(given, name, batched)]
    in_array = hasattr(given[name], "tolist") and not isinstance(given, LazyBatch | LazyRow)
    return [None if in_array and value != value else value for value in values]


_WIDER = {pa.float32(): pa.float64(), pa.string(): pa.large_string(), pa.int32(): pa.int64()}


def _forces(given: Columns, name: str, kind: pa.DataType) -> bool:
    if isinstance(given, LazyBatch):
        return given.pa_table.schema.field(name).type not in (kind, _WIDER[kind], pa.null())
    # A column of numbers in another format; lists come from streams, which cast nothing.
    found = str(getattr(given[name], "dtype", ""))
    return "bool" in found or ("int" in found and not pa.types.is_integer(kind))


def _length(values: Any) -> int | None:
    if isinstance(values, str | bytes | Mapping):
        return None
    try:
        return len(values)
    except TypeError:
        return None


def _count(given: Columns) -> int:
    if isinstance(given, LazyBatch):
        return int(given.pa_table.num_rows)
    return next((len(values) for values in given.values()), 0)


def _values(given: Columns, name: str, batched: bool) -> Sequence[Any]:
    """A column, or the value of a row as a column of one."""
    if not isinstance(given, LazyBatch | LazyRow):
        return given[name] if batched else [given[name]]
    try:
        found = copy.copy(given)[name]
        return found if batched else [found]
    except NO_VALUE:
        return list(_one_by_one(given, name))


def _one_by_one(given: LazyBatch | LazyRow, name: str) -> Iterator[Any]:
    for place in range(given.pa_table.num_rows):
        try:
            yield LazyRow(given.pa_table.slice(place, 1), given.formatter)[name]
        except NO_VALUE as error:
            yield Problem("unreadable", no_value(error, given.pa_table.schema.field(name)))


class _TooDeep(Exception):
    pass


def _row(place: int, where: str, record: dict[str, Any]) -> Row:
    problem = next((value for value in record.values() if isinstance(value, Problem)), None)
    plain: dict[str, object] | None = None
    if problem is None:
        try:
            plain = {name: _plain(value, 1) for name, value in record.items()}
        except _TooDeep:
            problem = Problem("unreadable", f"nested deeper than {MAX_DEPTH} levels")
    # The hash of a row is not needed here, and hashing takes time.
    return Row(place, where, None, plain, problem, _digest="")


def _plain(value: Any, depth: int) -> Any:
    """The value without arrays: as JSON would hold it. Data sets in other formats have some."""
    if depth > MAX_DEPTH:
        raise _TooDeep
    if hasattr(value, "tolist"):  # of numpy or torch
        value = value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner, depth + 1) for inner in value]
    return value
