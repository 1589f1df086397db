"""Text files of rows (JSONL, JSON, CSV, TSV), plain or compressed: read and write.

Rows that are kept are copied byte for byte. With notes a row is written anew,
with what geofilter decided beside it: under the key `geofilter` in JSON, in the
columns `geofilter_score`, `geofilter_rank` and so on in CSV.

This module knows nothing about layouts and scores.
"""

import contextlib
import io
import json
from collections.abc import Collection, Generator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from geofilter.data.formats.delimited import DelimitedRecords, encode_record
from geofilter.data.formats.json_files import JsonElements, JsonLines
from geofilter.data.formats.source import (
    NOTE_COLUMNS,
    Note,
    Notes,
    RawRow,
    RowNote,
    Wanted,
    annotated,
    columns_of,
)
from geofilter.data.formats.streams import compressing, hash_files, open_stream, shown, split_suffix
from geofilter.errors import OutputError
from geofilter.support.atomic import writing

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jl": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
}
_DELIMITERS = {"csv": ",", "tsv": "\t"}

Pass = JsonLines | JsonElements | DelimitedRecords


class _Writer(Protocol):
    def add(self, row: RawRow, note: Note | None) -> None: ...
    def finish(self) -> None: ...


def dump_json(record: object) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8")


def _noted_json(row: RawRow, note: Note) -> bytes:
    """The record with its note; of a row that is no record its text, as far as it was held."""
    if row.record is not None:
        return dump_json(annotated(row.record, note))
    text = None if row.raw is None else row.raw.decode("utf-8", "backslashreplace")
    return dump_json({"geofilter": {**note._asdict(), "raw": text}})


class _Lines:
    """Rows one after the other. They ascend, so only the last can lack its line end."""

    def __init__(self, out: BinaryIO, preamble: bytes) -> None:
        self._out = out
        self._out.write(preamble)

    def copy(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self._out.write(piece)

    def add(self, row: RawRow, note: Note | None) -> None:
        self.copy(_bytes(row) if note is None else [_noted_json(row, note) + b"\n"])

    def finish(self) -> None:
        pass


def _bytes(row: RawRow) -> Iterable[bytes]:
    if row.pieces is not None:
        return row.pieces
    assert row.raw is not None  # every row of a text file has bytes
    return (row.raw,)


class _List:
    """Elements between the brackets and with the commas of the file they come from."""

    def __init__(self, out: BinaryIO, source: JsonElements) -> None:
        self._out = out
        self._source = source
        self._begun = False
        self._closed = False
        self._out.write(source.preamble)

    def add(self, row: RawRow, note: Note | None) -> None:
        after_the_list = b"]" in row.lead
        if self._begun or after_the_list or not self._source.head:
            if not self._begun and after_the_list:
                self._out.write(self._source.head)
            self._out.write(row.lead)
        else:
            self._out.write(self._source.head)
        self._begun = True
        for piece in _bytes(row) if note is None else [_noted_json(row, note)]:
            self._out.write(piece)
        # A note makes a good element of a broken one, and the list has to end.
        self._closed = row.closes and note is None

    def finish(self) -> None:
        if self._closed or not self._source.head:
            return
        if not self._begun:
            self._out.write(self._source.head)
        closing = self._source.closing
        self._out.write(closing if b"]" in closing else b"\n]\n")


class _Records:
    """CSV records under the header of the file they come from, if it has one."""

    def __init__(
        self, out: BinaryIO, source: DelimitedRecords, delimiter: str, kind: type[Note] | None
    ) -> None:
        self._delimiter = delimiter
        self._ending = "\r\n" if source.header.endswith(b"\r\n") else "\n"
        self._names = source.names
        self._own = [name for name in source.names if name not in NOTE_COLUMNS]
        self._lines = _Lines(out, source.preamble)
        if kind is not None:
            self._lines.copy([self._encode([*self._own, *columns_of(kind)])])
        elif source.header:
            self._lines.copy([source.header])

    def _encode(self, cells: Iterable[str]) -> bytes:
        return encode_record(cells, self._delimiter, self._ending)

    def add(self, row: RawRow, note: Note | None) -> None:
        if note is None:
            self._lines.copy(_bytes(row))
            return
        if row.record is not None:
            cells = [str(row.record[name]) for name in self._own]
        else:
            # What could not be read as cells stands in the first one.
            text = (row.raw or b"").decode("utf-8", "backslashreplace")
            cells = [text, *[""] * (len(self._own) - 1)]
        told = ("" if value is None else str(value) for value in note)
        self._lines.copy([self._encode([*cells, *told])])

    def finish(self) -> None:
        pass


class TextSource:
    """A text file of rows. `known`: the column names that tell a CSV header."""

    def __init__(self, path: Path, kind: str, known: Collection[str]) -> None:
        self.format = kind
        self._path = path
        self._known = known

    @contextlib.contextmanager
    def _open(self) -> Iterator[Pass]:
        with open_stream(self._path) as stream:
            yield self._start(stream)

    def _start(self, stream: io.BufferedReader) -> Pass:
        if self.format == "jsonl":
            return JsonLines(stream)
        if self.format == "json":
            return JsonElements(stream)
        delimiter = _DELIMITERS[self.format]
        return DelimitedRecords(shown(self._path), stream, delimiter, self._known)

    def rows(self) -> Generator[RawRow, None, None]:
        with self._open() as rows:
            yield from rows

    def columns(self) -> list[str] | None:
        if self.format not in _DELIMITERS:
            return None
        with self._open() as rows:
            assert isinstance(rows, DelimitedRecords)
            return rows.names

    def has_header(self) -> bool:
        if self.format not in _DELIMITERS:
            return True
        with self._open() as rows:
            assert isinstance(rows, DelimitedRecords)
            return rows.found_header

    def fingerprint(self) -> str:
        return hash_files([self._path], [""])

    def write(
        self,
        path: str,
        indices: Iterable[int],
        notes: Notes | None,
        overwrite: bool,
        kind: type[Note] = RowNote,
    ) -> int:
        target = Path(path)
        self._check_suffix(target)
        wanted = Wanted(shown(self._path), indices)
        count = 0
        with (
            writing(target, overwrite=overwrite) as handle,
            compressing(handle, target) as out,
            self._open() as rows,
        ):
            writer = self._writer(out, rows, kind if notes else None)
            for index, row in enumerate(rows):
                count = index + 1
                if wanted.take(index):
                    writer.add(row, notes(index) if notes else None)
            taken = wanted.finish(count)
            writer.finish()
        return taken

    def _writer(self, out: BinaryIO, rows: Pass, kind: type[Note] | None) -> _Writer:
        if isinstance(rows, JsonElements):
            return _List(out, rows)
        if isinstance(rows, DelimitedRecords):
            return _Records(out, rows, _DELIMITERS[self.format], kind)
        return _Lines(out, rows.preamble)

    def _check_suffix(self, target: Path) -> None:
        """Rows keep their bytes, so the output has the format of the input."""
        suffix = split_suffix(target)[0]
        if SUFFIXES.get(suffix) != self.format and suffix != split_suffix(self._path)[0]:
            names = [name for name, kind in SUFFIXES.items() if kind == self.format]
            raise OutputError(
                f"{shown(target)}: the rows are {self.format} and keep their bytes; "
                f"name the output *{names[0]} (or *{names[0]}.gz, *{names[0]}.zst)"
            )
