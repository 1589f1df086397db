"""CSV and TSV, record by record with the bytes of each record.

A record may span lines inside quotes. Quotes are read strictly: text after a
closing quote, or a quote that nothing closes, makes the record unreadable, and
reading goes on at the next line. So does a record with too few or too many
cells: nobody can tell which cell belongs to which column. Blank lines are no
rows.

The first record is the header when one of its cells is a column name that
geofilter knows or the caller named, or when all of its cells look like names:
one word each, letters, digits, `_`, `.` and `-`, no two alike. Otherwise the
file has no header, every record is a row, and the columns are called `column_1`,
`column_2` and so on, as is a column whose header cell is empty.

This module knows nothing about compression or layouts.
"""

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain

from geofilter.errors import DataError
from geofilter.formats.json_files import rest_of_line
from geofilter.formats.raw import ROW_LIMIT, TOO_LONG, RawRow
from geofilter.formats.streams import skip_bom
from geofilter.formats.strict_json import decode
from geofilter.terminal import escape

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,63}")


class _TooLong(Exception):
    """The record read so far is longer than the limit."""


def is_header(cells: list[str], known: Collection[str]) -> bool:
    """Whether the first record names the columns; see the rule above."""
    names = [cell.strip() for cell in cells]
    if any(name in known for name in names):
        return True
    given = [name for name in names if name]
    alike = len(set(given)) < len(given)
    return bool(given) and not alike and all(map(_NAME.fullmatch, given))


def column_names(cells: list[str], header: bool) -> list[str]:
    """The header's names, `column_1` and so on where it has none."""
    names = [cell.strip() if header else "" for cell in cells]
    return [name or f"column_{place}" for place, name in enumerate(names, 1)]


class DelimitedRecords:
    """One pass over a stream of CSV or TSV.

    `preamble`: a byte order mark, or nothing. `header`: the bytes of the header
    record, or nothing. `names`: the columns. `found_header`: False when the
    first record is a row.
    """

    def __init__(
        self, shown: str, stream: io.BufferedReader, delimiter: str, known: Collection[str]
    ) -> None:
        self._stream = stream
        self._delimiter = delimiter
        self._taken: list[bytes] = []  # the lines of the record being read
        self._fault: str | None = None
        self._line = 0
        # The csv module's own limit, 128 KiB for a cell, is less than a long answer.
        csv.field_size_limit(max(csv.field_size_limit(), ROW_LIMIT))
        self.preamble = skip_bom(stream)
        self._records = self._read()
        first = next(self._records, None)
        self._first: RawRow | None = None
        self.header = b""
        self.names: list[str] = []
        self.found_header = True
        if first is None:
            return
        cells, row = first
        self.found_header = cells is not None and is_header(cells, known)
        if cells is None or row.raw is None or (self.found_header and row.fault):
            raise DataError(f"{shown}:{row.line}: the first record is {row.fault}; repair it")
        self.names = column_names(cells, self.found_header)
        if self.found_header:
            self.header = row.raw
        else:
            self._first = self._complete(cells, row)

    def __iter__(self) -> Iterator[RawRow]:
        if self._first is not None:
            yield self._first
        for cells, row in self._records:
            yield row if cells is None else self._complete(cells, row)

    def _complete(self, cells: list[str], row: RawRow) -> RawRow:
        if row.fault is None and len(cells) != len(self.names):
            row.fault = f"a record of {len(cells)} cells where {len(self.names)} columns are"
        if row.fault is None:
            row.record = dict(zip(self.names, cells, strict=True))
        return row

    def _lines(self) -> Iterator[str]:
        """Feed the parser line by line, and keep the bytes that it has taken."""
        room = ROW_LIMIT
        while True:
            room = ROW_LIMIT - sum(map(len, self._taken)) if self._taken else ROW_LIMIT
            line = self._stream.readline(max(room, 0) + 1)
            if not line:
                return
            self._line += 1
            self._taken.append(line)
            if len(line) > room:
                raise _TooLong
            text, fault = decode(line)
            self._fault = self._fault or fault
            yield text

    def _read(self) -> Iterator[tuple[list[str] | None, RawRow]]:
        """Records as cells (None where they cannot be told apart) with their bytes."""
        parser = self._parser()
        while True:
            self._taken, self._fault = [], None
            start = self._line + 1
            try:
                cells = next(parser)
            except StopIteration:
                return
            except csv.Error as error:
                row = RawRow(None, self._fault or _reason(error), start, raw=b"".join(self._taken))
                yield None, row
                parser = self._parser()
            except _TooLong:
                *lines, last = self._taken
                self._taken = []
                pieces = chain(iter(lines), rest_of_line(self._stream, last))
                yield None, RawRow(None, f"a record {TOO_LONG}", start, pieces=pieces)
                for _ in pieces:
                    pass
                parser = self._parser()
            else:
                raw = b"".join(self._taken)
                if cells or self._fault:
                    yield cells, RawRow(None, self._fault, start, raw=raw)

    def _parser(self) -> Iterator[list[str]]:
        return csv.reader(self._lines(), delimiter=self._delimiter, strict=True)


def _reason(error: csv.Error) -> str:
    message = str(error)
    if "unexpected end of data" in message:
        return "a record with a quote that is opened and never closed"
    if "new-line character" in message:
        return "a record with a bare carriage return; end lines with LF or CR LF"
    return f"a record with bad quotes: {escape(message)}"


def encode_record(cells: Iterable[str], delimiter: str, ending: str) -> bytes:
    """One record in bytes, quoted only where it is needed."""
    text = io.StringIO()
    # The module quotes only the line ends that it writes itself; a bare carriage
    # return in a cell needs quotes as well.
    csv.writer(text, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return (text.getvalue().removesuffix("\r\n") + ending).encode("utf-8")
