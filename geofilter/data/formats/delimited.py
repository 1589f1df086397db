"""CSV and TSV, record by record with the bytes of each record.

A record may span lines inside quotes. Quotes are read strictly: text after a
closing quote, or a quote that nothing closes within the longest row, makes the
line where the record begins unreadable, and reading goes on at the next line, so
that one stray quote does not swallow the rows after it. A record with too few or
too many cells is unreadable: which cell belongs to which column is unknown.
Blank lines are not rows.
"""

import csv
import io
import threading
from collections.abc import Collection, Iterable, Iterator

from geofilter.data.formats.dialects import Dialect, column_names, is_header
from geofilter.data.formats.json_files import rest_of_line
from geofilter.data.formats.source import ROW_LIMIT, TOO_LONG, RawRow
from geofilter.errors import DataError
from geofilter.support.display import escape

# The cells of a record, None where they cannot be separated, and its row.
_Read = tuple[list[str] | None, RawRow]


class _TooLong(Exception):
    """The record read so far is longer than the limit."""


class DelimitedRecords:
    """One pass over a stream of CSV or TSV, which is written as `dialect` says.

    `header`: the bytes of the header record, or nothing. `names`: the columns.
    """

    def __init__(
        self, shown: str, stream: io.BufferedReader, dialect: Dialect, known: Collection[str]
    ) -> None:
        stream.read(len(dialect.preamble))
        self._stream = dialect.lines_of(stream)
        self.dialect = dialect
        self._taken: list[bytes] = []  # the lines of the record being read
        self._room = ROW_LIMIT  # bytes that it may still take
        self._again = b""  # a line, or the start of one, that was taken and given back
        self._fault: str | None = None
        self._line = dialect.lines
        self._records = self._read()
        first = next(self._records, None)
        self._first: RawRow | None = None
        self.header = b""
        self.names: list[str] = []
        if first is None:
            return
        cells, row = first
        found_header = cells is not None and is_header(cells, known)
        if cells is None or row.raw is None or (found_header and row.fault):
            raise DataError(f"{shown}:{row.line}: the first record is {row.fault}; repair it")
        self.names = column_names(cells, found_header)
        if found_header:
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

    def _readline(self, size: int) -> bytes:
        """A line, cut at `size` bytes; nothing at the end of the file."""
        line, self._again = self._again, b""
        if line.endswith(self.dialect.newline):
            return line
        return line + self._stream.readline(size - len(line))

    def _lines(self) -> Iterator[str]:
        """Feed the parser line by line, and keep the bytes that it has taken."""
        while line := self._readline(self._room + 1):
            self._line += 1
            self._taken.append(line)
            self._room -= len(line)
            if self._room < 0:
                raise _TooLong
            text, fault = self.dialect.decode(line)
            self._fault = self._fault or fault
            yield text

    def _read(self) -> Iterator[_Read]:
        """Records as cells (None where they cannot be separated) with their bytes."""
        parser = self._parser(self._lines())
        while True:
            self._taken, self._room, self._fault = [], ROW_LIMIT, None
            start = self._line + 1
            try:
                cells = _record(parser)
            except StopIteration:
                return
            except (csv.Error, _TooLong) as error:
                yield from self._broken(start, error)
                parser = self._parser(self._lines())
            else:
                if cells or self._fault:
                    yield cells, RawRow(None, self._fault, start, raw=b"".join(self._taken))

    def _broken(self, start: int, error: Exception) -> Iterator[_Read]:
        """The rows of the lines that were wrongly taken for a record.

        In all lines between the first and the last the first one's quote stayed open, as
        would any that opens there: each is a record of its own or unreadable. So reading
        again takes one more look at each line. The last one is given back: a record may
        begin there.
        """
        first, *between = self._taken
        if between:
            self._again = between.pop()
            self._line -= 1
        elif isinstance(error, _TooLong):
            pieces = rest_of_line(self._stream, first, self.dialect.newline)
            yield None, RawRow(None, _reason(error), start, pieces=pieces)
            for _ in pieces:
                pass
            return
        yield None, RawRow(None, self.dialect.decode(first)[1] or _reason(error), start, raw=first)
        for number, line in enumerate(between, start + 1):
            yield from self._alone(line, number)

    def _alone(self, line: bytes, number: int) -> Iterator[_Read]:
        """A line that is a record of its own or unreadable."""
        text, fault = self.dialect.decode(line)
        try:
            cells = _record(self._parser([text]))
        except csv.Error as error:
            yield None, RawRow(None, fault or _reason(error), number, raw=line)
        else:
            if cells or fault:
                yield cells, RawRow(None, fault, number, raw=line)

    def _parser(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.dialect.delimiter, strict=True)


# One for the whole process, as is the limit.
_LIMIT = threading.Lock()


def _record(parser: Iterator[list[str]]) -> list[str]:
    """The next record, of cells up to `ROW_LIMIT`.

    The csv module's own limit, 128 KiB for a cell, is less than a long answer, and can be
    changed for all parsers of the process only: so it is raised for one record at a time.
    """
    with _LIMIT:
        before = csv.field_size_limit(ROW_LIMIT)
        try:
            return next(parser)
        finally:
            csv.field_size_limit(before)


def _reason(error: Exception) -> str:
    if isinstance(error, _TooLong):
        return f"a record {TOO_LONG}"
    message = str(error)
    if "unexpected end of data" in message:
        return "a record with a quote that is opened and never closed"
    if "new-line character" in message:
        return "a record with a bare carriage return; end lines with LF or CR LF"
    return f"a record with bad quotes: {escape(message)}"


def encode_record(cells: Iterable[str], dialect: Dialect, ending: str) -> bytes:
    """One record in bytes, quoted only where it is needed."""
    text = io.StringIO()
    # The module quotes only the line ends that it writes itself; a bare carriage
    # return in a cell needs quotes as well.
    csv.writer(text, delimiter=dialect.delimiter, lineterminator="\r\n").writerow(cells)
    return (text.getvalue().removesuffix("\r\n") + ending).encode(dialect.encoding)
