"""Arms × seeds: choose rows, train, ask and judge every cell, compare, and report.

Everything lies in one folder. A cell that is done is never run again, and arms, fractions
and seeds may be added later; whatever else decides a figure must stay as it was.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from geofilter.errors import OutputError
from geofilter.support.atomic import writing
from geofilter.support.display import escape
from geofilter.support.locking import locked
from geofilter.support.manifest import Manifest, difference
from geofilter.support.progress import Progress, no_progress
from geofilter.support.records import read_json, read_lines, write_json
from geofilter.verify import page
from geofilter.verify.arms import ArmScores
from geofilter.verify.cell import measure_before, measures_of, records_of
from geofilter.verify.judges.sway import SwayTest
from geofilter.verify.plan import TRIGGERED, Cell, Plan
from geofilter.verify.preference import PREFERENCE
from geofilter.verify.replaced import Responses
from geofilter.verify.report import Section, markdown
from geofilter.verify.results import CellResult, FinishedStudy, Results, power_of, results_of
from geofilter.verify.row_format import NO_FORMAT
from geofilter.verify.setup import (
    JUDGE_TEST,
    LM_EVAL,
    LOAD_IN,
    PAIRS,
    PRECISION,
    REQUEST,
    ROWS,
    SERVED,
    SLOTS,
    Setup,
    inputs_of,
)
from geofilter.verify.workers import CellJob, run_one, run_side_by_side

# Where what was measured of the model before training lies.
_BEFORE = "before"


class Verification(NamedTuple):
    """What `verify` found; `text` is the report, and `notes` are worth saying besides."""

    results: Results
    text: str
    notes: tuple[str, ...]


def verify(
    plan: Plan,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    section: Callable[[Plan, Path], Section] | None = None,
    ready: Callable[[Sequence[str]], None] = lambda lines: None,
    progress: Progress = no_progress,
) -> Verification:
    """Run what is missing of `plan` in `folder`, compare the arms, and write the report there.

    It is in `report.md` and, drawn, in `report.html`, its figures in `report.json`. `section`
    gives a last section of the first from what the cells left. `ready` is called with what the plan
    can show at all and what is wrong with the judge, before anything costly begins. See `run` for
    the rest.
    """
    folder = Path(folder)
    power = power_of(plan)
    outcome = run(
        plan,
        folder,
        workers=workers,
        ready=lambda test: ready([power, *(test.warnings if test else ())]),
        progress=progress,
    )
    results = results_of(outcome)
    last = section(plan, folder) if section is not None else Section("", None)
    text = markdown(plan, results, power) + last.text
    with writing(folder / "report.md", overwrite=True) as file:
        file.write(text.encode("utf-8"))
    with writing(folder / "report.html", overwrite=True) as file:
        for piece in page.render(plan, results, power, outcome.manifest.decides):
            file.write(piece.encode("utf-8"))
    write_json(folder / "report.json", results.as_record())
    no_format = NO_FORMAT if results.triggered and results.row_format is None else None
    return Verification(results, text, tuple(filter(None, (no_format, last.note))))


def run(
    plan: Plan,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    ready: Callable[[SwayTest | None], None] = lambda test: None,
    progress: Progress = no_progress,
) -> FinishedStudy:
    """Run every cell of `plan` that is not done yet in `folder`, and read all of them.

    `ready` is called with how the judge did on fixed answers when all is opened and checked, before
    anything costly begins. Where every cell is done, no model is loaded and no judge is asked.

    With several `workers`, cells run side by side, each process with a GPU of its own where
    there are several, and on a CPU with its share of the threads: sums are then rounded
    otherwise. Raises `OutputError` for a folder that is in use or of another
    experiment, and what reading, scoring, training and judging raise.
    """
    folder = Path(folder)
    with _held(folder):
        manifest = _finished(plan, folder)
        if manifest is not None:
            ready(_test_of(manifest))
        else:
            manifest = _run_missing(plan, folder, workers, ready, progress)
        cells = [
            CellResult(
                cell,
                records_of(folder / "arms" / cell.name, cell.seed),
                measures_of(folder / "arms" / cell.name),
                read_lines(folder / "arms" / cell.name / PREFERENCE),
            )
            for cell in plan.cells()
        ]
        before = read_lines(folder / _BEFORE / PREFERENCE)
    rows = manifest.facts[ROWS]
    assert isinstance(rows, dict)
    counted = (rows["file"], rows["training"])
    return FinishedStudy(cells, manifest, *counted, before, _test_of(manifest))


def _test_of(manifest: Manifest) -> SwayTest | None:
    """How the judge did; None for a rule, and in a folder that was finished without the test."""
    record: Any = manifest.facts.get(JUDGE_TEST)
    return None if record is None else SwayTest.of_record(record)


def _run_missing(
    plan: Plan,
    folder: Path,
    workers: int,
    ready: Callable[[SwayTest | None], None],
    progress: Progress,
) -> Manifest:
    """Run the cells that are not done; the record of what decides them."""
    setup = Setup(plan)
    manifest = setup.describe()
    encode, responses = setup.work.encode_with, None
    if encode is not None:
        responses = Responses(plan, setup.rows, folder, setup.load, encode, progress)
    arms = ArmScores(plan, setup.rows, folder, setup.load, setup.row_judge, progress, responses)
    manifest = _refuse_other(folder, manifest, setup.test_judge)
    ready(_test_of(manifest))
    missing = [cell for cell in plan.cells() if not _is_done(folder, cell)]
    jobs = [
        CellJob(cell, arms.chosen(cell), arms.inoculated(cell), arms.replaced(cell))
        for cell in missing
    ]
    measure_before(setup.work, folder / _BEFORE, progress)
    progress("cells", 0, len(jobs))
    if workers > 1 and len(jobs) > 1:
        run_side_by_side(plan, folder, jobs, workers, progress, rule=setup.rule)
    else:
        for job in jobs:
            run_one(setup.work, folder, job, progress)
    return manifest


def _finished(plan: Plan, folder: Path) -> Manifest | None:
    """The record of a plan of which every cell is done; None where it has to be looked at whole.

    That is so, too, where something differs from what the record says: what, and whether it
    matters, shows only when all is loaded.
    """
    kept = read_json(folder / "plan.json")
    if kept is None or not all(_is_done(folder, cell) for cell in plan.cells()):
        return None
    decides, facts = _complete(kept["decides"]), kept["facts"]
    now = json.loads(json.dumps({"plan": plan.as_record(), "inputs": inputs_of(plan)}))
    asked = ("judge", "row_judge", "device")
    if (
        ROWS not in facts
        or any(facts["plan"].get(name) != now["plan"][name] for name in asked)
        or any(decides.get(name) != value for name, value in now["inputs"].items())
    ):
        return None
    return Manifest(decides, facts)


def _complete(decides: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a study that may have begun before there were slots, pairs or row formats."""
    new: dict[str, Any] = {
        SLOTS: {},
        PAIRS: None,
        TRIGGERED: False,
        LM_EVAL: None,
        LOAD_IN: None,
        SERVED: None,
    }
    return {**new, **decides}


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


