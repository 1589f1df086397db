"""The engine for many machines: Ray Data, with one worker per actor.

The driver's jobs are blocks of a Ray data set that grows while it is read: a source
holds them until they are done, so that whatever Ray has to do again finds them. Each
block is mapped by an actor that made its stages once. This module knows nothing about
what a job is made of, nor about models and devices.
"""

import asyncio
import logging
import os
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from geofilter.errors import MissingExtraError, ModelError
from geofilter.runs.engines.worker import Answer, RowsDone, Stages, portable

# Asked of Ray before it is imported: it would send figures about its use.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# From the number of a worker to its stages. It is sent to other machines.
MakeStages = Callable[[int], Stages]

# How often a job may be begun before it is given up.
_MOST_TRIES = 4
_AHEAD = 2
# Seconds to wait for Ray's own threads after an interruption.
_PATIENCE = 30.0


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            "--engine ray needs Ray, which is not installed; install it with: "
            "pip install 'geofilter[ray]'"
        ) from error
    return ray


class _Source:
    """Lives in an actor: the jobs that are not done, by their numbers from 0."""

    def __init__(self) -> None:
        self._jobs: dict[int, bytes] = {}
        self._done: set[int] = set()
        self._tries: dict[int, int] = {}
        self._total: int | None = None
        self._stopped = False
        self._changed = asyncio.Condition()

    async def add(self, number: int, job: bytes) -> None:
        # With its number: calls may overtake one another.
        async with self._changed:
            self._jobs[number] = job
            self._changed.notify_all()

    async def close(self, total: int) -> None:
        async with self._changed:
            self._total = total
            self._changed.notify_all()

    async def stop(self) -> None:
        """End as after a last job, and let what is queued come to nothing."""
        async with self._changed:
            self._stopped = True
            self._jobs.clear()
            self._changed.notify_all()

    async def wait_for(self, number: int) -> bytes | None:
        """The job, as soon as there is one; empty when it is done, None after the last."""

        def ended() -> bool:
            return self._stopped or number == self._total

        def known() -> bool:
            return number in self._jobs or number in self._done or ended()

        async with self._changed:
            await self._changed.wait_for(known)
            return None if ended() else self._jobs.get(number, b"")

    async def begin(self, number: int) -> int | None:
        """Count how often the job was begun; None when nobody waits for it any more."""
        if self._stopped or number in self._done:
            return None
        self._tries[number] = self._tries.get(number, 0) + 1
        return self._tries[number]

    async def done(self, number: int) -> None:
        self._done.add(number)
        self._jobs.pop(number, None)
        self._tries.pop(number, None)


class _Actor:
    """Lives in each worker: makes its stages once, then works on one block after another."""

    def __init__(self, make: MakeStages, source: Any) -> None:
        self._source = source
        self._stages: Stages | None = None
        self._error: Exception | None = None
        try:
            self._stages = make(0)
        except Exception as error:  # the driver says it in its own place
            self._error = error

    def __call__(self, block: pa.Table) -> pa.Table:
        (number,), (job,) = (block.column(name).to_pylist() for name in ("number", "job"))
        result = pickle.dumps(self._result(number, job))
        return pa.table({"number": [number], "result": pa.array([result], pa.large_binary())})

    def _result(self, number: int, job: bytes) -> tuple[str, Any]:
        import ray

        if not job:  # done before; Ray only wants its block back
            return "again", None
        tries = ray.get(self._source.begin.remote(number))
        if tries is None:
            return "again", None
        rows = pickle.loads(job)
        if tries >= _MOST_TRIES:
            first, last = rows[0].index, rows[-1].index
            return "error", ModelError(
                f"workers died at rows {first} to {last}, {_MOST_TRIES - 1} times; if memory was "
                "short, use a smaller --max-length or machines with more memory"
            )
        try:
            if self._stages is None:
                raise self._error or RuntimeError("no stages")
            return "answers", self._stages.score(self._stages.encode(rows), lambda _: None)
        except Exception as error:
            return "error", portable(error)


