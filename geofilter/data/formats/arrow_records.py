"""Rows of Arrow batches as Python objects, one by one where a value cannot be read, and back."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from geofilter.data.containers import without_nulls
from geofilter.data.formats.source import RawRow
from geofilter.data.formats.strict_json import parse_json
from geofilter.errors import DataError
from geofilter.support.display import escape, quote

# What Arrow raises for a value that Python cannot hold: text that is not UTF-8, a date out
# of range, an unknown time zone, a struct with a name twice.
NO_VALUE = (ArithmeticError, LookupError, ValueError, pa.ArrowException)


def no_value(error: Exception, field: pa.Field) -> str:
    """Why a value of a column cannot be read, from what Arrow raised for it."""
    if isinstance(error, KeyError) and "duplicate key" in str(error):
        return f"column {quote(field.name)} holds a map with a key twice"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte 0x{error.object[error.start]:02x}"
    return f"column {quote(field.name)} holds no {escape(str(field.type))} that can be read"


def cells_of(values: list[Any], field: pa.Field) -> pa.Array:
    """Values, as `record_rows` gives them, as an array of the field's type.

    Raises `DataError` where the type cannot hold all of a value.
    """
    encode, decode = _json_encoder(field.type), _json_decoder(field.type)
    try:
        made = pa.array(
            [encode(value) for value in values] if encode else values, _kept(field.type)
        )
        made = made.cast(field.type)
        read = _values(made)
    except NO_VALUE as error:
        raise _no_room(field) from error
    read = [decode(value) for value in read] if decode else read
    # Arrow leaves out what a struct has no field for, without a word.
    for given, held in zip(values, read, strict=True):
        if without_nulls(given, field.name) != without_nulls(held, field.name):
            raise _no_room(field)
    return made


def _no_room(field: pa.Field) -> DataError:
    return DataError(
        f"column {quote(field.name)} is {escape(str(field.type), limit=100)}, which cannot hold "
        "the changed rows; write the rows as JSON lines"
    )


def record_rows(batch: Any) -> Iterator[RawRow]:
    """The rows of a batch or table; one with a value that cannot be read has a fault."""
    return json_read(_plain_rows(batch), batch.schema)


def json_read(rows: Iterable[RawRow], schema: pa.Schema) -> Iterator[RawRow]:
    """The rows with the JSON text read that the schema says is in them."""
    decode = _json_decoder(pa.struct(schema))
    for row in rows:
        if decode is not None and row.record is not None:
            try:
                row.record = decode(row.record)
            except ValueError as error:
                row = RawRow(None, str(error))
        yield row


def _json_decoder(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What reads the JSON text within values of a type; None where the type has no JSON text.

    `datasets` keeps objects so whose values differ in type from row to row.
    """
    return _at_json(kind, _parsed)


def _json_encoder(kind: pa.DataType) -> Callable[[Any], Any] | None:
    """What makes JSON text within values of a type again: the inverse of `_json_decoder`."""
    return _at_json(kind, _spelled)


def _at_json(kind: pa.DataType, change: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    """What changes the JSON within values of a type; None where the type holds none."""
    if isinstance(kind, pa.JsonType):
        return change
    if pa.types.is_map(kind):
        value_of = _at_json(kind.item_type, change)
        return value_of and (lambda value: value and {k: value_of(v) for k, v in value.items()})
    if hasattr(kind, "value_field"):  # lists of any kind, and views of them
        item = _at_json(kind.value_type, change)
        return item and (lambda values: None if values is None else [*map(item, values)])
    if pa.types.is_struct(kind):
        found = {field.name: _at_json(field.type, change) for field in kind}
        inner = {name: part for name, part in found.items() if part}
        return (lambda value: _within(value, inner)) if inner else None
    return None


def _kept(kind: pa.DataType) -> pa.DataType:
    """The type as it is kept: with text where it has JSON text, which Arrow makes no array of."""
    if isinstance(kind, pa.JsonType):
        return kind.storage_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_kept(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_kept(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_kept(kind.value_type)))
    return kind


def _parsed(text: str | None) -> Any:
    value, fault = (None, None) if text is None else parse_json(text.encode())
    if fault is not None:
        raise ValueError(fault)
    return value


def _spelled(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _within(record: dict[str, Any] | None, parts: dict[str, Callable[[Any], Any]]) -> Any:
    return record and record | {
        name: change(record[name]) for name, change in parts.items() if name in record
    }


def _values(data: Any) -> list[Any]:
    """The values of a batch or column; maps become dictionaries, or a `KeyError` for a key twice.

    Spark writes maps where other writers have objects.
    """
    values: list[Any] = data.to_pylist(maps_as_pydicts="strict")
    return values


def _plain_rows(batch: Any) -> Iterator[RawRow]:
    try:
        records = _values(batch)
    except NO_VALUE:
        yield from (_single_row(batch.slice(place, 1)) for place in range(batch.num_rows))
    else:
        yield from map(RawRow, records)


def _single_row(batch: Any) -> RawRow:
    """The row of a batch of one, read column by column to name the one that cannot be."""
    record = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        try:
            (record[field.name],) = _values(column)
        except NO_VALUE as error:
            return RawRow(None, no_value(error, field))
    return RawRow(record)
