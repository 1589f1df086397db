"""The engine for one process: a thread encodes, another one scores, the caller does the rest.

So reading, parsing, hashing and writing overlap with the device, and so does the
tokenizer.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from geofilter.errors import DataError
from geofilter.runs.engines.driver import TablePlan, make_table
from geofilter.runs.engines.worker import (
    Answer,
    RowsDone,
    Scorer,
    Stages,
    TwoSteps,
    Worker,
    encode_row,
    make_batches,
)
from geofilter.scoring.table import ScoreTable
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoder
    from geofilter.data.rows import RowFile

__all__ = ["OnError", "ThreadEngine", "check_rows", "make_batches", "score_file"]

OnError = Literal["stop", "keep"]

# One on the device, one encoded, one being read.
_AT_ONCE = 3
# Seconds to wait for a thread that has to stop: one call into the device.
_PATIENCE = 10.0


def check_rows(rows: "RowFile", encoder: "Encoder", *, progress: Progress = no_progress) -> None:
    """Look at every row, without any model.

    Raises `DataError` at the first row that cannot be scored: where, what is
    wrong with which value, and what to do.
    """
    for row in rows:
        for _, problem in encode_row(row, rows.layouts, encoder):
            if problem is not None:
                raise DataError(
                    f"{escape(row.where, limit=200)}: {problem.status}: "
                    f"{escape(problem.reason, limit=None)}; "
                    "repair it, or keep such rows unscored with --on-error keep"
                )
        if (row.index + 1) % 1000 == 0:
            progress("check", row.index + 1, None)


def score_file(
    rows: "RowFile",
    encoder: "Encoder",
    scorer: Scorer | TwoSteps,
    out: str | os.PathLike[str],
    manifest: Manifest,
    *,
    on_error: OnError = "stop",
    restart: bool = False,
    part_rows: int = 512,
    batch_tokens: int = 16384,
    progress: Progress = no_progress,
) -> ScoreTable:
    """Score every row of `rows` in this process into a table at `out`, and return it.

    `manifest` must name everything that decides the scores. `part_rows` is what an
    interruption may cost, and `batch_tokens` bounds a padded batch; neither decides a
    score. What is there already, and what is raised: see `pipeline.make_table`.

    `on_error="stop"` looks at all rows before any scoring and raises `DataError`
    at the first that cannot be scored; `"keep"` keeps such rows unscored, with
    the reason. A row that only the model finds unscorable, such as one whose
    activations are not finite, is kept unscored in both: by then much is done, and
    the row itself may be sound. A chosen/rejected row is scored if its chosen side is.

    `progress` counts the rows checked, and then those scored.
    """
    check = partial(check_rows, rows, encoder, progress=progress) if on_error == "stop" else None
    plan = TablePlan(manifest, check, restart, part_rows, progress=progress)
    worker = Worker(rows.layouts, encoder, scorer, batch_tokens=batch_tokens)
    return make_table(rows, ThreadEngine(worker), out, plan)


class _Task(NamedTuple):
    work: Any  # rows, or what `Stages.encode` made of them
    report: RowsDone
    answers: "Future[list[Answer]]"


class _Stop(BaseException):
    """Raised inside a thread that has to stop at once."""


class ThreadEngine:
    """Works on jobs in this process, in two threads; one job at a time is on the device."""

    at_once = _AT_ONCE

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._rows: SimpleQueue[_Task | None] = SimpleQueue()
        self._encoded: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stopping = False

    def __enter__(self) -> Self:
        for loop in (self._encode, self._score):
            # Daemons: a device that hangs must not keep an interrupted program alive.
            thread = threading.Thread(target=loop, name=f"geofilter {loop.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stop()
        self._rows.put(None)
        for thread in self._threads:
            thread.join(_PATIENCE if kind is not None else None)
        self._threads.clear()

    def _stop(self) -> None:
        """Make both threads leave at their next step in Python, in the middle of a job."""
        self._stopping = True
        for thread in self._threads:
            raising = ctypes.pythonapi.PyThreadState_SetAsyncExc
            raising(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(_Stop))
        # The one who waits for a job is to go on.
        self._encoded.put(None)

    def submit(self, rows: Sequence[Any], report: RowsDone) -> "Future[list[Answer]]":
        answers: Future[list[Answer]] = Future()
        self._rows.put(_Task(rows, report, answers))
        return answers

    def _encode(self) -> None:
        def step(task: _Task) -> None:
            self._encoded.put(task._replace(work=self._stages.encode(task.work)))

        with suppress(_Stop):
            self._loop(self._rows, step)
            self._encoded.put(None)

    def _score(self) -> None:
        def step(task: _Task) -> None:
            task.answers.set_result(self._stages.score(task.work, task.report))

        with suppress(_Stop):
            self._loop(self._encoded, step)

    def _loop(self, tasks: "SimpleQueue[_Task | None]", step: Callable[[_Task], None]) -> None:
        while (task := tasks.get()) is not None and not self._stopping:
            try:
                step(task)
            except BaseException as error:  # it belongs to the one who waits for the answers
                if self._stopping:
                    return
                task.answers.set_exception(error)
            # The next job may be long in coming: hold nothing of this one meanwhile.
            del task
