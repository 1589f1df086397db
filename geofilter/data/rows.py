"""The rows of a data set, in their places and with their bytes: read, check, write.

Reading streams: memory does not grow with the file. A row that cannot be read
is a row with a problem, not a missing row. A source that is damaged as a whole
(cut-off compression, a broken Parquet file, a missing file) is a `DataError`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from geofilter.data.formats import Data, open_source
from geofilter.data.formats.source import (
    ROW_LIMIT,
    Changes,
    LossNote,
    Note,
    Notes,
    RawRow,
    RowNote,
    Source,
)
from geofilter.data.formats.streams import shown
from geofilter.data.in_memory import no_file
from geofilter.data.layouts import ROLES
from geofilter.data.layouts.choose import Layouts, check_columns
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.reading import Reading, Tally
from geofilter.data.samples import Sample
from geofilter.errors import DataError, OutputError
from geofilter.support.progress import Progress, no_progress

__all__ = ["ROW_LIMIT", "Data", "LossNote", "Row", "RowFile", "RowNote", "Survey", "open_rows"]

_FIRST = 100  # rows in which a column that the caller names has to occur


def _plain(value: object) -> object:
    """What JSON does not have (dates, decimals, bytes of a Parquet file), as text."""
    return value.hex() if isinstance(value, bytes) else str(value)


# Made once: `json.dumps` makes one for every row.
_CANONICAL = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=_plain
)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Row:
    """One record of the user's data set.

    `index`: its place in the file, from 0. `where`: its place for a person,
    `data.jsonl:17` (line, from 1), `data.json:3 (row 2)` for a JSON list, whose
    elements may share a line, `data.parquet:row 17` where there are no lines.
    `raw`: its own bytes, line ending included; None where the format has none
    (Parquet, `datasets`, hub) or the row is longer than `ROW_LIMIT`.
    `record`: the parsed object; None when `problem` says why there is none
    (status "unreadable").
    """

    index: int
    where: str
    raw: bytes | None
    record: dict[str, object] | None
    problem: Problem | None
    _digest: str | None = field(default=None, repr=False)

    @property
    def row_hash(self) -> str:
        """32 hex digits (BLAKE2b-128); equal for records with equal values.

        Of the record as JSON with sorted keys, or of the bytes where it is unreadable.
        """
        if self._digest is not None:
            return self._digest
        if self.record is None:
            return _hash(self.raw if self.raw is not None else repr(self.problem).encode())
        return _hash(_CANONICAL.encode(self.record).encode("utf-8", "surrogatepass"))


class Survey(NamedTuple):
    """What one pass over a data set found: its rows, its fingerprint, and what is read of it."""

    rows: int
    fingerprint: str
    reading: Reading


class RowFile:
    """A data set that can be iterated again and again, each time from the source.

    `source`: its name, for messages. `given`: what opens it again. `files`: where it lies, in
    the order of its rows; none on the hub. `unread_files`: those of its folder that are not read.
    `format`: jsonl, json, csv, tsv, parquet,
    datasets or hub. `layouts`: how each record becomes samples; when its
    `problem` is set, no record of the file can be scored.
    """

    def __init__(
        self,
        source: str,
        reader: Source,
        layouts: Layouts,
        *,
        given: Data | None = None,
        files: Sequence[str] = (),
        unread_files: Sequence[str] = (),
    ) -> None:
        self.source = source
        self.given = source if given is None else given
        self.files, self.unread_files = tuple(files), tuple(unread_files)
        self.format = reader.format
        self.layouts = layouts
        self._reader = reader

    def __iter__(self) -> Iterator[Row]:
        """Yield every row in order; raises `DataError` when the source is damaged."""
        return self._rows(self._reader.rows())

    def _rows(self, raws: Generator[RawRow, None, None]) -> Iterator[Row]:
        name = shown(self.source)
        with closing(raws):
            for index, raw in enumerate(raws):
                yield _row(index, _where(name, self.format, index, raw), raw)

    def tally(self) -> Tally:
        """What counts the rows of this data set by how they are read."""
        return Tally(self.layouts, self._reader.form)

    def survey(
        self,
        *,
        check: bool = True,
        look: Callable[[Sample], object] | None = None,
        progress: Progress = no_progress,
    ) -> Survey:
        """Read every row once: check and count the rows, and hash the file meanwhile.

        With `check`, raises `DataError` for the first row that has a problem, with its
        place, the reason and what to do. `look` is then given each sample, and may raise
        `Unscorable` for what only a tokenizer can find: `rows.survey(look=encoder.encode)`.
        `progress` counts the rows read.
        """
        raws, fingerprint = self._reader.hashed_rows()
        tally = self.tally()
        count = 0
        for row in self._rows(raws):
            count += 1
            problem = _problem(row, tally, look if check else None)
            if check and problem:
                raise DataError(
                    f"{row.where}: {problem.status}: {problem.reason}; "
                    "repair it, or keep such rows unscored with --on-error keep"
                )
            if count % 1000 == 0:
                progress("check", count, None)
        return Survey(count, fingerprint(), tally.reading())

    def check(self) -> int:
        """Check every row by the layout and return their number, as `survey` does."""
        return self.survey().rows

    def fingerprint(self) -> str:
        """SHA-256 of the content, 64 hex digits; for a hub data set of its commit."""
        return self._reader.fingerprint()

    def write(
        self,
        path: str | os.PathLike[str],
        indices: Iterable[int],
        *,
        notes: Callable[[int], Note] | None = None,
        kind: type[Note] = RowNote,
        changes: Changes | None = None,
        overwrite: bool = False,
    ) -> int:
        """Write the rows at `indices` (ascending) to `path` and return their number.

        The format is that of the source, the compression is the one that the
        name of `path` states. Lines and CSV records keep their bytes, exactly; JSON
        lists are written one element a line; a saved data set becomes a folder; hub rows
        become JSON lines. Several files become one. `-` is standard output.

        `notes` gives for the index of a row what to write with it (score, rank,
        status, reason); then rows are written again, with the key `geofilter` in
        JSON and columns `geofilter_score` and so on elsewhere. To look notes up
        in a dictionary, pass its `__getitem__`. `kind` is the kind of note that it gives.
        `changes` says which rows get other values, where there are no notes; only these are
        written again, and only what changes is.

        The output appears whole or not at all. Raises `OutputError` when it exists
        (unless `overwrite`), cannot be written, or has the name of another format,
        and `DataError` when an index lies beyond the file, or its format cannot hold a change.
        """
        if Path(path).exists() and any(
            os.path.exists(file) and os.path.samefile(path, file) for file in self.files
        ):
            raise OutputError(f"{shown(path)}: is the file that is read; choose another output")
        edits = changes if notes is None else Notes(notes, kind)
        return self._reader.write(os.fspath(path), indices, edits, overwrite)


def _problem(row: Row, tally: Tally, look: Callable[[Sample], object] | None) -> Problem | None:
    """Why the row cannot be scored, as far as the row and `look` can say."""
    try:
        for sample in tally.samples(row.record, row.where, row.problem):
            if look is not None:
                look(sample)
    except Unscorable as error:
        return error.problem
    return None


def _where(name: str, kind: str, index: int, raw: RawRow) -> str:
    if raw.part is not None:
        name, index = raw.part
    if raw.line is None:
        return f"{name}:row {index + 1}"
    if kind == "json":
        return f"{name}:{raw.line} (row {index + 1})"
    return f"{name}:{raw.line}"


def _row(index: int, where: str, raw: RawRow) -> Row:
    if raw.record is not None:
        return Row(index, where, raw.raw, raw.record, None)
    problem = Problem("unreadable", raw.fault or "no record")
    digest = None
    if raw.pieces is not None:
        state = hashlib.blake2b(digest_size=16)
        for piece in raw.pieces:
            state.update(piece)
        digest = state.hexdigest()
    return Row(index, where, raw.raw, None, problem, digest)


def _layouts(name: str, reader: Source, layout: str | None, columns: Mapping[str, str]) -> Layouts:
    asked = Layouts(layout, columns)
    stated = reader.columns()
    if stated is not None:
        check_columns(name, columns, [stated])
        return _refuse_by_header(asked, stated)
    if columns:
        with closing(reader.rows()) as raws:
            records = (raw.record for raw in raws if raw.record is not None)
            first = [list(record) for record in islice(records, _FIRST)]
        check_columns(name, columns, first)
    return asked


def _refuse_by_header(asked: Layouts, names: list[str]) -> Layouts:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        reason = f"two columns are called '{shown(twice)}'; rename one"
        return replace(asked, problem=Problem("malformed", reason))
    if names == ["column_1"] and "column_1" not in asked.columns.values():
        reason = (
            "the file has one column and no header, so it holds no response "
            "(to score its text as it is: --column text=column_1)"
        )
        return replace(asked, problem=Problem("no_response", reason))
    return asked


def _is_named(source: object) -> bool:
    """Whether it is a name or a list of names, and not rows in memory."""
    names = source if isinstance(source, list | tuple) else (source,)
    return all(isinstance(name, str | os.PathLike) for name in names)


def open_rows(
    source: Data,
    *,
    layout: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> RowFile:
    """Open a file, several files, a folder, a saved data set or an `hf://datasets/...` name.

    `source`: a path; a pattern of paths (`data/train-*.parquet`), whose files come sorted by
    name, numbers by their value; a folder of files of one format, sorted likewise; `-` for
    standard input, or a pipe, which are read once into a temporary file; or a list of these,
    in its order. Several files are one data set.
    `layout`: a name of `geofilter.data.layouts.LAYOUTS` for all rows; without it each row is
    read by the columns that it fills. `columns`: a layout's column -> the file's column
    (`{"response": "my_answer"}`), or an empty name for one that is not to be read. Columns
    that fit no layout are no error here: each such row has that problem.

    Raises `DataError` for a source that is no name, missing, damaged, UTF-16, or of an
    unknown format, for files that do not go together (formats, columns, splits, a missing
    shard, a file given twice), and for a layout or column that does not exist.
    """
    if not _is_named(source):
        raise DataError(no_file(source))
    opened = open_source(source, {*ROLES, *(columns or {}).values()})
    return RowFile(
        opened.name,
        opened.source,
        _layouts(shown(opened.name), opened.source, layout, dict(columns or {})),
        given=source,
        files=opened.files,
        unread_files=opened.unread,
    )
