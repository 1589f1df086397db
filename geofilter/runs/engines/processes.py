"""The engine for several processes on one machine, such as one per GPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

from geofilter.runs.engines.pool import WorkerPool
from geofilter.runs.engines.worker import Answer, MakeStages, RowsDone, Stages

_REMEDY = (
    "if memory was short, use fewer --workers, a smaller --max-length or a machine with more memory"
)


class ProcessEngine(WorkerPool):
    """Works on jobs in `workers` processes, each with the stages that `make` gives it there."""

    def __init__(self, make: MakeStages, workers: int) -> None:
        super().__init__(_Answering(make), workers, _REMEDY)
        self.at_once = 2 * workers + 1

    def submit(self, rows: Sequence[Any], report: RowsDone) -> "Future[list[Answer]]":
        return self.do(rows, f"at rows {rows[0].index + 1} to {rows[-1].index + 1}")


@dataclass(frozen=True)
class _Answering:
    """Makes what a process does with rows."""

    make: MakeStages

    def __call__(self, place: int) -> Callable[[Sequence[Any]], list[Answer]]:
        return partial(_answers, self.make(place))


def _answers(stages: Stages, rows: Sequence[Any]) -> list[Answer]:
    return stages.score(stages.encode(rows), lambda _: None)
