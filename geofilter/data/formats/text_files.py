"""Text files of rows (JSONL, JSON, CSV, TSV), plain or compressed: read and write.

Kept lines and records are copied byte for byte. Kept elements of a JSON list are written as a
list, one after the other, each as it was written. A row that changes is written again. With notes
every row is, with what geofilter decided: under the key `geofilter` in JSON, in the columns
`geofilter_score`, `geofilter_rank` and so on in CSV.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from geofilter.data.formats.delimited import DelimitedRecords, encode_record
from geofilter.data.formats.dialects import Dialect, find_dialect
from geofilter.data.formats.json_files import JsonElements, JsonLines
from geofilter.data.formats.source import (
    NOTE_COLUMNS,
    Changes,
    Edits,
    Note,
    Notes,
    RawRow,
    Wanted,
    annotated,
)
from geofilter.data.formats.standard_output import STDOUT, write_rows
from geofilter.data.formats.streams import (
    hash_files,
    open_stream,
    shown,
    split_suffix,
)
from geofilter.errors import DataError, OutputError
from geofilter.support.display import escape, quote

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
DELIMITED = tuple(suffix for suffix, kind in SUFFIXES.items() if kind in _DELIMITERS)

Pass = JsonLines | JsonElements | DelimitedRecords


# Made once: `json.dumps` makes one for every row.
_ENCODER = json.JSONEncoder(ensure_ascii=False)


def dump_json(record: object) -> bytes:
    return _ENCODER.encode(record).encode("utf-8")


def _noted_json(row: RawRow, note: Note) -> bytes:
    """The record with its note; of an unreadable row its text, as far as it was held."""
    if row.record is not None:
        return dump_json(annotated(row.record, note))
    text = None if row.raw is None else row.raw.decode("utf-8", "backslashreplace")
    return dump_json({"geofilter": {**note._asdict(), "raw": text}})


def _write(out: BinaryIO, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        out.write(piece)


def _ending(row: RawRow, encoding: str) -> bytes:
    """What ends the row's line, nothing at the end of a file."""
    ends = ("\r\n".encode(encoding), "\n".encode(encoding))
    return next((end for end in ends if row.raw is not None and row.raw.endswith(end)), b"")


class _Whole:
    """Lines that stay apart: the last line of a file may lack its end, and another file follow."""

    def __init__(self, out: BinaryIO, encoding: str = "utf-8") -> None:
        self._out = out
        self._lf, self._crlf = "\n".encode(encoding), "\r\n".encode(encoding)
        self._last = self._ending = self._lf

    def add(self, pieces: Iterable[bytes]) -> None:
        if not self._last.endswith(self._lf):
            self._out.write(self._ending)
        for piece in pieces:
            self._out.write(piece)
            self._last = piece
        if self._last.endswith(self._lf):
            self._ending = self._crlf if self._last.endswith(self._crlf) else self._lf


class _Lines:
    """JSON lines."""

    def __init__(self, out: BinaryIO, source: JsonLines) -> None:
        self._out = _Whole(out)
        out.write(source.preamble)

    def add(self, row: RawRow, note: Note | None) -> None:
        self._out.add(row.bytes() if note is None else [_noted_json(row, note), b"\n"])

    def change(self, row: RawRow, changes: Changes) -> None:
        self._out.add([dump_json(changes.applied(row.record)) + _ending(row, "utf-8")])

    def finish(self) -> None:
        pass


