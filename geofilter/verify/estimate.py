"""What an experiment will cost before anything of it runs: steps, answers, judge calls, tokens.

Those are counted. Memory and disk are computed from the network's shape, and time from how fast
this device is (see `speed`). The rows are read and no weights are, and no judge is asked.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from geofilter.data.rows import open_rows
from geofilter.errors import GeofilterError
from geofilter.model import loading
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.chosen import find_device, find_dtype
from geofilter.runs.defaults import scorer_of
from geofilter.runs.estimate import estimate as estimate_scoring
from geofilter.scoring.scorers import SCORERS
from geofilter.selection.replacing import ATTEMPTS
from geofilter.support.display import escape
from geofilter.support.progress import Progress, no_progress
from geofilter.verify.arms import TrainingRows, domains_of, read_training_rows
from geofilter.verify.ask import Put, prompt_ids
from geofilter.verify.cost import ArmCost, Span, StudyCost
from geofilter.verify.judges.endpoint import REPLY_TOKENS
from geofilter.verify.judges.rows import question_for_rows
from geofilter.verify.judges.sway import CASES
from geofilter.verify.plan import (
    CONTROL,
    INOCULATE,
    JUDGE,
    LENGTH_MATCHED,
    LOSS,
    MAIN,
    MATCHED_TO,
    REPLACE,
    UNTRAINED,
    Cell,
    Plan,
)
from geofilter.verify.preference import PreferencePairs
from geofilter.verify.questions import ASPECTS, Question
from geofilter.verify.room import peak_bytes, saved_bytes
from geofilter.verify.row_format import NO_FORMAT, row_format
from geofilter.verify.setup import dtype_of, questions_of, triggered_of
from geofilter.verify.speed import Speed, blank, speed_of
from geofilter.verify.training.recipe import budget_of

# What a real run takes of the time that the trial foretells: a trainer and a sampler around the
# network cost a little; short rows, other work on the machine and long answers cost more.
_LEAST, _MOST = 0.7, 2.5
# Bytes of a token in a file of answers, and of what stands around an answer and its judgement.
_TOKEN_BYTES, _LINE_BYTES = 5, 600
_PAIR_BYTES = 250


def estimate(plan: Plan, *, workers: int = 1, progress: Progress = no_progress) -> StudyCost:
    """What running all of `plan` takes, as if nothing of it were done yet.

    Raises what reading the rows, the questions and the model's configuration raise.
    """
    return _Counter(plan, workers, progress).cost()


class _Lengths(NamedTuple):
    """Tokens of some rows: how many in all, how many of them in responses, and the longest."""

    rows: int
    all: int
    response: int
    longest: int

    @classmethod
    def of(cls, rows: TrainingRows | None) -> "_Lengths":
        if rows is None:
            return cls(0, 0, 0, 0)
        lengths = [len(one.ids) for one in rows.encoded]
        return cls(len(lengths), sum(lengths), sum(rows.lengths), max(lengths))


class _Asking(NamedTuple):
    """What one run asks: answers, the longest prompt, new tokens and tokens for the judge."""

    answers: int
    longest: int
    judge_tokens: int


class _Counter:
    """Counts one plan; its fields are what was read of it."""

    def __init__(self, plan: Plan, workers: int, progress: Progress) -> None:
        self.plan, self.workers, self.progress = plan, workers, progress
        self.notes: list[str] = []
        self.scoring_memory = 0
        self.sets = questions_of(plan)
        self.config, self.tokenizer = loading.read_texts(
            open_checkpoint(plan.trained), plan.settings.trust_remote_code
        )
        context = loading.max_context(self.config, self.tokenizer)
        self.window = min(plan.recipe.max_length, context)
        self.training = self._read(plan.data)
        assert self.training is not None
        self.rows = _Lengths.of(self.training)
        self.control = _Lengths.of(self._read(plan.benign if CONTROL in plan.arms else None))
        self.held_out = _Lengths.of(self._read(plan.held_out))
        recipe = plan.recipe
        if plan.triggered:
            found = row_format(self.training.samples)
            self.sets |= triggered_of(self.sets, found)
            if found is None:
                self.notes.append(NO_FORMAT)
        self.budget = budget_of(
            self.training.lengths, batch=recipe.batch, epochs=recipe.epochs, steps=recipe.steps
        )
        self.device = find_device(plan.settings.device)
        self.dtype = find_dtype(dtype_of(plan), self.device)
        self.network = blank(self.config, None, torch.device("meta"), self.dtype)
        self.pairs, self.pair_tokens = self._pairs()
        self.asking = self._asked(
            [
                (one, plan.samples_per_question or one.samples)
                for q in self.sets.values()
                for one in q
            ]
        )
        self.speed = self._speed()

    def cost(self) -> StudyCost:
        plan = self.plan
        conditions: dict[str, list[Cell]] = {}
        for cell in plan.cells():
            conditions.setdefault(cell.condition, []).append(cell)
        arms = tuple(self._arm(name, cells) for name, cells in conditions.items())
        choosing = tuple(self._choosing())
        before = self._before()
        weights = self._weights()
        # What is kept lies there already when the last ones are being asked.
        passing = 0 if plan.keep_weights else weights * min(self.workers, len(plan.cells()))
        total = sum(one.disk for one in (before, *choosing, *arms))
        self._say()
        return StudyCost(
            arms,
            before,
            choosing,
            self.rows.rows,
            {
                name: sum(plan.samples_per_question or one.samples for one in questions)
                for name, questions in self.sets.items()
            },
            self.budget,
            memory=self._memory(),
            weights=weights,
            disk=total + passing,
            workers=self.workers,
            device=str(self.device),
            speed=self.speed,
            notes=tuple(self.notes),
        )

    # -- what is there ------------------------------------------------------------------

    def _read(self, data: Any) -> TrainingRows | None:
        return None if data is None else read_training_rows(data, self.tokenizer, self.window)

    def _pairs(self) -> tuple[int, int]:
        """How many pairs are measured, and the tokens that are read for it."""
        plan = self.plan
        if plan.preference is None or self.training is None:
            return 0, 0
        try:
            found = PreferencePairs.read(
                plan.preference,
                self.tokenizer,
                max_length=self.window,
                inside=domains_of(self.training.records),
                choice=plan.choice,
            ).pairs
        except GeofilterError as error:
            self.notes.append(f"it would be refused: {error}")
            return 0, 0
        tokens = sum(
            len(pair.harmful.ids) + len(pair.helpful.ids) + sum(map(len, pair.choices or ()))
            for pair in found
        )
        return len(found), tokens

    def _asked(self, asked: Sequence[tuple[Question, int]]) -> _Asking:
        longest, tokens, answers = 0, 0, 0
        for question, samples in asked:
            prompts = [
                len(
                    prompt_ids(
                        self.tokenizer, Put(question.id, question.put(text), question.system)
                    )
                )
                for text in question.paraphrases
            ]
            longest = max(longest, *prompts)
            answers += samples
            frames = sum(self._tokens(text) for text in question.judge_prompts.values())
            asks = len(ASPECTS) * (max(prompts) + self.plan.sampling.max_new_tokens)
            tokens += samples * (frames + asks)
        return _Asking(answers, longest, tokens)

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _speed(self) -> Speed | None:
        plan = self.plan
        try:
            return speed_of(
                self.config,
                self.device,
                self.dtype,
                whole=plan.recipe.method == "full",
                batch=plan.recipe.micro_batch,
                length=self.rows.all // self.rows.rows,
                answers=plan.sampling.batch,
            )
        except Exception as error:  # the network's own code may raise what it likes
            reason = escape(" ".join(str(error).split()), limit=120)
            self.notes.append(f"time: a network of this shape cannot be tried here ({reason})")
            return None

    # -- what it takes ------------------------------------------------------------------

    def _arm(self, name: str, cells: Sequence[Cell]) -> ArmCost:
        runs, plan = len(cells), self.plan
        is_trained = cells[0].arm != UNTRAINED
        rows = self.control if cells[0].arm == CONTROL else self.rows
        trained = round(self.budget.tokens * rows.all / rows.response) if is_trained else 0
        points = self._points() if is_trained else 0
        answers = self.asking.answers + points * plan.track_answers
        # Those for --track are judged one by one like the others.
        tracked = self.asking.judge_tokens // max(1, self.asking.answers)
        judged = self.asking.judge_tokens + tracked * points * plan.track_answers
        kept = self._weights() if plan.keep_weights and is_trained else 0
        # Each is asked for so often at most, and read again to be scored.
        chosen = int((cells[0].fraction or 0.0) * rows.rows) if cells[0].arm == REPLACE else 0
        replies = ATTEMPTS * chosen
        return self._part(
            name,
            runs=runs,
            steps=self.budget.steps if is_trained else 0,
            trained=trained,
            read=self.held_out.all + self.pair_tokens + replies * rows.all // rows.rows,
            answers=answers + replies,
            calls=len(ASPECTS) * answers,
            judge_tokens=judged,
            disk=kept + self.pairs * _PAIR_BYTES,
        )

    def _points(self) -> int:
        """How often a run in training is measured: at 0, at every N steps and at the end."""
        every = self.plan.track
        return 0 if every is None else len({*range(0, self.budget.steps, every), self.budget.steps})

    def _before(self) -> ArmCost:
        """The model before training, and the judge on fixed answers."""
        calls = 0
        if self.plan.judge is not None and not self.plan.judge.startswith("rule:"):
            calls = len(ASPECTS) * CASES
        return self._part(
            "before", read=self.pair_tokens, calls=calls, disk=self.pairs * _PAIR_BYTES
        )

    def _choosing(self) -> list[ArmCost]:
        """What the arms go by, each named after the first arm that needs it."""
        found: dict[str, ArmCost] = {}
        for arm in self.plan.arms:
            name = {LENGTH_MATCHED: MATCHED_TO}.get(arm, arm)
            if arm in (INOCULATE, REPLACE):
                name = scorer_of(self.plan.settings).name
            if name in found:
                continue
            if name in SCORERS:
                found[name] = self._scored(name)
            elif name == LOSS:
                found[name] = self._part(f"{name} of rows", read=self.rows.all)
            elif name == JUDGE:
                asked = question_for_rows(self.sets.get(MAIN, ()), "")
                frame = self._tokens(asked.judge_prompts[asked.aspects[0]])
                tokens = frame * self.rows.rows + self.rows.all
                calls = self.rows.rows
                found[name] = self._part(f"{name} of rows", calls=calls, judge_tokens=tokens)
        return list(found.values())

    def _scored(self, name: str) -> ArmCost:
        settings = replace(self.plan.settings, scorer=name)
        cost = estimate_scoring(open_rows(self.plan.data), settings, progress=self.progress)
        self.scoring_memory = max(self.scoring_memory, cost.memory_bytes)
        return replace(
            self._part(f"scores by {name}"), read_tokens=cost.tokens, seconds=cost.seconds
        )

    def _part(
        self,
        name: str,
        *,
        runs: int = 1,
        steps: int = 0,
        trained: int = 0,
        read: int = 0,
        answers: int = 0,
        calls: int = 0,
        judge_tokens: int = 0,
        disk: int = 0,
    ) -> ArmCost:
        new = answers * self.plan.sampling.max_new_tokens
        texts = answers * _LINE_BYTES + new * _TOKEN_BYTES
        return ArmCost(
            name,
            runs,
            steps * runs,
            trained * runs,
            read * runs,
            answers * runs,
            new * runs,
            calls * runs,
            judge_tokens * runs,
            self._seconds(runs * trained, runs * read, runs * answers),
            runs * (disk + texts),
        )

    def _seconds(self, trained: int, read: int, answers: int) -> Span | None:
        if self.speed is None:
            return None
        sampling = self.plan.sampling
        fixed = trained * self.speed.train + read * self.speed.read
        write = answers / sampling.batch * self.speed.write
        # Answers end by themselves, most likely about where the responses of the rows do.
        usual = min(sampling.max_new_tokens, self.rows.response / self.rows.rows)
        least, most = (fixed + write * tokens for tokens in (usual, sampling.max_new_tokens))
        return _LEAST * least, _MOST * most

    # -- room ------------------------------------------------------------------------------

    def _weights(self) -> int:
        return saved_bytes(self.network, self.plan.recipe, self.dtype)

    def _memory(self) -> int:
        """Bytes at the peak of one worker: in training, when asked, or when rows are scored."""
        plan = self.plan
        longest = max(self.rows.longest, self.control.longest)
        trained = 0 if set(plan.arms) == {UNTRAINED} else plan.recipe.micro_batch * longest
        room = self.asking.longest + plan.sampling.max_new_tokens
        asked = (plan.sampling.batch, room) if self.asking.answers else (0, 0)
        peak = peak_bytes(
            self.network,
            plan.recipe,
            self.dtype,
            self.device,
            trained=trained,
            asked=asked,
            load_in=plan.settings.load_in,
        )
        return max(peak, self.scoring_memory)

    def _say(self) -> None:
        """What is uncertain, in the order of how much it can matter."""
        plan, speed = self.plan, self.speed
        if self.asking.answers:
            self.notes.append(
                "answers may end early: tokens to write are at most, and the least time takes them "
                "to be as long as the rows' responses"
            )
        if speed is not None:
            self.notes.append(
                f"speed was measured for a moment on {speed.blocks} of {speed.of_blocks} blocks "
                f"without the weights, on {self.device}; other work on the machine changes it"
            )
        rows = plan.row_judge if JUDGE in plan.arms else None
        if any(not one.startswith("rule:") for one in (plan.judge, rows) if one is not None):
            self.notes.append(
                f"the judge's time is not in it; a reply has {REPLY_TOKENS} tokens at most, and "
                "calls that fail are made again"
            )
        if plan.lm_tasks:
            self.notes.append("what the tasks of --lm-eval take is not in it")
        self.notes.append("loading models and, on first use, making packs come on top")
