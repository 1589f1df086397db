"""Score a file of rows with any engine: rows in, a finished score table out.

The driver reads rows, finds out which of them are fresh, hands these out as jobs, and
takes the answers back in order, part by part. Memory does not grow with the file, and
no line depends on the engine or on where an earlier run was killed: parts are cut by
row number, and jobs inside one part by the size of its fresh rows.
"""

import dataclasses
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from itertools import chain, islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol

from geofilter.data.problems import MODEL_UNSCORED, SCORED, Problem
from geofilter.data.rows import Row
from geofilter.errors import DataError, TableError
from geofilter.runs.engines.feature_parts import FeaturesFile
from geofilter.runs.engines.parts import PartsFolder, refuse_other, remove_leftover_parts
from geofilter.runs.engines.seen import SeenRows
from geofilter.runs.engines.worker import Answer, RowsDone, make_line
from geofilter.scoring.features_file import SavedRow, Side
from geofilter.scoring.table import ScoreRow, ScoreTable, from_arrow
from geofilter.support import atomic
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest
from geofilter.support.progress import Progress, no_progress

# Bytes of rows in one job: rows may be many megabytes long, and several jobs are in flight.
_JOB_BYTES = 8 * 2**20
# What a row without bytes of its own is taken to weigh besides its text.
_ROW_BYTES = 64


class Item(Protocol):
    """A row as the driver sees it: a `rows.Row` or a `saved.SavedRow`."""

    @property
    def index(self) -> int: ...

    @property
    def row_hash(self) -> str: ...

    @property
    def problem(self) -> Problem | None: ...


class Items(Protocol):
    """Rows that can be gone through again, and the name of where they come from."""

    source: str

    def __iter__(self) -> Iterator[Any]: ...


