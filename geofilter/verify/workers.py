"""Cells of an experiment in other processes, each with a device of its own where there are several.

This module knows nothing about which cells there are or what came of them.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from geofilter.verify.cell import Work, run_cell
from geofilter.verify.judges.base import Rule
from geofilter.verify.plan import CONTROL, Cell, Plan
from geofilter.verify.setup import Setup

# Called with what is being done, how much of it is done, and how much there is if known.
Report = Callable[[str, int, int | None], None]


def _samples_of(work: Work, cell: Cell, chosen: list[int] | None) -> tuple[Any, list[int] | None]:
    """What a cell trains on: the control has rows of its own, all of them."""
    if cell.arm == CONTROL:
        return work.control, list(range(len(work.control)))
    return work.samples, chosen


def run_one(work: Work, folder: Path, cell: Cell, chosen: list[int] | None, report: Report) -> None:
    """Do what is missing of a cell that trains on the rows `chosen`."""
    samples, places = _samples_of(work, cell, chosen)
    run_cell(
        work,
        folder / "arms" / cell.name,
        cell.seed,
        places,
        samples,
        lambda what, done, total: report(f"{cell.name}: {what}", done, total),
    )


def run_side_by_side(
    experiment: Plan,
    folder: Path,
    jobs: list[tuple[Cell, list[int] | None]],
    workers: int,
    told: Report,
    *,
    rule: Rule | None,
) -> None:
    """Run `jobs` in `workers` processes that all read the judge's replies by `rule`."""
    devices = _devices(experiment.device)
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for place in range(workers):
        places.put(place)
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(
        workers, context, _begin, (experiment, folder, devices, threads, places, rule)
    ) as pool:
        waiting = [pool.submit(_run_there, cell, chosen) for cell, chosen in jobs]
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                future.result()
                told("cells", done, len(jobs))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _devices(device: str) -> list[str]:
    if device in {"auto", "cuda"} and torch.cuda.is_available():
        return [f"cuda:{place}" for place in range(torch.cuda.device_count())]
    return [device]


_there: tuple[Work, Path] | None = None


def _begin(
    experiment: Plan,
    folder: Path,
    devices: list[str],
    threads: int,
    places: Any,
    rule: Rule | None,
) -> None:
    """Make a worker process ready: its own device, threads and model."""
    global _there
    torch.set_num_threads(threads)
    device = devices[places.get() % len(devices)]
    if device.startswith("cuda"):
        # For a judge on this machine, which takes the current one.
        torch.cuda.set_device(device)
    _there = Setup(replace(experiment, device=device), rule=rule).work, folder


def _run_there(cell: Cell, chosen: list[int] | None) -> None:
    assert _there is not None
    work, folder = _there
    run_one(work, folder, cell, chosen, lambda what, done, total: None)
