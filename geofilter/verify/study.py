"""Arms × seeds: choose rows, train, ask and judge every cell, and collect what came out.

Everything lies in one folder. A cell that is done is never run again, and arms, fractions
and seeds may be added later; whatever else decides a figure must stay as it was.

This module knows nothing about rates or how results are shown.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from geofilter.errors import OutputError
from geofilter.support.display import escape
from geofilter.support.locking import locked
from geofilter.support.manifest import Manifest, difference
from geofilter.support.records import read_json, write_json
from geofilter.verify.arms import ArmScores
from geofilter.verify.cell import measures_of, records_of
from geofilter.verify.plan import Cell, Plan
from geofilter.verify.setup import PRECISION, Setup
from geofilter.verify.training.recipe import Budget
from geofilter.verify.workers import run_one, run_side_by_side

# Called with what is being done, how much of it is done, and how much there is if known.
Report = Callable[[str, int, int | None], None]


class CellResult(NamedTuple):
    """A cell that is done: a record for each answer, and what was measured beside them."""

    cell: Cell
    records: list[dict[str, Any]]
    measures: dict[str, Any]


class FinishedStudy(NamedTuple):
    """All cells of an experiment, and what decided them.

    `file_rows` are in the data; `training_rows` of them can be trained on.
    """

    cells: list[CellResult]
    manifest: Manifest
    file_rows: int
    training_rows: int
    budget: Budget


def run(
    experiment: Plan,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    report: Report | None = None,
    ready: Callable[[], None] | None = None,
) -> FinishedStudy:
    """Run every cell of `experiment` that is not done yet in `folder`, and read all of them.

    `ready` is called when all is opened and checked, before anything costly begins.

    With several `workers`, cells run side by side, each process with a GPU of its own where
    there are several, and on a CPU with its share of the threads: sums are then rounded
    otherwise. Raises `OutputError` for a folder that is in use or of another
    experiment, and what reading, scoring, training and judging raise.
    """
    told = report or (lambda phase, done, total: None)
    folder = Path(folder)
    with _held(folder):
        parts = Setup(experiment)
        manifest = parts.describe()
        choose = ArmScores(experiment, parts.rows, folder, parts.load, parts.row_judge, told).chosen
        _refuse_other(folder, manifest)
        if ready is not None:
            ready()
        open_cells = [cell for cell in experiment.cells() if not _is_done(folder, cell)]
        jobs = [(cell, choose(cell)) for cell in open_cells]
        told("cells", 0, len(jobs))
        if workers > 1 and len(jobs) > 1:
            run_side_by_side(experiment, folder, jobs, workers, told, rule=parts.rule)
        else:
            for cell, chosen in jobs:
                run_one(parts.work, folder, cell, chosen, told)
        cells = [
            CellResult(
                cell,
                records_of(folder / "arms" / cell.name, cell.seed),
                measures_of(folder / "arms" / cell.name),
            )
            for cell in experiment.cells()
        ]
    rows = parts.rows
    return FinishedStudy(cells, manifest, rows.total, len(rows.encoded), parts.work.budget)


def _is_done(folder: Path, cell: Cell) -> bool:
    return (folder / "arms" / cell.name / "result.json").exists()


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Make the folder and keep a second process out of it."""
    shown, lock = escape(str(folder), limit=200), folder / "lock"
    in_use = OutputError(
        f"{shown}: another process works in this folder; wait for it or choose another with -o"
    )
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.touch()
            held.enter_context(locked(lock, in_use=in_use))
        except OSError as error:
            raise OutputError(
                f"{shown}: cannot be written: {error.strerror or error}; "
                "choose another folder with -o"
            ) from error
        try:
            yield
        finally:
            # Of a plan that could not be begun nothing is left.
            if os.listdir(folder) == ["lock"]:
                lock.unlink()
                folder.rmdir()


def _refuse_other(folder: Path, manifest: Manifest) -> None:
    path = folder / "plan.json"
    kept = read_json(path)
    decides = manifest.decides if kept is None else kept["decides"]
    # What began before precision was written down is taken to have had that of now.
    before = Manifest({PRECISION: manifest.decides[PRECISION], **decides})
    if before.hash != manifest.hash:
        raise OutputError(
            f"{escape(str(folder), limit=200)}: holds another experiment "
            f"({'; '.join(difference(before, manifest))}); choose another folder with -o"
        )
    if kept is None or PRECISION not in kept["decides"]:
        write_json(path, {"decides": manifest.decides, "facts": manifest.facts})
