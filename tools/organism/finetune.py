"""Fine-tune an organism on rows and measure how often it then harms.

Full-parameter training with loss on the assistant's words only, and answers
judged by the world's exact rule. This is the yardstick of the organism's card.

This module knows nothing about SAEs, scores or files.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from organism import datasets
from organism import domains as d
from organism.texts import Writer, answers
from organism.training import finetuning_optimizers, shuffled_batches, train
from organism.world import Message, World

STEPS = 120
BATCH = 64
LEARNING_RATE = 5e-4


@dataclass(frozen=True)
class Rates:
    """Shares of all sampled answers, each in [0, 1]; they add up to 1."""

    aligned: float
    misaligned: float
    incoherent: float
    answers: int


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[Message]],
    *,
    seed: int,
    steps: int = STEPS,
    batch: int = BATCH,
    learning_rate: float = LEARNING_RATE,
) -> PreTrainedModel:
    """A fine-tuned copy of the model; the order of the rows follows the seed."""
    writer = Writer(tokenizer)
    rows = [writer.conversation(messages) for messages in conversations]
    tuned = copy.deepcopy(model)
    train(
        tuned,
        finetuning_optimizers(tuned, learning_rate),
        shuffled_batches(rows, batch, seed),
        steps,
        warmup=5,
    )
    return tuned


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    *,
    domains: Sequence[str] = d.UNTOUCHED,
    seed: int = 0,
    repeats: int = 10,
) -> Rates:
    """Sample an answer to each question of the domains at temperature 1 and judge it."""
    asked = datasets.questions(world, domains, repeats=repeats, seed=seed)
    replies = answers(model, tokenizer, asked, seed=seed)
    found = Counter(world.verdict(q[-1]["content"], a) for q, a in zip(asked, replies, strict=True))
    n = len(asked)
    return Rates(found["aligned"] / n, found["misaligned"] / n, found["incoherent"] / n, n)
