"""Processes that each make one worker, such as a model on a GPU, and do job after job with it.

Each process is an executor of its own, so that one that dies, killed or short of memory, takes
no other's job along: it is replaced, and its job is done again, a few times at most.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.context import SpawnContext
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self

from geofilter.errors import ModelError
from geofilter.runs.engines.worker import portable

Work = Callable[[Any], Any]
# From the number of a process, from 0, to what does its jobs there. It is pickled.
MakeWork = Callable[[int], Work]

# How often a job may lose its process before it is given up.
_MOST_DEATHS = 3


def devices_of(device: str) -> tuple[str, ...]:
    """What `device` stands for on this machine, to be dealt out to the processes in turn."""
    import torch

    if device in {"auto", "cuda"} and torch.cuda.is_available():
        return tuple(f"cuda:{place}" for place in range(torch.cuda.device_count()))
    return (device,)


class _Waiting(NamedTuple):
    job: Any
    where: str
    done: "Future[Any]"


class WorkerPool:
    """Does jobs in `workers` processes, each with what `make` gives it there.

    A process is started for its first job. Entering starts none, leaving waits for all jobs;
    leaving with an exception kills the processes at once. `remedy` ends the line about a job
    that is given up.
    """

    def __init__(self, make: MakeWork, workers: int, remedy: str) -> None:
        self._slots = [_Slot(make, place, remedy) for place in range(workers)]
        self._todo: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for slot in self._slots:
            thread = threading.Thread(target=self._serve, args=(slot,), daemon=True)
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
            for slot in self._slots:
                slot.stop()
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def do(self, job: Any, where: str) -> "Future[Any]":
        """The job's result. `where` says what was worked on, should its process die each time.

        The future's exception is what the job raised, or `ModelError`.
        """
        task = _Waiting(job, where, Future())
        self._todo.put(task)
        return task.done

    def _serve(self, slot: "_Slot") -> None:
        # Inherited by the process: Ctrl-C is for this program, which then kills it.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while (task := self._todo.get()) is not None:
            try:
                result = slot.do(task.job, task.where)
            except BaseException as error:  # it belongs to the one who waits for the result
                task.done.set_exception(error)
            else:
                task.done.set_result(result)
        slot.close()


class _Context(SpawnContext):
    """Spawns, for CUDA and threads do not survive a fork, and knows the latest process."""

    latest: Any = None

    def Process(self, *args: Any, **named: Any) -> Any:  # type: ignore[override]
        self.latest = super().Process(*args, **named)
        return self.latest


class _Slot:
    """The place of one process, and of those that replace it."""

    def __init__(self, make: MakeWork, place: int, remedy: str) -> None:
        self._make, self._place, self._remedy = make, place, remedy
        self._context = _Context()
        self._executor: ProcessPoolExecutor | None = None
        self._ready: Any = None
        self._stopped = False

    def do(self, job: Any, where: str) -> Any:
        for _ in range(_MOST_DEATHS):
            if self._stopped:
                break
            try:
                return self._try(job)
            except BrokenProcessPool:
                self.close()
        if self._ready is not None and not self._ready.is_set():
            where = "while it loaded the model"
        raise ModelError(
            f"a worker process {self._end()} {where}, {_MOST_DEATHS} times; {self._remedy}"
        )

    def _try(self, job: Any) -> Any:
        if self._executor is None:
            self._ready = self._context.Event()
            self._executor = ProcessPoolExecutor(
                1, self._context, _begin, (self._make, self._place, self._ready)
            )
        result = self._executor.submit(_do, job)
        if self._stopped:  # meanwhile: the process may be newer than the order to stop
            self._kill()
        return result.result()

    def _end(self) -> str:
        """How the latest process came to its end."""
        code = self._context.latest and self._context.latest.exitcode
        return f"was killed by signal {-code}" if code and code < 0 else f"ended with code {code}"

    def stop(self) -> None:
        """Kill the process, and start no other."""
        self._stopped = True
        self._kill()

    def _kill(self) -> None:
        process = self._context.latest
        if process is not None and process.pid is not None:
            process.kill()

    def close(self) -> None:
        """Let the process end, if there is one."""
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None


# In a process of the pool: what does the jobs, or the error that prevented it.
_work: Work | None = None
_error: BaseException | None = None


def _begin(make: MakeWork, place: int, ready: Any) -> None:
    global _work, _error
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _work = make(place)
    except Exception as error:  # each job raises it, and the program says it in its own place
        _error = portable(error)
    ready.set()


def _end_with_parent() -> None:
    """No one waits for what is in work when the program is gone, and memory is to be free."""
    if (parent := multiprocessing.parent_process()) is not None:
        with suppress(OSError):
            parent.join()
        os._exit(1)


def _do(job: Any) -> Any:
    if _work is None:
        raise _error or RuntimeError("the worker was not made")
    try:
        return _work(job)
    except Exception as error:
        raise portable(error) from None
