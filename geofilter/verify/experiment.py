"""Arms × seeds: choose rows, train, ask and judge every cell, and collect what came out.

Everything lies in one folder. A cell that is done is never run again, and arms, fractions
and seeds may be added later; whatever else decides a figure must stay as it was.

This module knows nothing about rates or how results are shown.
"""

import contextlib
import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from geofilter.errors import DataError, OutputError
from geofilter.exclusive import hold
from geofilter.manifest import Manifest, difference, library_versions
from geofilter.rows import open_rows
from geofilter.terminal import escape
from geofilter.verify import finetune, generate, weights
from geofilter.verify import plan as arms
from geofilter.verify.cell import Work, measures_of, records_of, run_cell
from geofilter.verify.judge import Judge
from geofilter.verify.judges import judge_named
from geofilter.verify.plan import Cell, Plan
from geofilter.verify.questions import Question, read_questions
from geofilter.verify.records import read_json, write_json
from geofilter.verify.rows import ArmScores, TrainingRows, read_training_rows
from geofilter.verify.schedule import Budget, budget_of
from geofilter.verify.track import make_tracker

_VERSIONS = ("geofilter", "torch", "transformers", "trl", "peft", "sae-lens")
MAIN, IN_DOMAIN = "main", "in_domain"
# Called with what is being done, how much of it is done, and how much there is if known.
Report = Callable[[str, int, int | None], None]


class CellResult(NamedTuple):
    """A cell that is done: a record for each answer, and what was measured beside them."""

    cell: Cell
    records: list[dict[str, Any]]
    measures: dict[str, Any]


class Outcome(NamedTuple):
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
) -> Outcome:
    """Run every cell of `experiment` that is not done yet in `folder`, and read all of them.

    `ready` is called when all is opened and checked, before anything costly begins.

    With several `workers`, cells run side by side, each process with a device of its own
    where there are several. Raises `OutputError` for a folder that is in use or of another
    experiment, and what reading, scoring, training and judging raise.
    """
    told = report or (lambda phase, done, total: None)
    folder = Path(folder)
    _make(folder)
    with _held(folder):
        parts = _Parts(experiment)
        manifest = parts.describe()
        choose = ArmScores(experiment, parts.rows, folder, parts.load, parts.row_judge, told).chosen
        _refuse_other(folder, manifest)
        if ready is not None:
            ready()
        open_cells = [cell for cell in experiment.cells() if not _is_done(folder, cell)]
        jobs = [(cell, choose(cell)) for cell in open_cells]
        told("cells", 0, len(jobs))
        if workers > 1 and len(jobs) > 1:
            _run_side_by_side(experiment, folder, jobs, workers, told)
        else:
            _run_in_turn(parts, folder, jobs, told)
        cells = [
            CellResult(
                cell,
                records_of(folder / "arms" / cell.name, cell.seed),
                measures_of(folder / "arms" / cell.name),
            )
            for cell in experiment.cells()
        ]
    rows = parts.rows
    return Outcome(cells, manifest, rows.total, len(rows.encoded), parts.work.budget)


class _Parts:
    """What an experiment is made of, opened and checked before anything costly begins."""

    def __init__(self, experiment: Plan) -> None:
        self.plan = experiment
        self.questions = {MAIN: read_questions(experiment.questions)}
        if experiment.in_domain is not None:
            self.questions[IN_DOMAIN] = read_questions(experiment.in_domain)
        for data in filter(None, (experiment.data, experiment.benign, experiment.held_out)):
            open_rows(data)
        if set(experiment.arms) != {arms.UNTRAINED}:
            finetune.import_trainers()
        self.judge = judge_named(experiment.judge)
        for questions in self.questions.values():
            self.judge.check(questions)
        self.load = partial(
            weights.load_causal,
            experiment.trained,
            device=experiment.device,
            dtype=_dtype(experiment),
            trust_remote_code=experiment.trust_remote_code,
        )
        model = self.load()
        generate.check(model.network, model.tokenizer, _all_wordings(self.questions))
        max_length = _window(model, experiment.recipe.max_length)
        read = partial(read_training_rows, tokenizer=model.tokenizer, max_length=max_length)
        self.rows: TrainingRows = read(experiment.data)
        control = read(experiment.benign).encoded if experiment.benign else ()
        held_out = read(experiment.held_out).encoded if experiment.held_out else ()
        budget = budget_of(
            self.rows.lengths,
            batch=experiment.recipe.batch,
            epochs=experiment.recipe.epochs,
            steps=experiment.recipe.steps,
        )
        tracker = make_tracker(
            experiment,
            self.rows.source,
            model.network.config,
            self.questions[MAIN],
            held_out,
            judge=self.judge,
            max_length=max_length,
            steps=budget.steps,
        )
        self.work = Work(
            load=self.load,
            samples=self.rows.encoded,
            control=control,
            held_out=held_out,
            questions=self.questions,
            samples_per_question=experiment.samples_per_question,
            judge=self.judge,
            recipe=experiment.recipe,
            sampling=experiment.sampling,
            budget=budget,
            keep_weights=experiment.keep_weights,
            tracker=tracker,
            losses=self.rows.losses,
        )

    def row_judge(self) -> tuple[Judge, Question]:
        """Who rates training rows, and with which prompts."""
        judge = judge_named(self.plan.row_judge) if self.plan.row_judge else self.judge
        first = self.questions[MAIN][0]
        judge.check([first])
        return judge, first

    def describe(self) -> Manifest:
        """All that decides a cell's figures but its arm, fraction and seed.

        Not how it is tracked: that changes none of them, and may be asked for later. Cells
        that were done before stay without.
        """
        experiment = self.plan
        files = {
            name: _hash(value) if value is not None else None
            for name, value in {
                "questions": experiment.questions,
                "in_domain": experiment.in_domain,
                "keywords": experiment.keywords,
            }.items()
        }
        data = {
            name: open_rows(value).fingerprint() if value is not None else None
            for name, value in {
                "data": experiment.data,
                "benign": experiment.benign,
                "held_out": experiment.held_out,
            }.items()
        }
        decides = {
            **files,
            **data,
            "labels": experiment.labels,
            "trained": weights.identity(experiment.trained),
            "model": {
                "name": experiment.model,
                "sae": experiment.sae,
                "block": experiment.block,
                "pack": _hash(experiment.pack) if experiment.pack else None,
            },
            "dtype": experiment.dtype,
            "recipe": asdict(experiment.recipe),
            "sampling": asdict(experiment.sampling),
            "samples_per_question": experiment.samples_per_question,
            "judge": self.judge.describe(),
            "row_judge": experiment.row_judge,
            "versions": library_versions(_VERSIONS),
        }
        return Manifest(decides, {"plan": asdict(experiment)})