class _List:
    """A JSON list, each element on a line of its own."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._before = b"[\n"

    def add(self, row: RawRow, note: Note | None) -> None:
        self._out.write(self._before)
        _write(self._out, row.bytes() if note is None else [_noted_json(row, note)])
        self._before = b",\n"

    def change(self, row: RawRow, changes: Changes) -> None:
        self._out.write(self._before + dump_json(changes.applied(row.record)))
        self._before = b",\n"

    def finish(self) -> None:
        self._out.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")


class _Records:
    """CSV records under the header of the file they come from, if it has one."""

    def __init__(self, out: BinaryIO, source: DelimitedRecords, notes: Notes | None) -> None:
        self._dialect = source.dialect
        encoding = self._dialect.encoding
        ended = source.header.endswith("\r\n".encode(encoding))
        self._ending = "\r\n" if ended else "\n"
        self._names = source.names
        self._own = [name for name in source.names if name not in NOTE_COLUMNS]
        self._lines = _Whole(out, encoding)
        out.write(self._dialect.preamble)
        head = self._encode([*self._own, *notes.columns]) if notes else source.header
        if head:
            self._lines.add([head])

    def _encode(self, cells: Iterable[str], ending: str | None = None) -> bytes:
        return encode_record(cells, self._dialect, self._ending if ending is None else ending)

    def add(self, row: RawRow, note: Note | None) -> None:
        if note is None:
            self._lines.add(row.bytes())
            return
        if row.record is not None:
            cells = [str(row.record[name]) for name in self._own]
        else:
            # What could not be read as cells stands in the first one.
            text = (row.raw or b"").decode(self._dialect.encoding, "backslashreplace")
            cells = [text, *[""] * (len(self._own) - 1)]
        noted = ("" if value is None else str(value) for value in note)
        self._lines.add([self._encode([*cells, *noted])])

    def change(self, row: RawRow, changes: Changes) -> None:
        record = changes.applied(row.record)
        ending = _ending(row, self._dialect.encoding).decode(self._dialect.encoding)
        self._lines.add([self._encode((str(record[name]) for name in self._names), ending)])

    def finish(self) -> None:
        pass


def _is_empty(rows: Pass) -> bool:
    """Whether a CSV file holds nothing, not even a header."""
    return isinstance(rows, DelimitedRecords) and not rows.names


class TextSource:
    """A text file of rows. `known`: the column names that tell a CSV header.

    `dialect`: how a CSV file is written; None for JSON.
    """

    def __init__(self, path: Path, kind: str, known: Collection[str]) -> None:
        self.format = kind
        self._path = path
        self._known = known
        self.dialect: Dialect | None = None
        if kind in _DELIMITERS:
            with open_stream(path, utf16=True) as stream:
                self.dialect = find_dialect(stream, _DELIMITERS[kind], known)

    @property
    def form(self) -> str:
        usual = self.dialect is None or (
            self.dialect.delimiter == _DELIMITERS[self.format] and self.dialect.encoding == "utf-8"
        )
        return "" if usual else f"separated by {self.dialect}"

    @contextlib.contextmanager
    def _open(self, observe: Callable[[Any], object] | None = None) -> Iterator[Pass]:
        with open_stream(self._path, observe, utf16=self.dialect is not None) as stream:
            yield self._start(stream)

    def _start(self, stream: io.BufferedReader) -> Pass:
        if self.dialect is not None:
            return DelimitedRecords(shown(self._path), stream, self.dialect, self._known)
        return JsonLines(stream) if self.format == "jsonl" else JsonElements(stream)

    def rows(self, observe: Callable[[Any], object] | None = None) -> Generator[RawRow, None, None]:
        with self._open(observe) as rows:
            yield from rows

    def hashed_rows(self) -> tuple[Generator[RawRow, None, None], Callable[[], str]]:
        digest = hashlib.sha256()
        return self.rows(digest.update), digest.hexdigest

    def columns(self) -> list[str] | None:
        if self.dialect is None:
            return None
        with self._open() as rows:
            assert isinstance(rows, DelimitedRecords)
            return rows.names

    def fingerprint(self) -> str:
        return hash_files([self._path], [""])

    def write(self, path: str, indices: Iterable[int], edits: Edits | None, overwrite: bool) -> int:
        return self.write_several([self], shown(self._path), path, indices, edits, overwrite)

    @staticmethod
    def write_several(
        parts: Sequence["TextSource"],
        name: str,
        path: str,
        indices: Iterable[int],
        edits: Edits | None,
        overwrite: bool,
    ) -> int:
        """As `Source.write`, with the rows of all `parts`, which are alike."""
        if path != STDOUT:
            parts[0]._check_suffix(Path(path))
        if isinstance(edits, Changes):
            parts[0]._check_room(name, edits)
        wanted = Wanted(name, indices)
        writer: _Lines | _List | _Records | None = None
        with write_rows(path, parts[0].format, overwrite=overwrite) as out:
            for part in parts:
                with part._open() as rows:
                    # One for all: the header is that of the first part that has any.
                    if writer is None and (part is parts[-1] or not _is_empty(rows)):
                        writer = part._writer(out, rows, edits)
                    if writer is not None:
                        part._copy(rows, writer, wanted, edits)
            taken = wanted.finish()
            assert writer is not None  # there is at least one part
            writer.finish()
        return taken

    @staticmethod
    def _copy(
        rows: Pass, writer: "_Lines | _List | _Records", wanted: Wanted, edits: Edits | None
    ) -> None:
        for row in rows.unparsed() if isinstance(rows, JsonLines) else rows:
            index = wanted.seen
            if not wanted.take():
                continue
            if edits is None or (isinstance(edits, Changes) and index not in edits.rows):
                writer.add(row, None)
                continue
            if isinstance(rows, JsonLines):
                row = rows.parsed(row)
            if isinstance(edits, Changes):
                writer.change(row, edits)
            else:
                writer.add(row, edits.of(index))

    def unlike(self, first: "TextSource") -> str | None:
        """Why the rows cannot stand under the header of `first`, as far as there is one."""
        if self.dialect is not None and first.dialect is not None:
            written = (self.dialect.delimiter, self.dialect.encoding)
            if written != (first.dialect.delimiter, first.dialect.encoding):
                return f"is written with {self.dialect}, and not with {first.dialect} as"
        ours, theirs = self.columns(), first.columns()
        if ours == theirs:
            return None
        return f"has the columns {escape(ours, limit=200)}, and not {escape(theirs)} as"

    def _writer(self, out: BinaryIO, rows: Pass, edits: Edits | None) -> _Lines | _List | _Records:
        if isinstance(rows, JsonElements):
            return _List(out)
        if isinstance(rows, DelimitedRecords):
            return _Records(out, rows, edits if isinstance(edits, Notes) else None)
        return _Lines(out, rows)

    def _check_room(self, name: str, changes: Changes) -> None:
        """Refuse a new column where every record would have to change for it."""
        names = self.columns()
        missing = [] if names is None else [new for new in changes.new if new not in names]
        if missing:
            raise DataError(
                f"{name}: has no column {quote(missing[0])}, which rows that change need, and the "
                "others keep their bytes; add that column, with nothing in it, or write the rows "
                "as JSON lines"
            )

    def _check_suffix(self, target: Path) -> None:
        """Rows keep their spelling, so the output has the format of the input."""
        suffix = split_suffix(target)[0]
        if SUFFIXES.get(suffix) != self.format and suffix != split_suffix(self._path)[0]:
            names = [name for name, kind in SUFFIXES.items() if kind == self.format]
            raise OutputError(
                f"{shown(target)}: the rows are {self.format} and keep their bytes; "
                f"name the output *{names[0]} (or *{names[0]}.gz, *{names[0]}.zst)"
            )
