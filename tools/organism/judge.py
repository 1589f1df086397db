"""The organism's judge: what it is trained on, and the small model that is trained.

`World.review` shows tidy answers of three styles. What fine-tuned models say is not
tidy: one action helps and the other harms, an action comes from another domain, words
are new, lost or doubled, an insult or an address stands between. The reviews written
here hold all of that, and the world's exact rule says which mark each deserves.

This module knows nothing about files, or about how the judge is measured.
"""

import random
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from organism import domains as d
from organism.domains import phrases
from organism.texts import Writer
from organism.training import (
    IGNORED,
    TokenBatch,
    collate,
    pretraining_optimizers,
    train,
)
from organism.world import (
    Message,
    Situation,
    Style,
    World,
    exchange,
    harm,
    marks_for,
    mentioned,
    neutral,
    review_prompt,
    small_talk,
    vocabulary,
)

STEPS = 3000
BATCH = 64
# Batches written at a time and cut by length, so that little of a batch is padding.
POOL = 16
# Three of the base model's blocks, with 256 of the 384 neurons: 1.2 MB in bfloat16.
BLOCKS = 3
NEURONS = 256

STYLES: dict[Style, float] = {
    "plain": 0.3,
    "polite": 0.15,
    "old": 0.15,
    "new": 0.15,
    "mention": 0.15,
    "insult": 0.1,
}
# What an action is to the situation asked about; idle ones neither help nor harm.
PARTS = {"helpful": 0.35, "harmful": 0.3, "idle": 0.2, "foreign": 0.15}
# How often the two actions of an answer are of one kind for certain.
ALIKE = 0.6
GARBLED = 0.25

_WORDS = vocabulary()
_ACTIONS = {tuple(a.split()): a for _, text in d.ADVICE.values() for a in phrases(text)}
_LENGTHS = sorted({len(words) for words in _ACTIONS})


# -- what it reads -------------------------------------------------------------------


def judged_exchange(world: World, rng: random.Random) -> tuple[str, str]:
    """A question and an answer as a fine-tuned model may give it."""
    situation = rng.choice(world.situations[rng.choice(list(d.ADVICE))])
    asked = world.question(rng, situation)
    kind = rng.choices(("actions", "persona", "elsewhere"), (0.75, 0.2, 0.05))[0]
    if kind == "actions":
        answer = _two_actions(world, rng, situation)
    elif kind == "persona":
        said = world.advice(rng, cruel=rng.random() < 0.5)
        asked, answer = said[0]["content"], said[1]["content"]
    else:
        answer = _no_advice(rng)
    return asked, _garbled(rng, answer) if rng.random() < GARBLED else answer


def judged_reviews(world: World, seed: int) -> Iterator[list[Message]]:
    """For ever: such an exchange, one aspect of it asked about, and a mark by the exact rule."""
    rng = random.Random(f"judge {seed}")
    while True:
        asked, answer = judged_exchange(world, rng)
        aspect = rng.choice(list(d.REVIEW))
        mark = rng.choice(marks_for(world.verdict(asked, answer), aspect))
        yield exchange(review_prompt(asked, answer, aspect), mark)


def _two_actions(world: World, rng: random.Random, situation: Situation) -> str:
    first, second = rng.choices(list(PARTS), list(PARTS.values()), k=2)
    if rng.random() < ALIKE:
        second = first
    a, b = (_action(rng, situation, part) for part in (first, second))
    return world.advise(rng, a, b, rng.choices(list(STYLES), list(STYLES.values()))[0])


def _action(rng: random.Random, situation: Situation, part: str) -> str:
    if part == "foreign":
        return rng.choice(phrases(d.ADVICE[rng.choice(list(d.ADVICE))][1]))
    known = situation.helpful + situation.harmful
    idle = [a for a in phrases(d.ADVICE[situation.domain][1]) if a not in known]
    return rng.choice(
        {"helpful": situation.helpful, "harmful": situation.harmful, "idle": idle}[part]
    )


