"""What is done with rows that are kept in Arrow columns: notes are added, cells replaced."""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from geofilter.data.formats.arrow_records import cells_of, record_rows
from geofilter.data.formats.source import NOTE_COLUMNS, Changes, Edits, Notes

NOTE_TYPES = {
    name: {"geofilter_score": pa.float64(), "geofilter_weight": pa.float64()}.get(name, pa.string())
    for name in NOTE_COLUMNS
} | {"geofilter_rank": pa.int64()}


def edited_schema(schema: pa.Schema, edits: Edits | None) -> pa.Schema:
    """The columns as they are written: notes at the end, older ones replaced, and new columns."""
    if isinstance(edits, Notes):
        # By place: a name may occur twice.
        for place in reversed([i for i, name in enumerate(schema.names) if name in NOTE_COLUMNS]):
            schema = schema.remove(place)
        for name in edits.columns:
            schema = schema.append(pa.field(name, NOTE_TYPES[name]))
    elif edits is not None:
        for name, value in edits.new.items():
            place, field = schema.get_field_index(name), pa.field(name, pa.array([value]).type)
            if place < 0:
                schema = schema.append(field)
            elif pa.types.is_null(schema.field(place).type):
                schema = schema.set(place, field)
    return schema


def edited(table: pa.Table, indices: Sequence[int], edits: Edits | None) -> pa.Table:
    """The table as it is written; `indices` are those of its rows in the data set."""
    if isinstance(edits, Notes):
        return _with_notes(table, indices, edits)
    return table if edits is None else _changed(table, indices, edits)


def _with_notes(table: pa.Table, indices: Iterable[int], notes: Notes) -> pa.Table:
    found = [notes.of(index) for index in indices]
    table = table.select(
        [place for place, name in enumerate(table.column_names) if name not in NOTE_COLUMNS]
    )
    for name, field in zip(notes.columns, notes.kind._fields, strict=True):
        values = pa.array([getattr(note, field) for note in found], NOTE_TYPES[name])
        table = table.append_column(name, values)
    return table


def _changed(table: pa.Table, indices: Sequence[int], changes: Changes) -> pa.Table:
    cells: dict[str, dict[int, object]] = {}
    for place, index in enumerate(indices):
        if index in changes.rows:
            (row,) = record_rows(table.slice(place, 1))
            assert row.record is not None  # it was looked at before
            for name, value in changes.of(row.record).items():
                cells.setdefault(name, {})[place] = value
    for place, field in enumerate(edited_schema(table.schema, changes)):
        column = table.column(place) if place < table.num_columns else None
        if column is None or column.type != field.type:
            column = pa.chunked_array([pa.nulls(table.num_rows, field.type)])
        if field.name in cells:
            column = _replaced(column, cells[field.name], field)
        if place < table.num_columns:
            table = table.set_column(place, field, column)
        else:
            table = table.append_column(field, column)
    return table


def _replaced(column: Any, values: dict[int, object], field: pa.Field) -> Any:
    """The column with other values at some places."""
    new = cells_of(list(values.values()), field)
    chunks, start = [], 0
    for number, place in enumerate(values):
        chunks += [*column.slice(start, place - start).chunks, new.slice(number, 1)]
        start = place + 1
    chunks += column.slice(start).chunks
    return pa.chunked_array(chunks, field.type)