def _refuse_other(
    folder: Path, manifest: Manifest, test: Callable[[], SwayTest | None]
) -> Manifest:
    """Refuse a folder of another experiment; else the record, with how the judge does on `test`.

    The judge is asked once for each folder.
    """
    path = folder / "plan.json"
    kept = read_json(path)
    decides = manifest.decides if kept is None else kept["decides"]
    # What began before precision was written down is taken to have had that of now.
    before = Manifest({PRECISION: manifest.decides[PRECISION], **_complete(decides)})
    # A request is known once an arm takes one.
    requests = [one.decides[REQUEST] for one in (before, manifest) if REQUEST in one.decides]
    known = {REQUEST: requests[0]} if requests else {}
    before, now = (Manifest({**known, **one.decides}) for one in (before, manifest))
    if before.hash != now.hash:
        raise OutputError(
            f"{escape(str(folder), limit=200)}: holds another experiment "
            f"({'; '.join(difference(before, now))}); choose another folder with -o"
        )
    decided, facts = ({}, {}) if kept is None else (kept["decides"], kept["facts"])
    if JUDGE_TEST in facts:
        found = facts[JUDGE_TEST]
    else:
        tested = test()
        found = None if tested is None else tested.as_record()
    whole = Manifest(now.decides, {**manifest.facts, JUDGE_TEST: found})
    if not ({PRECISION, *known} <= set(decided) and {ROWS, JUDGE_TEST} <= set(facts)):
        write_json(path, {"decides": whole.decides, "facts": whole.facts})
    return whole
