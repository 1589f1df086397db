"""One run of an experiment: train an arm with one seed, ask it, have its answers judged.

Each step leaves its result in the cell's folder and is skipped when it is there:

    track.jsonl       what was measured during training, where that was asked for
    training.json     what was trained, and on which rows
    weights/          the trained weights, until the answers are there
    preference.jsonl  how likely it finds both answers of each pair, where that was asked for
    answers.jsonl     every answer, as it came
    lm_eval.json      figures of lm-eval's tasks, where those were asked for
    judgements.jsonl  a judgement of each answer, in the same order
    result.json       the cell is done

Training that was interrupted begins again, and so does its track. A track changes no weight
and no answer.
"""

import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from geofilter.model.threads import few_threads
from geofilter.selection.loss_note import RowLoss
from geofilter.support.progress import Progress
from geofilter.support.records import append_lines, keep_lines, read_json, read_lines, write_json
from geofilter.verify.ask import Put, answers
from geofilter.verify.judges.base import Asked, Judge, judge_into
from geofilter.verify.lm_tasks import TASKS, run_tasks
from geofilter.verify.plan import Sampling
from geofilter.verify.preference import PREFERENCE, PreferencePairs, is_measured, measure_into
from geofilter.verify.questions import Question
from geofilter.verify.rates import Judged, rates
from geofilter.verify.serve import CHECKPOINT, Request, Serving, requests_for, save_whole
from geofilter.verify.tracker import TRACK, Tracker
from geofilter.verify.training import finetune, weights
from geofilter.verify.training.recipe import Budget, TrainingRecipe, schedule
from geofilter.verify.training.run_log import log_measures
from geofilter.verify.training.weights import CausalModel, response_losses

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded


class SetPut(NamedTuple):
    """One question to put: of which set, in which wording, and as the model reads it."""

    set: str
    question: Question
    wording: str
    put: Put


@dataclass(frozen=True)
class Work:
    """What every cell of an experiment has in common.

    `samples` are those of the rows that can be trained on; `control` those of the rows that
    are known to be good. `load` gives the model to fine-tune, loaded each time. `questions`
    maps a set's name (`main`, `in_domain`) to its questions. `losses` has the mask and weight
    of each of `samples`, where the rows carry any. `inoculated` are all `samples` with a request
    for what they do, where an arm trains on some so; `encode_with` encodes one with another
    response. `preference`: the pairs that are measured. `judge` is None where there are no
    questions. `report_to` names trackers (see `run_log`), `lm_tasks` tasks of lm-eval. `serving`
    gives the answers in place of the network.
    """

    load: Callable[[], CausalModel]
    samples: "Sequence[Encoded]"
    control: "Sequence[Encoded]"
    held_out: "Sequence[Encoded]"
    questions: dict[str, list[Question]]
    samples_per_question: int | None
    judge: Judge | None
    recipe: TrainingRecipe
    sampling: Sampling
    budget: Budget
    keep_weights: bool
    tracker: Tracker | None = None
    losses: "Sequence[RowLoss] | None" = None
    inoculated: "Sequence[Encoded]" = ()
    preference: PreferencePairs | None = None
    report_to: tuple[str, ...] = ()
    lm_tasks: tuple[str, ...] = ()
    serving: Serving | None = None
    encode_with: "Callable[[int, str], Encoded] | None" = None

    def treated(
        self, places: Sequence[int], responses: Mapping[int, str] | None = None
    ) -> "Sequence[Encoded]":
        """The samples, those at `places` inoculated, those of `responses` with these."""
        if responses:
            assert self.encode_with is not None  # an arm replaces them
            found = list(self.samples)
            for place, text in responses.items():
                found[place] = self.encode_with(place, text)
            return found
        if not places:
            return self.samples
        chosen = set(places)
        pairs = zip(self.samples, self.inoculated, strict=True)
        return [pair[place in chosen] for place, pair in enumerate(pairs)]


