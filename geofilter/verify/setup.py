"""What an experiment is made of, opened and checked before anything costly begins.

This module runs no cell and knows nothing about rates.
"""

import hashlib
from dataclasses import asdict
from functools import partial

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from geofilter.model import fingerprint
from geofilter.model.checkpoint import open_checkpoint
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, library_versions
from geofilter.verify import ask
from geofilter.verify.arms import TrainingRows, read_training_rows
from geofilter.verify.cell import Work
from geofilter.verify.judges.base import Judge, Rule, rule_of
from geofilter.verify.judges.by_name import judge_named
from geofilter.verify.plan import UNTRAINED, Plan
from geofilter.verify.questions import Question, read_questions
from geofilter.verify.tracker import make_tracker
from geofilter.verify.training import finetune, weights
from geofilter.verify.training.recipe import budget_of

_VERSIONS = ("geofilter", "torch", "transformers", "trl", "peft", "sae-lens")
MAIN, IN_DOMAIN = "main", "in_domain"
# What a manifest calls the type that the weights have and the kind of device that they lie on:
# what was asked for leaves both to the machine.
PRECISION = "precision"
# Fields of a plan that name a file as it is, and those that name rows.
_FILES = ("questions", "in_domain", "keywords")
_ROWS = ("data", "benign", "held_out")


class Setup:
    """What an experiment is made of, opened and checked before anything costly begins.

    `rule` is how the judge's replies are read, where another process has found it out.
    """

    def __init__(self, experiment: Plan, *, rule: Rule | None = None) -> None:
        self.plan = experiment
        self._row_rule: Rule | None = None
        self.questions = {MAIN: read_questions(experiment.questions)}
        if experiment.in_domain is not None:
            self.questions[IN_DOMAIN] = read_questions(experiment.in_domain)
        for data in filter(None, (experiment.data, experiment.benign, experiment.held_out)):
            open_rows(data)
        if set(experiment.arms) != {UNTRAINED}:
            finetune.import_trainers()
        self.judge = judge_named(experiment.judge, rule)
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
        self._precision = {
            "dtype": str(model.network.dtype).removeprefix("torch."),
            "device": model.network.device.type,
        }
        ask.check(model.network, model.tokenizer, _all_wordings(self.questions))
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

    @property
    def rule(self) -> Rule | None:
        """How the judge's replies are read, where that had to be found out."""
        return rule_of(self.judge)

    def row_judge(self) -> tuple[Judge, Question]:
        """Who rates training rows, and with which prompts."""
        judge = self.judge
        if self.plan.row_judge:
            judge = judge_named(self.plan.row_judge, self._row_rule)
        first = self.questions[MAIN][0]
        judge.check([first])
        self._row_rule = rule_of(judge)
        return judge, first

    def describe(self) -> Manifest:
        """All that decides a cell's figures but its arm, fraction and seed.

        Not how it is tracked: that changes none of them, and may be asked for later. Cells
        that were done before stay without.
        """
        experiment = self.plan
        decides = {
            **{name: _hash(getattr(experiment, name)) for name in _FILES},
            **{name: _fingerprint(getattr(experiment, name)) for name in _ROWS},
            "labels": experiment.labels,
            "trained": fingerprint.of_files(open_checkpoint(experiment.trained)),
            "model": {
                "name": experiment.model,
                "sae": experiment.sae,
                "block": experiment.block,
                "pack": _hash(experiment.pack),
            },
            "dtype": experiment.dtype,
            PRECISION: self._precision,
            "recipe": asdict(experiment.recipe),
            "sampling": asdict(experiment.sampling),
            "samples_per_question": experiment.samples_per_question,
            "judge": self.judge.describe(),
            "row_judge": self.row_judge()[0].describe() if experiment.row_judge else None,
            "versions": library_versions(_VERSIONS),
        }
        return Manifest(decides, {"plan": asdict(experiment)})


def _dtype(experiment: Plan) -> str | None:
    """Steps of a usual size are lost in the rounding of bfloat16 weights; not in an adapter's."""
    whole = experiment.recipe.method == "full"
    return "float32" if experiment.dtype is None and whole else experiment.dtype


def _all_wordings(sets: dict[str, list[Question]]) -> list[ask.Put]:
    return [
        ask.Put(question.id, text, question.system)
        for questions in sets.values()
        for question in questions
        for text in question.paraphrases
    ]


def _window(model: weights.CausalModel, wanted: int) -> int:
    from geofilter.model.loading import max_context

    return min(wanted, max_context(model.network.config, model.tokenizer))


def _fingerprint(data: str | None) -> object:
    return None if data is None else open_rows(data).fingerprint()


def _hash(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        shown = escape(path, limit=200)
        raise DataError(f"{shown}: cannot be read: {error.strerror or error}") from error