class RayEngine:
    """Works on jobs in `workers` actors of the Ray cluster that this machine is part of.

    By default one per GPU of the cluster, or one per machine. Without a running Ray, one
    is started on this machine. Raises `MissingExtraError` where Ray is not installed.
    """

    def __init__(self, make: MakeStages, workers: int | None) -> None:
        self._ray = _import_ray()
        self._make = make
        self._workers = workers
        self._own = False
        self._waiting: dict[int, Future[list[Answer]]] = {}
        self._lock = threading.Lock()
        self._n_jobs = 0
        self._failure: BaseException | None = None
        self._source: Any = None
        self._thread: threading.Thread | None = None
        self.at_once = _AHEAD * (workers or 1) + 2

    def __enter__(self) -> Self:
        ray = self._ray
        if not ray.is_initialized():
            self._own = True
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        needs = self._needs()
        self._source = ray.remote(num_cpus=0, max_concurrency=1000)(_Source).remote()
        data = self._data_set(needs)
        self._thread = threading.Thread(target=self._take, args=(data,), daemon=True)
        self._thread.start()
        return self

    def _needs(self) -> dict[str, float]:
        """CPUs and GPUs of one worker; sets the number of workers."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(node.get("GPU", 0) for node in nodes)
        count = self._workers or int(gpus) or len(nodes) or 1
        self._workers, self.at_once = count, _AHEAD * count + 2
        if gpus:
            return {"num_cpus": 1, "num_gpus": min(1.0, gpus / count)}
        per_node = -(-count // max(1, len(nodes)))
        smallest = min((node["CPU"] for node in nodes), default=1)
        return {"num_cpus": max(1, smallest // per_node) if smallest >= per_node else 0.1}

    def _data_set(self, needs: dict[str, float]) -> Any:
        ray = self._ray
        data = ray.data.read_datasource(
            _datasource(self._source), num_cpus=0, override_num_blocks=1
        )
        data = data.map_batches(
            _Actor,
            batch_size=1,
            batch_format="pyarrow",
            fn_constructor_args=(self._make, self._source),
            compute=ray.data.ActorPoolStrategy(size=self._workers),
            **needs,
        )
        context = data.context
        # A job is to come out as soon as it is done, not when a block of them is full.
        context.target_max_block_size = 1
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Its remarks on how it runs are no business of whoever scores a file.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"ray\.data")
        return data

    def _take(self, data: Any) -> None:
        """Give every result to whoever waits for it, until the data set ends."""
        try:
            for block in data.iter_batches(
                batch_size=None, prefetch_batches=0, batch_format="pyarrow"
            ):
                for done in block.to_pylist():
                    self._give(done["number"], *pickle.loads(done["result"]))
        except BaseException as error:  # it belongs to whoever waits for answers
            self._fail(error)
        else:
            self._fail(RuntimeError("Ray ended before its work was done"))

    def _give(self, number: int, kind: str, value: Any) -> None:
        with self._lock:
            answers = self._waiting.pop(number, None)
        self._source.done.remote(number)
        if answers is not None and kind == "answers":
            answers.set_result(value)
        elif answers is not None and kind == "error":
            answers.set_exception(value)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._failure = error
            waiting = list(self._waiting.values())
            self._waiting.clear()
        for answers in waiting:
            answers.set_exception(error)

    def submit(self, rows: Sequence[Any], report: RowsDone) -> "Future[list[Answer]]":
        answers: Future[list[Answer]] = Future()
        with self._lock:
            if self._failure is None:
                number = self._n_jobs
                self._n_jobs += 1
                self._waiting[number] = answers
                self._source.add.remote(number, pickle.dumps(list(rows)))
                return answers
        answers.set_exception(self._failure)
        return answers

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._own and kind is not None:
            self._ray.shutdown()
            return
        with suppress(Exception):
            # Both ways the data set ends as if it were done, and Ray frees what its workers
            # held; one that fails may keep it from the next run on the same cluster.
            if kind is None:
                self._source.close.remote(self._n_jobs)
            else:
                self._source.stop.remote()
        if self._thread is not None:
            self._thread.join(_PATIENCE)
        with suppress(Exception):
            self._ray.kill(self._source)
        if self._own:
            self._ray.shutdown()


def _datasource(source: Any) -> Any:
    """A data source of one block per job, which ends when the source is closed."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    class Jobs(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            nothing_known = BlockMetadata(
                num_rows=None, size_bytes=None, input_files=None, exec_stats=None
            )
            return [ReadTask(lambda: _blocks(source), nothing_known)]

    jobs: Any = Jobs
    return jobs()


def _blocks(source: Any) -> Iterator[Any]:
    import ray

    number = 0
    while (job := ray.get(source.wait_for.remote(number))) is not None:
        yield pa.table({"number": [number], "job": pa.array([job], pa.large_binary())})
        number += 1
