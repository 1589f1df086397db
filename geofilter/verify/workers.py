"""Cells of an experiment: one here, or several side by side in processes."""

from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from geofilter.runs.engines.pool import WorkerPool, devices_of
from geofilter.support.progress import Progress, no_progress
from geofilter.verify.cell import Work, run_cell
from geofilter.verify.judges.reply import Rule
from geofilter.verify.plan import CONTROL, Cell, Plan
from geofilter.verify.setup import Setup

_REMEDY = (
    "what is done is kept; run again to go on, and if memory was short, with fewer --workers or "
    "a smaller --micro-batch or --ask-batch"
)


class CellJob(NamedTuple):
    """A cell, and the rows that it trains on, by their places; None where it trains nothing.

    `inoculated`: the places of those that are trained on after a request for what they do;
    `replaced`: the other responses of those that have one.
    """

    cell: Cell
    chosen: list[int] | None
    inoculated: list[int]
    replaced: dict[int, str]


def run_one(work: Work, folder: Path, job: CellJob, progress: Progress = no_progress) -> None:
    """Do what is missing of a cell."""
    cell, samples, places = job.cell, work.treated(job.inoculated, job.replaced), job.chosen
    if cell.arm == CONTROL:  # it has rows of its own, and takes all of them
        samples, places = work.control, list(range(len(work.control)))
    run_cell(
        work,
        folder / "arms" / cell.name,
        cell.seed,
        places,
        samples,
        lambda phase, done, of: progress(f"{cell.name}: {phase}", done, of),
        {"inoculated": job.inoculated, "replaced": sorted(job.replaced)},
    )


def run_side_by_side(
    plan: Plan,
    folder: Path,
    jobs: list[CellJob],
    workers: int,
    progress: Progress,
    *,
    rule: Rule | None,
) -> None:
    """Run `jobs` in `workers` processes that all read the judge's replies by `rule`.

    Each has a GPU of its own where there are several. Raises `ModelError` for a cell whose
    process dies each time.
    """
    threads = max(1, torch.get_num_threads() // workers)
    make = CellWork(plan, folder, devices_of(plan.settings.device), threads, rule)
    with WorkerPool(make, workers, _REMEDY) as pool:
        waiting = [pool.do(job, f"in {job.cell.name}") for job in jobs]
        for done, future in enumerate(as_completed(waiting), 1):
            future.result()
            progress("cells", done, len(jobs))


@dataclass(frozen=True)
class CellWork:
    """Makes what a process does with cells: its own device, threads and model."""

    plan: Plan
    folder: Path
    devices: tuple[str, ...]
    threads: int
    rule: Rule | None

    def __call__(self, place: int) -> Callable[[CellJob], Any]:
        torch.set_num_threads(self.threads)
        device = self.devices[place % len(self.devices)]
        if device.startswith("cuda"):
            # For a judge on this machine, which takes the current one.
            torch.cuda.set_device(device)
        settings = replace(self.plan.settings, device=device)
        setup = Setup(replace(self.plan, settings=settings), rule=self.rule)
        return partial(run_one, setup.work, self.folder)
