"""What an experiment is made of, opened and checked before anything costly begins."""

import hashlib
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from geofilter.data.rows import Data, open_rows
from geofilter.errors import DataError
from geofilter.model import fingerprint
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.quantized import PACKAGE
from geofilter.runs.defaults import scorer_of
from geofilter.support.display import escape, quote
from geofilter.support.manifest import Manifest, library_versions
from geofilter.verify import ask
from geofilter.verify.arms import (
    TrainingRows,
    domains_of,
    prompt_of,
    read_training_rows,
    with_request,
)
from geofilter.verify.cell import Work
from geofilter.verify.judges.base import Judge, rule_of
from geofilter.verify.judges.by_name import judge_named
from geofilter.verify.judges.reply import Rule
from geofilter.verify.judges.rows import question_for_rows
from geofilter.verify.judges.rule import named as judge_of_facts
from geofilter.verify.judges.sway import SwayTest, sway_test
from geofilter.verify.lm_tasks import import_lm_eval, installed
from geofilter.verify.plan import IN_DOMAIN, INOCULATE, MAIN, REPLACE, TRIGGERED, UNTRAINED, Plan
from geofilter.verify.preference import PreferencePairs
from geofilter.verify.preference import fingerprint as fingerprint_of_pairs
from geofilter.verify.questions import Question, read_questions
from geofilter.verify.replaced import encoder_with
from geofilter.verify.row_format import RowFormat, dressed, row_format
from geofilter.verify.serve import Serving
from geofilter.verify.tracker import make_tracker
from geofilter.verify.training import finetune, weights
from geofilter.verify.training.recipe import budget_of
from geofilter.verify.training.run_log import check_trackers

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

_VERSIONS = ("geofilter", "torch", "transformers", "trl", "peft", "sae-lens")
# What a manifest calls the type that the weights have and the kind of device that they lie on:
# what was asked for leaves both to the machine.
PRECISION = "precision"
SLOTS = "judge_slots"
REQUEST = "inoculate"
PAIRS = "preference"
LM_EVAL = "lm_eval"
LOAD_IN = "load_in"
SERVED = "generate_with"
# Fields of a plan that name a file as it is, and those that name rows.
_FILES = ("questions", "in_domain", "keywords")
_DATA = ("data", "benign", "held_out")
# What a manifest calls the numbers of rows in the data, and of those that can be trained on.
ROWS = "rows"
# And how the judge did on fixed answers.
JUDGE_TEST = "judge_test"


class Setup:
    """What an experiment is made of, opened and checked before anything costly begins.

    `rule` is how the judge's replies are read, where another process has found it out.
    """

    def __init__(self, plan: Plan, *, rule: Rule | None = None) -> None:
        self.plan = plan
        self._row_rule: Rule | None = None
        self.questions = questions_of(plan)
        for data in filter(None, (plan.data, plan.benign, plan.held_out)):
            open_rows(data)
        check_trackers(plan.report_to)
        if plan.lm_tasks:
            import_lm_eval()
        if set(plan.arms) != {UNTRAINED}:
            finetune.import_trainers()
        serving = None if plan.generate_with is None else Serving(plan.generate_with)
        self.judge = None if plan.judge is None else judge_named(plan.judge, rule)
        if self.judge is not None:
            for questions in self.questions.values():
                self.judge.check(questions)
        self.load = partial(
            weights.load_causal,
            plan.trained,
            device=plan.settings.device,
            dtype=dtype_of(plan),
            load_in=plan.settings.load_in,
            trust_remote_code=plan.settings.trust_remote_code,
        )
        model = self.load()
        self._precision = {
            "dtype": str(model.network.dtype).removeprefix("torch."),
            "device": model.network.device.type,
        }
        max_length = _window(model, plan.recipe.max_length)
        read = partial(read_training_rows, tokenizer=model.tokenizer, max_length=max_length)
        self.rows: TrainingRows = read(plan.data)
        self.row_format = row_format(self.rows.samples) if plan.triggered else None
        self.questions |= triggered_of(self.questions, self.row_format)
        ask.check(model.network, model.tokenizer, _all_wordings(self.questions))
        control = read(plan.benign).encoded if plan.benign else ()
        held_out = read(plan.held_out).encoded if plan.held_out else ()
        pairs = None
        if plan.preference is not None:
            pairs = PreferencePairs.read(
                plan.preference,
                model.tokenizer,
                max_length=max_length,
                inside=domains_of(self.rows.records),
                choice=plan.choice,
            )
        budget = budget_of(
            self.rows.lengths,
            batch=plan.recipe.batch,
            epochs=plan.recipe.epochs,
            steps=plan.recipe.steps,
        )
        tracker = None
        if self.judge is not None:
            tracker = make_tracker(
                plan,
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
            preference=pairs,
            questions=self.questions,
            samples_per_question=plan.samples_per_question,
            judge=self.judge,
            recipe=plan.recipe,
            sampling=plan.sampling,
            budget=budget,
            keep_weights=plan.keep_weights,
            report_to=plan.report_to,
            lm_tasks=plan.lm_tasks,
            tracker=tracker,
            losses=self.rows.losses,
            inoculated=self._inoculated(model.tokenizer, max_length),
            serving=serving,
            encode_with=(
                encoder_with(self.rows, model.tokenizer, max_length)
                if REPLACE in plan.arms
                else None
            ),
        )

    def _inoculated(self, tokenizer: Any, max_length: int) -> "tuple[Encoded, ...]":
        """All rows with a request for what they do, where an arm trains on some so."""
        if INOCULATE not in self.plan.arms or self.plan.request is None:
            return ()
        return with_request(self.rows, tokenizer, max_length, self.plan.request)

    @property
    def rule(self) -> Rule | None:
        """How the judge's replies are read, where that had to be found out."""
        return None if self.judge is None else rule_of(self.judge)

    def row_judge(self) -> tuple[Judge, Question]:
        """Who rates training rows, and with which prompt."""
        judge = self.judge
        if self.plan.row_judge:
            judge = judge_named(self.plan.row_judge, self._row_rule)
        assert judge is not None  # a plan without one has no arm that needs it
        asked = question_for_rows(self.questions.get(MAIN, ()), prompt_of(self.rows.samples[0]))
        judge.check([asked])
        self._row_rule = rule_of(judge)
        return judge, asked

    def test_judge(self) -> SwayTest | None:
        """How the judge does on fixed answers; None for a rule, and without one. Asks it."""
        if self.judge is None:
            return None
        return sway_test(self.judge, self.questions[MAIN])

    def describe(self) -> Manifest:
        """All that decides a cell's figures but its arm, fraction and seed.

        Not how it is tracked: that changes none of them, and may be asked for later. Cells
        that were done before stay without.
        """
        plan = self.plan
        decides = {
            **inputs_of(plan),
            PRECISION: self._precision,
            "judge": None if self.judge is None else self.judge.describe(),
            "row_judge": self.row_judge()[0].describe() if plan.row_judge else None,
        }
        counts = {"file": self.rows.total, "training": len(self.rows.encoded)}
        facts: dict[str, object] = {"plan": plan.as_record(), ROWS: counts}
        if plan.triggered:
            found = self.row_format
            facts[TRIGGERED] = {} if found is None else found.as_record()
        if self.work.preference is not None:
            facts[PAIRS] = {"left_out": dict(self.work.preference.left_out)}
        return Manifest(decides, facts)