def _dtype(experiment: Plan) -> str | None:
    """Steps of a usual size are lost in the rounding of bfloat16 weights; not in an adapter's."""
    whole = experiment.recipe.method == "full"
    return "float32" if experiment.dtype is None and whole else experiment.dtype


def _all_wordings(sets: dict[str, list[Question]]) -> list[generate.Put]:
    return [
        generate.Put(question.id, text, question.system)
        for questions in sets.values()
        for question in questions
        for text in question.paraphrases
    ]


def _window(model: weights.CausalModel, wanted: int) -> int:
    from geofilter.models import max_context

    return min(wanted, max_context(model.network.config, model.tokenizer))


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        shown = escape(path, limit=200)
        raise DataError(f"{shown}: cannot be read: {error.strerror or error}") from error


def _is_done(folder: Path, cell: Cell) -> bool:
    return (folder / "arms" / cell.name / "result.json").exists()


def _samples_of(work: Work, cell: Cell, chosen: list[int] | None) -> tuple[Any, list[int] | None]:
    """What a cell trains on: the control has rows of its own, all of them."""
    if cell.arm == arms.CONTROL:
        return work.control, list(range(len(work.control)))
    return work.samples, chosen


def _run_one(
    work: Work, folder: Path, cell: Cell, chosen: list[int] | None, report: Report
) -> None:
    samples, places = _samples_of(work, cell, chosen)
    run_cell(
        work,
        folder / "arms" / cell.name,
        cell.seed,
        places,
        samples,
        lambda what, done, total: report(f"{cell.name}: {what}", done, total),
    )


def _run_in_turn(
    parts: _Parts, folder: Path, jobs: list[tuple[Cell, list[int] | None]], told: Report
) -> None:
    for cell, chosen in jobs:
        _run_one(parts.work, folder, cell, chosen, told)


def _run_side_by_side(
    experiment: Plan,
    folder: Path,
    jobs: list[tuple[Cell, list[int] | None]],
    workers: int,
    told: Report,
) -> None:
    devices = _devices(experiment.device)
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for place in range(workers):
        places.put(place)
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(
        workers, context, _begin, (experiment, folder, devices, threads, places)
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


def _begin(experiment: Plan, folder: Path, devices: list[str], threads: int, places: Any) -> None:
    """Make a worker process ready: its own device, threads and model."""
    global _there
    torch.set_num_threads(threads)
    device = devices[places.get() % len(devices)]
    _there = _Parts(replace(experiment, device=device)).work, folder


def _run_there(cell: Cell, chosen: list[int] | None) -> None:
    assert _there is not None
    work, folder = _there
    _run_one(work, folder, cell, chosen, lambda what, done, total: None)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lock").touch()
    except OSError as error:
        raise OutputError(
            f"{escape(str(folder), limit=200)}: cannot be written: {error.strerror or error}; "
            "choose another folder with -o"
        ) from error


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep a second process out of the folder."""
    with (folder / "lock").open("w") as lock:
        try:
            hold(lock.fileno(), wait=False)  # where nothing can be locked, it still works
        except BlockingIOError:
            raise OutputError(
                f"{escape(str(folder), limit=200)}: another process works in this folder; "
                "wait for it or choose another with -o"
            ) from None
        try:
            yield
        finally:
            # Of a plan that could not be begun nothing is left.
            if os.listdir(folder) == ["lock"]:
                (folder / "lock").unlink()
                folder.rmdir()


def _refuse_other(folder: Path, manifest: Manifest) -> None:
    path = folder / "plan.json"
    kept = read_json(path)
    if kept is None:
        write_json(path, {"decides": manifest.decides, "facts": manifest.facts})
        return
    before = Manifest(kept["decides"], kept.get("facts", {}))
    if before.hash != manifest.hash:
        raise OutputError(
            f"{escape(str(folder), limit=200)}: holds another experiment "
            f"({'; '.join(difference(before, manifest))}); choose another folder with -o"
        )
