"""Workers of an experiment that are killed at one of its arms, `unfiltered`."""

import os
import signal
import time
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


@dataclass(frozen=True)
class DyingWithoutModel(CellWork):
    """Each time, and before a model is loaded, which takes long; other arms wait for the end."""

    def __call__(self, place: int) -> Callable[[CellJob], Any]:
        return _die


def _die(job: CellJob) -> None:
    if job.cell.arm != "unfiltered":
        time.sleep(60)
    os.kill(os.getpid(), signal.SIGKILL)


def _work(work: Callable[[CellJob], Any], job: CellJob) -> Any:
    if job.cell.arm == "unfiltered":
        for death in range(int(Path("deaths").read_text())):
            try:
                Path(f"death-{death}").touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
    return work(job)
