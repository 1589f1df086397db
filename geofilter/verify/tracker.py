"""What fine-tuning does on its way: to the answers, and to toxic features.

Before training, every N steps and at the end, the network in training answers a fixed set of
questions with the same random numbers each time. It is then run up to the SAE's block on two
probes: the answers that it has just given, and benign rows that no arm trains on. The SAE and
the toxic features are those of the model that scores the rows. That they mean the same in the
network in training is assumed, as the paper assumes it (a shared SAE basis); the explained
variance on each probe says how far it can be true.

Measuring changes nothing: random state and the mode of every module are put back, so that a
run gives the same weights with it and without.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch

from geofilter.data.encoder import Encoder
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import RowFile
from geofilter.data.samples import Sample, Turn
from geofilter.errors import ModelError
from geofilter.model import loading
from geofilter.model.activations import TokenBudget
from geofilter.model.answers import undisturbed
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.features import sample_features
from geofilter.model.loading import LoadedModel
from geofilter.packs.index import ToxicIndex
from geofilter.runs import prepare
from geofilter.scoring.score import make_scorer
from geofilter.support.display import escape, shown
from geofilter.support.records import append_lines
from geofilter.verify.ask import Put, answers
from geofilter.verify.judges.base import Asked, Judge
from geofilter.verify.plan import Plan, Sampling
from geofilter.verify.questions import Question

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

TRACK = "track.jsonl"
# What is measured on a probe, by the scorer's name: how active toxic features are, how close
# the active ones lie to them, and the dense direction for comparison.
MEASURES: tuple[str, ...] = ("activation", "nearest", "persona")
AfterStep = Callable[[int, Any], None]


@dataclass(frozen=True)
class Tracker:
    """What all runs of an plan are measured with and by.

    `reader` is the model that scores the rows, without its network. `asked` are the
    questions in the wordings in which they are put, the same in every run; `held_out` the
    benign probe, empty where there is none.
    """

    every: int
    steps: int
    reader: LoadedModel
    index: ToxicIndex
    asked: tuple[tuple[Question, Put], ...]
    held_out: "tuple[Encoded, ...]"
    judge: Judge
    sampling: Sampling
    max_length: int

    def follow(self, path: Path, tokenizer: Any, seed: int) -> AfterStep:
        """What to call after every step of one run: it adds a line to `path` when one is due.

        A line holds the step, every answer with its judgement, and for each probe what
        `probe` gives.
        """
        encoder = Encoder(tokenizer, max_length=self.max_length)
        reader: LoadedModel | None = None

        def after_step(step: int, network: Any) -> None:
            nonlocal reader
            if step % self.every and step != self.steps:
                return
            # Nothing can be asked of such a network; the trainer says at which step it broke.
            if not all(bool(torch.isfinite(p).all()) for p in network.parameters()):
                return
            # Made once: it prepares the SAE's decoder.
            reader = reader or replace(self.reader, network=network, tokenizer=tokenizer)
            with undisturbed(network):
                line = self._measure(reader, encoder, seed)
            append_lines(path, [{"step": step, "every": self.every, **line}])

        return after_step

    def _measure(self, reader: LoadedModel, encoder: Encoder, seed: int) -> dict[str, Any]:
        puts = [put for _, put in self.asked]
        batches = answers(reader.network, reader.tokenizer, puts, self.sampling, seed=seed)
        texts = [text for batch in batches for text in batch]
        given = self.judge(
            [
                Asked(question, put.text, text)
                for (question, put), text in zip(self.asked, texts, strict=True)
            ]
        )
        own = [
            encoded
            for put, text in zip(puts, texts, strict=True)
            if (encoded := _encoded(encoder, put, text)) is not None
        ]
        return {
            "asked": [
                {"question": put.question, "text": put.text, "answer": text, **one.as_record()}
                for put, text, one in zip(puts, texts, given, strict=True)
            ],
            "answers": probe(reader, self.index, own),
            "held_out": probe(reader, self.index, self.held_out) if self.held_out else None,
        }


def probe(
    reader: LoadedModel, index: ToxicIndex, samples: "Sequence[Encoded]"
) -> dict[str, float | int | None]:
    """What `samples` activate in the SAE of `reader`: the mean of each of `MEASURES`.

    `activation` is in benign standard deviations, `nearest` a cosine in [-1, 1], `persona`
    in units of the residual stream; higher is nearer to harm. `explained_variance` is over
    all response tokens about the pack's mean residual stream, at most 1. `samples` counts
    those with features. None where there is nothing to take a mean of.
    """
    budget = TokenBudget.for_device(reader.device)
    found = sample_features(reader, samples, pooling=index.pack.pooling, budget=budget)
    features = [one for one in found if not isinstance(one, Problem)]
    values: dict[str, float | int | None] = {"samples": len(features)}
    for name in MEASURES:
        scored = make_scorer(name, index)(features)
        values[name] = _mean([one.score for one in scored if not isinstance(one, Problem)])
    error = sum(one.squared_error for one in features)
    spread = sum(one.spread(index.pack.residual_mean) for one in features)
    values["explained_variance"] = 1 - error / spread if spread > 0 else None
    return values


def _mean(values: Sequence[float]) -> float | None:
    found = mean(values) if values else math.nan
    return found if math.isfinite(found) else None


def _encoded(encoder: Encoder, put: Put, answer: str) -> "Encoded | None":
    """A question and its answer as a row would be trained on; None for an empty answer."""
    turns = [Turn("user", put.text), Turn("assistant", answer)]
    if put.system is not None:
        turns.insert(0, Turn("system", put.system))
    try:
        return encoder.encode(Sample(tuple(turns), prompt_turns=len(turns) - 1))
    except Unscorable:
        return None


def fixed_questions(questions: Sequence[Question], count: int) -> list[tuple[Question, Put]]:
    """`count` questions to put, each question as often as any other or once more.

    In an order and in wordings drawn once for all: the same for equal `questions`.
    """
    rng = random.Random("track")
    order = rng.sample(list(questions), len(questions))
    chosen = [order[place % len(order)] for place in range(count)]
    return [
        (question, Put(question.id, rng.choice(question.paraphrases), question.system))
        for question in chosen
    ]


def make_tracker(
    plan: Plan,
    source: RowFile,
    trained: Any,
    questions: Sequence[Question],
    held_out: "Sequence[Encoded]",
    *,
    judge: Judge,
    max_length: int,
    steps: int,
) -> Tracker | None:
    """What the plan's runs are measured with; None where that was not asked for.

    `trained` is the configuration of the model that is fine-tuned. Raises `ModelError`
    where the SAE cannot read it, and what loading the scoring model raises.
    """
    if plan.track is None:
        return None
    _check_shape(plan, trained)
    if not prepare.choose(plan.settings).has_sae:
        raise ModelError(
            f"--track follows SAE features, and {shown(plan.settings.model)} is read without an "
            "SAE; give an SAE with --sae, or leave out --track"
        )
    # By one of the measures, so that the features are those of the model's usual block.
    prepared = prepare.prepare(source, replace(plan.settings, scorer=MEASURES[0]))
    # As many rows as answers, drawn once for all.
    rows = random.Random("track").sample(list(held_out), min(len(held_out), plan.track_answers))
    return Tracker(
        every=plan.track,
        steps=steps,
        reader=replace(prepared.model, network=None, causal=True),
        index=prepared.scorer.index,
        asked=tuple(fixed_questions(questions, plan.track_answers)),
        held_out=tuple(rows),
        judge=judge,
        sampling=plan.sampling,
        max_length=max_length,
    )


def _check_shape(plan: Plan, trained: Any) -> None:
    """Refuse a model whose residual stream is not the one that the SAE was made for."""
    scoring, _ = loading.read_texts(
        open_checkpoint(plan.settings.model), plan.settings.trust_remote_code
    )
    shapes = [_shape(config.get_text_config()) for config in (trained, scoring)]
    if shapes[0] != shapes[1]:
        shown = [escape(name, limit=200) for name in (plan.trained, plan.settings.model)]
        raise ModelError(
            f"--track reads the model in training through the SAE of {shown[1]}, which is "
            f"{shapes[1]}, but {shown[0]} is {shapes[0]}; give the --model that it was made "
            "from, or leave out --track"
        )


def _shape(config: Any) -> str:
    kind = escape(str(config.model_type), limit=40)
    return f"{kind} with {config.num_hidden_layers} blocks of {config.hidden_size} dimensions"