class Engine(AbstractContextManager["Engine"], Protocol):
    """Who works on the jobs. Entering starts it; leaving with an exception stops it at once.

    `at_once` jobs are handed out before the first has to be back.
    """

    at_once: int

    def submit(self, rows: Sequence[Any], report: RowsDone) -> "Future[list[Answer]]":
        """Answers for the rows, in order; `report` is called with how many are done."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class TablePlan:
    """How a table is made, by any engine.

    `check` looks at all rows before any scoring and raises `DataError` at a bad one; None
    keeps bad rows unscored. `part_rows` is what an interruption may cost; it decides no
    score. `features` says where the rows' features are saved, where they are.
    """

    manifest: Manifest
    check: Callable[[], None] | None = None
    restart: bool = False
    part_rows: int = 512
    features: FeaturesFile | None = None
    progress: Progress = no_progress


def make_table(
    rows: Items, engine: Engine, out: str | os.PathLike[str], plan: TablePlan
) -> ScoreTable:
    """Score every row of `rows` with `engine` into a table at `out`, and return it.

    A run that was killed or interrupted continues from its whole parts, which stand in
    the folder `<out>.parts`; a table that is complete is returned as it is. Identical
    rows are scored once. The engine is entered only when there is work for it.

    Raises `DataError`; `TableError` when a table or parts at `out` are damaged, in use, or
    made by another run; `OutputError` when nothing can be written there; whatever the
    engine raises. `KeyboardInterrupt` passes through, and the whole parts stay.
    """
    out = Path(out)
    if plan.features is not None:
        plan.features.refuse_other(restart=plan.restart)
    finished = _existing(out, plan)
    if finished is not None and not plan.restart:
        if plan.check is not None and _holds_bad_rows(finished):
            plan.check()
        remove_leftover_parts(out, plan.manifest)
        return finished
    atomic.check_output(out, overwrite=plan.restart)
    folder = PartsFolder(
        out,
        plan.manifest,
        part_rows=plan.part_rows,
        restart=plan.restart,
        features=plan.features,
    )
    with folder as parts:
        checked = plan.check is not None and not (parts.checked and not plan.restart)
        if checked and plan.check is not None:
            plan.check()
        parts.begin()
        if checked:
            parts.mark_checked()
        if finished is not None:
            out.unlink()
        with SeenRows(parts.path / "seen.sqlite") as seen:
            _Run(rows, engine, parts, seen, plan.progress).all_parts()
        return parts.finish()


def _existing(out: Path, plan: TablePlan) -> ScoreTable | None:
    """The table at `out`, if any; raises `TableError` when it may not be taken over.

    Even `restart` replaces nothing but a score table: the file may be the data.
    """
    if not os.path.lexists(out):
        return None
    try:
        table = ScoreTable.read(out)
    except TableError as error:
        raise TableError(
            f"{str(error).rpartition(';')[0]}; remove it or choose another output with -o"
        ) from error
    if not plan.restart:
        shown = escape(str(out), limit=200)
        refuse_other(shown, table.manifest, plan.manifest)
        if plan.features is not None and not plan.features.path.exists():
            raise TableError(
                f"{shown}: is finished, but no features were saved with it; "
                "score the data again with --restart or choose another output with -o"
            )
    return table


def _holds_bad_rows(table: ScoreTable) -> bool:
    statuses = set(table.column("status").tolist())
    return not statuses <= SCORED | MODEL_UNSCORED


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """Fresh rows that somebody works on."""

    n_rows: int
    answers: "Future[list[Answer]]" = dataclasses.field(default_factory=Future)
    rows_done: int = 0


@dataclasses.dataclass(slots=True, eq=False)
class _Part:
    """A part in work: its lines so far, the copies that wait for theirs, its jobs."""

    number: int
    n_rows: int = 0
    read: bool = False
    lines: dict[int, ScoreRow] = dataclasses.field(default_factory=dict)
    sides: dict[int, tuple[Side, ...]] = dataclasses.field(default_factory=dict)
    copies: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    fresh: set[str] = dataclasses.field(default_factory=set)
    waiting: deque[_Job] = dataclasses.field(default_factory=deque)
    rows_back: int = 0


class _Run:
    """One run over the file: what all parts share."""

    def __init__(
        self,
        rows: Items,
        engine: Engine,
        parts: PartsFolder,
        seen: SeenRows,
        progress: Progress,
    ) -> None:
        self._rows = rows
        self._engine = engine
        self._parts = parts
        self._seen = seen
        self._progress = progress
        self._in_work: deque[_Part] = deque()
        # Every job that gets further, and every one that is done.
        self._news: SimpleQueue[tuple[_Job, int]] = SimpleQueue()
        self._rows_written = 0
        self._reported = -1

    def all_parts(self) -> None:
        """Make every part that is not whole, in order."""
        left = self._parts.whole
        with ExitStack() as stack:
            started = False
            for number, window in enumerate(_windows(self._rows, self._parts.part_rows)):
                if number in left:
                    self._settle(0)
                    self._adopt(number, window, left.pop(number))
                    continue
                if not started:
                    # Not before: where all parts are there, no worker has to load anything.
                    stack.enter_context(self._engine)
                    started = True
                self._read(number, window)
            self._settle(0)
        if left:
            raise self._changed()

    def _adopt(self, number: int, window: Iterator[Item], n_lines: int) -> None:
        """Take a part over that is whole already."""
        if n_lines != sum(1 for _ in window):
            raise self._changed()
        self._seen.add(from_arrow(self._parts.read(number)))
        self._rows_written += n_lines
        self._report()

    def _changed(self) -> DataError:
        return DataError(
            f"{escape(self._rows.source, limit=200)}: has changed since its parts were scored; "
            "score it again with --restart"
        )

    def _report(self) -> None:
        done = self._rows_written + sum(
            part.rows_back + sum(job.rows_done for job in part.waiting) for part in self._in_work
        )
        if done > self._reported:
            self._reported = done
            self._progress("score", done, None)

    # Out

    def _read(self, number: int, window: Iterator[Item]) -> None:
        """Read a part and hand its fresh rows out; parts before it are written meanwhile."""
        part = _Part(number)
        self._in_work.append(part)
        job: list[Item] = []
        size = 0
        for row in window:
            part.n_rows += 1
            row_hash = row.row_hash
            if not self._is_fresh(row, row_hash, part):
                continue
            part.fresh.add(row_hash)
            weight = _weight(row)
            if job and size + weight > _JOB_BYTES:
                self._hand_out(part, job)
                job, size = [], 0
            # Its bytes are of no more use, and its hash need not be made again.
            job.append(
                dataclasses.replace(row, raw=None, _digest=row_hash)
                if isinstance(row, Row)
                else row
            )
            size += weight
        if job:
            self._hand_out(part, job)
        part.read = True

    def _is_fresh(self, row: Item, row_hash: str, part: _Part) -> bool:
        """Whether a row has to be scored; if not, its line is known or will be."""
        if row.problem is not None:
            # Its hash is of bytes, not of a record: it could be that of another
            # row's record, and must not stand for it.
            side = Side(problem=row.problem)
            part.lines[row.index] = make_line(row.index, row_hash, [side], [row.problem])
            part.sides[row.index] = (side,)
        elif any(row_hash in earlier.fresh for earlier in self._in_work):
            part.copies.append((row.index, row_hash))
        elif (known := self._seen.find(row.index, row_hash)) is not None:
            part.lines[row.index] = known
        else:
            return True
        return False

    def _hand_out(self, part: _Part, rows: list[Item]) -> None:
        self._settle(self._engine.at_once - 1)
        job = _Job(len(rows))
        part.waiting.append(job)

        def report(n_rows: int) -> None:
            self._news.put((job, n_rows))

        job.answers = self._engine.submit(rows, report)
        job.answers.add_done_callback(lambda _: report(job.n_rows))

    # Back

    def _settle(self, n_jobs: int) -> None:
        """Take jobs back, the oldest first, until at most `n_jobs` are out."""
        while sum(len(part.waiting) for part in self._in_work) > n_jobs:
            part = next(part for part in self._in_work if part.waiting)
            self._take_back(part)
            self._write_whole()
        self._write_whole()

    def _take_back(self, part: _Part) -> None:
        job = part.waiting[0]
        while not job.answers.done() or not self._news.empty():
            # The queue, not the job, is waited for, so that all that moves is reported.
            other, n_rows = self._news.get()
            other.rows_done = max(other.rows_done, n_rows)
            self._report()
        for answer in job.answers.result():
            part.lines[answer.line.row] = answer.line
            part.sides[answer.line.row] = answer.sides
        part.waiting.popleft()
        part.rows_back += job.n_rows

    def _write_whole(self) -> None:
        while self._in_work and self._in_work[0].read and not self._in_work[0].waiting:
            part = self._in_work[0]
            lines = self._lines(part)
            self._parts.write(part.number, lines, self._features(part, lines))
            self._seen.add(lines)
            self._in_work.popleft()
            self._rows_written += part.n_rows
            self._report()

    def _lines(self, part: _Part) -> list[ScoreRow]:
        by_hash = {
            line.row_hash: line
            for line in part.lines.values()
            if line.row_hash in part.fresh and line.status != "unreadable"
        }
        for row, row_hash in part.copies:
            original = by_hash.get(row_hash)
            if original is None:
                original = self._seen.find(row, row_hash)
            assert original is not None  # its part comes before this one
            part.lines[row] = dataclasses.replace(original, row=row)
        return [part.lines[row] for row in sorted(part.lines)]

    def _features(self, part: _Part, lines: list[ScoreRow]) -> list[SavedRow] | None:
        if not self._parts.keeps_features:
            return None
        return [SavedRow(line.row, line.row_hash, part.sides.get(line.row, ())) for line in lines]


def _windows(rows: Iterable[Item], size: int) -> Iterator[Iterator[Item]]:
    """Consecutive windows of `size` rows; each must be used up before the next."""
    stream = iter(rows)
    for first in stream:
        yield chain([first], islice(stream, size - 1))


def _weight(row: Any) -> int:
    """About how many bytes a row holds; always the same for the same row."""
    raw, record = getattr(row, "raw", None), getattr(row, "record", None)
    if raw is not None or record is None:
        return _ROW_BYTES + len(raw or b"")
    total, values = _ROW_BYTES, [record]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        total += len(value) if isinstance(value, str | bytes) else 8
    return total