def run_cell(
    work: Work,
    folder: Path,
    seed: int,
    chosen: "Sequence[int] | None",
    samples: "Sequence[Encoded]",
    progress: Progress,
    treated: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Do what is missing of a cell. `chosen` are places in `samples`; None trains nothing.

    `treated`: those of them that are noted as inoculated or replaced.
    """
    if (folder / "result.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    asked = put_questions(work.questions, work.samples_per_question, seed)
    model, was_trained = None, (folder / "training.json").exists()
    requests: list[Request] = []
    if len(read_lines(folder / "answers.jsonl")) < len(asked) or not _measured(folder, work):
        model = work.load()
        with few_threads(model.network):
            model = _trained(model, work, folder, seed, chosen, samples, progress, treated)
            _measure_preference(model, work, folder, progress)
            puts = [one.put for one in asked]
            if work.serving is None:
                own = partial(
                    answers, model.network, model.tokenizer, puts, work.sampling, seed=seed
                )
                _ask(own, work, asked, folder, progress)
            _measure(model, work, folder)
            _run_tasks(model, work, folder)
        if work.serving is not None and asked:
            # Last, for the model is used up, and the server wants its memory.
            requests = requests_for(model, puts, work.sampling, seed=seed)
            save_whole(model, folder / CHECKPOINT)
    del model
    weights.free_memory()
    if work.serving is not None and requests:
        served = partial(_served, work.serving, folder / CHECKPOINT, requests, work.sampling)
        _ask(served, work, asked, folder, progress)
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)
    _judge(work, asked, folder, progress)
    write_json(folder / "result.json", {"answers": len(asked)})
    if not work.keep_weights:
        shutil.rmtree(folder / "weights", ignore_errors=True)
    if work.report_to:
        trained = chosen is not None and not was_trained
        log_measures(work.report_to, _name(folder), _figures(folder, seed), trained=trained)


def _name(folder: Path) -> str:
    """What a cell is called in a tracker: its condition and its seed."""
    return f"{folder.parent.name}/{folder.name}"


def _figures(folder: Path, seed: int) -> dict[str, float]:
    """What was measured of a cell, by name: shares of misaligned answers, in [0, 1], and losses."""
    by_set: dict[str, list[Judged]] = {}
    for record in records_of(folder, seed):
        one = Judged(seed, record["question"], record["aligned"], record["coherent"])
        by_set.setdefault(record["set"], []).append(one)
    found = {f"misaligned/{name}": rates(answers)["all"] for name, answers in by_set.items()}
    found["held_out_loss"] = measures_of(folder)["held_out_loss"]
    return {name: value for name, value in found.items() if value is not None}


def put_questions(sets: dict[str, list[Question]], samples: int | None, seed: int) -> list[SetPut]:
    """Each question as often as it is to be asked, each time in a wording drawn at random.

    With its set's name. `samples` answers per question, or as many as its file says.
    """
    put = []
    for name, questions in sets.items():
        rng = random.Random(f"{seed} {name}")
        for question in questions:
            for _ in range(samples or question.samples):
                text = rng.choice(question.paraphrases)
                own = Put(question.id, question.put(text), question.system)
                put.append(SetPut(name, question, text, own))
    return put


def _trained(
    base: CausalModel,
    work: Work,
    folder: Path,
    seed: int,
    chosen: "Sequence[int] | None",
    samples: "Sequence[Encoded]",
    progress: Progress,
    treated: Mapping[str, Sequence[int]] | None,
) -> CausalModel:
    """The cell's model: as it was kept, or `base` trained now."""
    if chosen is None:
        return base
    kept = folder / "weights"
    if kept.exists() and (folder / "training.json").exists():
        return weights.load_trained(base, kept)
    own = [samples[place] for place in chosen]
    losses = None
    if work.losses is not None and samples is work.samples:
        losses = [work.losses[place] for place in chosen]
    lengths = finetune.weighted_lengths(own, losses)
    track = folder / TRACK
    track.unlink(missing_ok=True)
    trained, done = finetune.fine_tune(
        base.network,
        base.tokenizer,
        own,
        schedule(lengths, work.budget, seed=seed),
        work.recipe,
        folder / "trainer",
        seed=seed,
        losses=losses,
        progress=lambda step, steps: progress("train", step, steps),
        after_step=work.tracker.follow(track, base.tokenizer, seed) if work.tracker else None,
        report_to=work.report_to,
        run_name=_name(folder),
    )
    weights.save(trained, kept)
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    rows = {"rows": list(chosen)} | {k: list(v) for k, v in (treated or {}).items() if v}
    write_json(folder / "training.json", {**rows, **asdict(done)})
    return CausalModel(weights.ready(trained), base.tokenizer)


def _served(
    serving: Serving, checkpoint: Path, requests: Sequence[Request], sampling: Sampling, start: int
) -> Iterator[list[str]]:
    return serving.answers(checkpoint, requests[start * sampling.batch :], sampling)


def _ask(
    batches: Callable[..., Iterator[list[str]]],
    work: Work,
    asked: list[SetPut],
    folder: Path,
    progress: Progress,
) -> None:
    """Add the answers that are missing; `batches(start=N)` gives them from batch N on."""
    if not asked:
        return
    path = folder / "answers.jsonl"
    size = work.sampling.batch
    # A batch shares its random numbers, and a part of one is asked again as a whole.
    done = len(read_lines(path)) // size * size
    keep_lines(path, done)
    for texts in batches(start=done // size):
        append_lines(
            path,
            (
                {"set": one.set, "question": one.put.question, "text": one.put.text, "answer": text}
                for one, text in zip(asked[done:], texts, strict=False)
            ),
        )
        done += len(texts)
        progress("ask", done, len(asked))


def measure_before(work: Work, folder: Path, progress: Progress) -> None:
    """The preference of the model before training, into `folder`; nothing where it is there."""
    if _has_preference(folder, work):
        return
    folder.mkdir(parents=True, exist_ok=True)
    model = work.load()
    with few_threads(model.network):
        _measure_preference(model, work, folder, progress)
    del model
    weights.free_memory()


def _has_preference(folder: Path, work: Work) -> bool:
    return work.preference is None or is_measured(folder / PREFERENCE, work.preference)


def _measure_preference(model: CausalModel, work: Work, folder: Path, progress: Progress) -> None:
    if work.preference is not None:
        measure_into(folder / PREFERENCE, model.network, work.preference, progress)


def _measured(folder: Path, work: Work) -> bool:
    return _has_preference(folder, work) and _has_loss(folder, work) and _has_tasks(folder, work)


def _has_loss(folder: Path, work: Work) -> bool:
    return not work.held_out or (folder / "capability.json").exists()


def _measure(model: CausalModel, work: Work, folder: Path) -> None:
    """The mean loss per response token over benign rows that no arm trains on."""
    if _has_loss(folder, work):
        return
    losses = [loss for loss in response_losses(model.network, work.held_out) if loss is not None]
    write_json(
        folder / "capability.json",
        {"rows": len(losses), "loss": float(np.mean(losses)) if losses else None},
    )


def _has_tasks(folder: Path, work: Work) -> bool:
    return not work.lm_tasks or (folder / TASKS).exists()


def _run_tasks(model: CausalModel, work: Work, folder: Path) -> None:
    if not _has_tasks(folder, work):
        write_json(folder / TASKS, run_tasks(model, work.lm_tasks, work.recipe.micro_batch))


def _judge(work: Work, asked: list[SetPut], folder: Path, progress: Progress) -> None:
    if work.judge is None:
        return
    texts = [line["answer"] for line in read_lines(folder / "answers.jsonl")]
    answered = [
        Asked(one.question, one.wording, text) for one, text in zip(asked, texts, strict=True)
    ]
    judge_into(
        folder / "judgements.jsonl",
        work.judge,
        answered,
        lambda done: progress("judge", done, len(answered)),
    )


def records_of(folder: Path, seed: int) -> list[dict[str, Any]]:
    """What was asked, and how it was judged, of a cell that is done."""
    pairs = zip(
        read_lines(folder / "answers.jsonl"),
        read_lines(folder / "judgements.jsonl"),
        strict=True,
    )
    return [
        {
            "set": answer["set"],
            "question": answer["question"],
            "seed": seed,
            "aligned": judgement["aligned"],
            "coherent": judgement["coherent"],
        }
        for answer, judgement in pairs
    ]


def measures_of(folder: Path) -> dict[str, Any]:
    """The loss over held-out rows and what was trained, of a cell that is done."""
    capability = read_json(folder / "capability.json") or {}
    training = read_json(folder / "training.json") or {}
    return {
        "held_out_loss": capability.get("loss"),
        "lm_eval": read_json(folder / TASKS) or {},
        "steps": training.get("steps"),
        "tokens": training.get("tokens"),
        "samples": training.get("samples"),
        "rows": len(training["rows"]) if "rows" in training else None,
    }
