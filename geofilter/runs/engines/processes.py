"""The engine for several processes on one machine, such as one per GPU.

Each process makes its own worker. A process that dies, for want of memory or killed,
is replaced, and its jobs are done again, a few times at most. This module knows
nothing about what a job is made of, nor about models and devices.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from geofilter.errors import ModelError
from geofilter.runs.engines.threads import ThreadEngine
from geofilter.runs.engines.worker import Answer, Stages, Told, portable

# From the number of a process, from 0, to its stages. It is pickled.
MakeStages = Callable[[int], Stages]

# How often a job may lose its process before it is given up.
_MOST_DEATHS = 3
# Jobs of one process: one on the device, and one that is encoded meanwhile.
_AHEAD = 2


@dataclass(eq=False)
class _Task:
    rows: Sequence[Any]
    told: Told
    answers: "Future[list[Answer]]" = field(default_factory=Future)
    deaths: int = 0


class _Died(Exception):
    """A process ended without having been asked to."""


class ProcessEngine:
    """Works on jobs in `workers` processes, each with the stages that `make` gives it there."""

    def __init__(self, make: MakeStages, workers: int) -> None:
        self.at_once = _AHEAD * workers + 1
        self._make = make
        self._workers = workers
        self._todo: deque[_Task] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._failure: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._processes: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for place in range(self._workers):
            name = f"geofilter worker {place}"
            thread = threading.Thread(target=self._keep, args=(place,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            if kind is not None:
                self._failure = self._failure or error
                for process in self._processes.values():
                    process.kill()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def submit(self, rows: Sequence[Any], told: Told) -> "Future[list[Answer]]":
        task = _Task(rows, told)
        with self._changed:
            if self._failure is None:
                self._todo.append(task)
                self._changed.notify()
        if self._failure is not None:
            task.answers.set_exception(self._failure)
        return task.answers

    # One thread per process

    def _keep(self, place: int) -> None:
        """Keep process `place` alive and at work until the engine is left."""
        # Inherited by the process: Ctrl-C is for the driver, which then kills it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        mine: deque[_Task] = deque()
        deaths_at_start = 0
        while True:
            try:
                process, connection = self._start(place)
            except BaseException as error:  # such as stages that cannot be pickled
                self._fail(error)
                self._fail_all(mine)
                return
            ready = False
            try:
                ready = self._wait_until_ready(connection)
                deaths_at_start = 0
                self._serve(connection, mine)
                return
            except _Died:
                process.join()
                deaths_at_start += not ready
                if deaths_at_start == _MOST_DEATHS:
                    self._fail(ModelError(_end_of(process, "while it loaded the model")))
                self._give_back(mine, process)
            except BaseException as error:  # it belongs to whoever waits for answers
                self._fail(error)
            finally:
                connection.close()
                if process.is_alive() and (self._failure or self._closing):
                    process.kill()
                process.join(None if ready else 1)
            if self._failure is not None:
                self._fail_all(mine)
                return

    def _start(self, place: int) -> tuple[Any, Connection]:
        # Spawned, not forked: CUDA and threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._make, place), daemon=True)
        process.start()
        theirs.close()
        with self._changed:
            self._processes[place] = process
            if self._failure is not None:
                process.kill()
        return process, ours

    def _wait_until_ready(self, connection: Connection) -> bool:
        kind, value = _receive(connection)
        if kind == "error":
            raise value
        return True

    def _serve(self, connection: Connection, mine: deque[_Task]) -> None:
        while self._next_tasks(connection, mine):
            kind, value = _receive(connection)
            if kind == "told":
                mine[0].told(value)
                continue
            task = mine.popleft()
            if kind == "answers":
                task.answers.set_result(value)
            else:
                task.answers.set_exception(value)

    def _next_tasks(self, connection: Connection, mine: deque[_Task]) -> bool:
        """Send the process what it may have; False when there is nothing left to do."""
        while len(mine) < _AHEAD:
            with self._changed:
                while not self._todo and not mine and not self._closing:
                    self._changed.wait()
                if not self._todo:
                    break
                task = self._todo.popleft()
            mine.append(task)
            try:
                connection.send(task.rows)
            except OSError:
                raise _Died from None
        return bool(mine)

    def _give_back(self, mine: deque[_Task], process: Any) -> None:
        """What the dead process had is done by whoever comes first."""
        lost: list[_Task] = []
        while mine:
            task = mine.pop()
            task.deaths += 1
            if task.deaths < _MOST_DEATHS:
                with self._changed:
                    self._todo.appendleft(task)
                    self._changed.notify()
            else:
                lost.append(task)
        for task in lost:
            first, last = task.rows[0].index, task.rows[-1].index
            what = f"at rows {first} to {last}, {_MOST_DEATHS} times"
            task.answers.set_exception(ModelError(_end_of(process, what)))

    def _fail(self, error: BaseException) -> None:
        """No process can work: every job of now and later has this error."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _fail_all(self, mine: deque[_Task]) -> None:
        assert self._failure is not None
        with self._changed:
            tasks = [*mine, *self._todo]
            mine.clear()
            self._todo.clear()
        for task in tasks:
            task.answers.set_exception(self._failure)


def _end_of(process: Any, what: str) -> str:
    code = process.exitcode
    how = f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"
    return (
        f"a worker process {how} {what}; if memory was short, use fewer --workers, a smaller "
        "--max-length or a machine with more memory"
    )


def _receive(connection: Connection) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = connection.recv()
    except (EOFError, OSError):
        raise _Died from None
    return message


def _work(connection: Connection, make: MakeStages, place: int) -> None:
    """The life of a process: make the stages, then jobs in, answers out, in order."""
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with sending, suppress(OSError):  # the driver may be gone
            connection.send((kind, value))

    try:
        stages = make(place)
    except Exception as error:  # the driver says it in its own place
        send("error", portable(error))
        return
    send("ready", None)
    with ThreadEngine(stages) as engine:
        while True:
            try:
                rows = connection.recv()
            except (EOFError, OSError):
                # The driver is done or dead, and nobody waits for what is in work.
                os._exit(0)
            answers = engine.submit(rows, lambda n_rows: send("told", n_rows))
            answers.add_done_callback(lambda done: _answer(done, send))


def _answer(done: "Future[list[Answer]]", send: Callable[[str, Any], None]) -> None:
    error = done.exception()
    if error is None:
        send("answers", done.result())
    else:
        send("error", portable(error))