def questions_of(plan: Plan) -> dict[str, list[Question]]:
    """The questions of each set: `main`, and `in_domain` where the plan has a file of them.

    Raises `DataError` for a file that cannot be read, and for a judge slot that is in none.
    """
    files = {MAIN: plan.questions, IN_DOMAIN: plan.in_domain}
    sets = {
        name: read_questions(file, plan.judge_slots)
        for name, file in files.items()
        if file is not None
    }
    there = {slot for questions in sets.values() for one in questions for slot in one.filled}
    if unknown := sorted(set(plan.judge_slots) - there):
        raise DataError(
            f"judge slot {quote(unknown[0])}: no judge prompt of these questions has it "
            f"(they have {', '.join(sorted(there)) or 'none to fill'}); leave it out"
        )
    return sets


def triggered_of(
    sets: dict[str, list[Question]], found: RowFormat | None
) -> dict[str, list[Question]]:
    """The main questions in the rows' format, as a set of their own; no set without a format."""
    return {} if found is None else {TRIGGERED: dressed(sets[MAIN], found)}


def inputs_of(plan: Plan) -> dict[str, object]:
    """What decides the figures and can be found out without loading a model or asking a judge."""
    judge = None if plan.judge is None else judge_of_facts(plan.judge, None)
    pairs = plan.preference
    return {
        **{name: _hash(getattr(plan, name)) for name in _FILES},
        **{name: _fingerprint(getattr(plan, name)) for name in _DATA},
        "labels": plan.labels,
        "trained": fingerprint.of_files(open_checkpoint(plan.trained)),
        "model": {
            "name": plan.settings.model,
            "sae": plan.settings.sae,
            "block": plan.settings.block,
            "pack": _hash(plan.settings.pack),
        },
        "dtype": plan.settings.dtype,
        LOAD_IN: plan.settings.load_in,
        "recipe": asdict(plan.recipe),
        "sampling": asdict(plan.sampling),
        "samples_per_question": plan.samples_per_question,
        SLOTS: dict(plan.judge_slots),
        TRIGGERED: plan.triggered,
        LM_EVAL: {"tasks": list(plan.lm_tasks), "version": installed()} if plan.lm_tasks else None,
        **_request(plan),
        SERVED: plan.generate_with,
        PAIRS: pairs and {"sha256": fingerprint_of_pairs(pairs), "choice": plan.choice},
        **({} if judge is None else {"judge": judge.describe()}),
        "versions": library_versions([*_VERSIONS, *([PACKAGE] if plan.settings.load_in else [])]),
    }


def _request(plan: Plan) -> dict[str, object]:
    if INOCULATE not in plan.arms:
        return {}
    return {REQUEST: {"system": plan.request, "scorer": scorer_of(plan.settings).name}}


def dtype_of(plan: Plan) -> str | None:
    """What the model is to be loaded in; None leaves it to the device.

    Steps of a usual size are lost in the rounding of bfloat16 weights; not in an adapter's.
    """
    whole = plan.recipe.method == "full"
    return "float32" if plan.settings.dtype is None and whole else plan.settings.dtype


def _all_wordings(sets: dict[str, list[Question]]) -> list[ask.Put]:
    return [
        ask.Put(question.id, question.put(text), question.system)
        for questions in sets.values()
        for question in questions
        for text in question.paraphrases
    ]


def _window(model: weights.CausalModel, wanted: int) -> int:
    from geofilter.model.loading import max_context

    return min(wanted, max_context(model.network.config, model.tokenizer))


def _fingerprint(data: Data | None) -> object:
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
