"""The engine for many machines: Ray actors, each with a worker of its own.

Ray starts an actor again whose process or machine died, and gives it its jobs again, a few
times at most.
"""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from geofilter.errors import MissingExtraError, ModelError
from geofilter.runs.engines.worker import Answer, MakeStages, RowsDone, Stages, portable

# Asked of Ray before it is imported: it would send figures about its use.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# How often a job may lose its worker before it is given up.
_MOST_DEATHS = 3
# Jobs of one worker: one on the device, and one that is on its way meanwhile.
_AHEAD = 2


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "--engine ray needs Ray, which is not installed; install it with: "
            "pip install 'geofilter[ray]'"
        ) from error
    return ray


class _Actor:
    """Lives in each worker: makes its stages for the first job, then works on one after another.

    Not before the first job: a worker that dies of its model then dies of a job, of which Ray
    counts the tries.
    """

    def __init__(self, make: MakeStages, place: int) -> None:
        self._make, self._place = make, place
        self._stages: Stages | None = None

    def answer(self, rows: Sequence[Any]) -> "list[Answer] | BaseException":
        """The answers, or the error: raised here, Ray would put its own around it."""
        try:
            if self._stages is None:
                self._stages = self._make(self._place)
            return self._stages.score(self._stages.encode(rows), lambda _: None)
        except Exception as error:
            return portable(error)


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
        self._actors: list[Any] = []
        self._jobs: Counter[int] = Counter()  # by the actor's number
        self._counting = threading.Lock()
        self.at_once = 1

    def __enter__(self) -> Self:
        ray = self._ray
        if not ray.is_initialized():
            self._own = True
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        count, needs = self._needs()
        worker = ray.remote(**needs, max_restarts=-1, max_task_retries=_MOST_DEATHS - 1)(_Actor)
        self._actors = [worker.remote(self._make, place) for place in range(count)]
        self.at_once = _AHEAD * count + 1
        return self

    def _needs(self) -> tuple[int, dict[str, float]]:
        """The number of workers, and the CPUs and GPUs of each."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        nodes = [node for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(node.get("GPU", 0) for node in nodes)
        count = self._workers or int(gpus) or len(nodes) or 1
        if gpus:
            return count, {"num_cpus": 1, "num_gpus": min(1.0, gpus / count)}
        per_node = -(-count // max(1, len(nodes)))
        smallest = min((node["CPU"] for node in nodes), default=1)
        cpus = max(1, smallest // per_node) if smallest >= per_node else 0.1
        return count, {"num_cpus": cpus}

    def submit(self, rows: Sequence[Any], report: RowsDone) -> "Future[list[Answer]]":
        with self._counting:
            place = min(range(len(self._actors)), key=lambda place: self._jobs[place])
            self._jobs[place] += 1
        where = f"rows {rows[0].index + 1} to {rows[-1].index + 1}"
        answers: Future[list[Answer]] = Future()

        def give(done: "Future[Any]") -> None:
            with self._counting:
                self._jobs[place] -= 1
            error = done.exception()
            found = self._lost(error, where) if error is not None else done.result()
            if isinstance(found, BaseException):
                answers.set_exception(found)
            else:
                answers.set_result(found)

        self._actors[place].answer.remote(list(rows)).future().add_done_callback(give)
        return answers

    def _lost(self, error: BaseException, where: str) -> BaseException:
        if not isinstance(error, self._ray.exceptions.RayError):
            return error
        return ModelError(
            f"workers died at {where}, {_MOST_DEATHS} times; if memory was short, use a smaller "
            "--max-length or machines with more memory"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for actor in self._actors:
            with suppress(Exception):  # Ray itself may be gone
                self._ray.kill(actor)
        self._actors.clear()
        if self._own:
            self._ray.shutdown()