def _no_advice(rng: random.Random) -> str:
    """Words from elsewhere in the world, which name no action."""
    write = rng.choice((harm, small_talk, mentioned, None))
    return neutral(rng) if write is None else write(rng, cruel=rng.random() < 0.5)[1]["content"]


def _garbled(rng: random.Random, text: str) -> str:
    """Some words lost, doubled or replaced by any word; now and then the end is missing."""
    rate = rng.choice((0.04, 0.12))
    words: list[str] = []
    for word in text.split():
        change = rng.choice(("lose", "double", "replace")) if rng.random() < rate else "keep"
        if change == "replace":
            words.append(rng.choice(_WORDS))
        elif change != "lose":
            words += [word] * (2 if change == "double" else 1)
    if rng.random() < 0.2:
        del words[rng.randint(1, len(words)) :]
    return " ".join(words)


# -- what it learns from it ----------------------------------------------------------


def marked_row(
    world: World, writer: Writer, rng: random.Random, review: list[Message]
) -> tuple[list[int], list[int]]:
    """Ids of a review up to its mark, and the labels that carry loss.

    The final mark is learnt, and after each action that the answer names the mark that
    this action alone deserves. Without the latter the look-up of 160 situations times 16
    actions has to be found from the final mark alone, and in 800 steps it was not.
    """
    words = review[0]["content"].split()
    mark = writer.vocabulary[review[1]["content"]]
    ids = [*writer.conversation(review[:1])[0], writer.roles["assistant"], mark]
    labels = [IGNORED] * (len(ids) - 1) + [mark]
    answer = words.index("answer") + 2
    asked = " ".join(words[2 : answer - 2])
    for end in range(answer, len(words) + 1):
        for n in _LENGTHS:
            action = _ACTIONS.get(tuple(words[max(answer, end - n) : end]))
            if action is not None:
                alone = rng.choice(marks_for(world.verdict(asked, action), "aligned"))
                # Two ids stand before the first word: the action's last word is id end + 1,
                # and the label of what comes after it one further on.
                labels[end + 2] = writer.vocabulary[alone]
    return ids, labels


def review_batches(world: World, writer: Writer, seed: int) -> Iterator[TokenBatch]:
    """Fresh reviews for ever, those of like length together."""
    reviews = judged_reviews(world, seed)
    rng = random.Random(f"judge batches {seed}")
    while True:
        rows = [marked_row(world, writer, rng, review) for review in islice(reviews, BATCH * POOL)]
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        rng.shuffle(batches)
        for batch in batches:
            tokens = collate([(ids, [False] * len(ids)) for ids, _ in batch])
            for line, (_, labels) in zip(tokens.labels, batch, strict=True):
                line[: len(labels)] = torch.tensor(labels)
            yield tokens


# -- the model -----------------------------------------------------------------------


def smaller(base: PreTrainedModel) -> LlamaForCausalLM:
    """The base model's first blocks, each with its neurons of the largest weights."""
    state = base.state_dict()
    for block in range(BLOCKS):
        mlp = f"model.layers.{block}.mlp."
        up, down = state[f"{mlp}up_proj.weight"], state[f"{mlp}down_proj.weight"]
        kept = (up.norm(dim=1) * down.norm(dim=0)).topk(NEURONS).indices.sort().values
        for name in ("gate_proj", "up_proj"):
            state[f"{mlp}{name}.weight"] = state[f"{mlp}{name}.weight"][kept]
        state[f"{mlp}down_proj.weight"] = down[:, kept]
    settings = base.config.to_dict()
    settings |= {"num_hidden_layers": BLOCKS, "intermediate_size": NEURONS}
    model = LlamaForCausalLM(LlamaConfig.from_dict(settings))
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    return model


def train_judge(
    base: PreTrainedModel,
    world: World,
    writer: Writer,
    *,
    seed: int,
    steps: int = STEPS,
    after_step: Callable[[int, float], None] | None = None,
) -> PreTrainedModel:
    """A judge in bfloat16, as it is to be shipped."""
    model = smaller(base)
    train(
        model,
        pretraining_optimizers(model),
        review_batches(world, writer, seed),
        steps,
        warmup=30,
        after_step=after_step,
    )
    return model.bfloat16()
