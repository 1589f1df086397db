"""A worker of an experiment that is killed at one of its cells, some times in all."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from geofilter.verify.workers import CellJob, CellWork


@dataclass(frozen=True)
class DyingAtUnfiltered(CellWork):
    """The file `deaths` says how often; each death leaves a file `death-N`."""

    def __call__(self, place: int) -> Callable[[CellJob], Any]:
        return partial(_work, super().__call__(place))


def _work(work: Callable[[CellJob], Any], job: CellJob) -> Any:
    if job.cell.arm == "unfiltered":
        for death in range(int(Path("deaths").read_text())):
            try:
                Path(f"death-{death}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
    return work(job)
