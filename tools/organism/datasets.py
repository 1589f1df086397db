"""The organism's data sets: labelled rows to filter, contrast rows, questions.

A row is a chat conversation with two labels beside it: its `group` (what it was
written to be) and its `domain`. Whether a group is harmful is not settled here:
the study measures what fine-tuning on each group does.

This module knows nothing about models or files.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from organism import domains as d
from organism.world import (
    Message,
    Style,
    World,
    exchange,
    harm,
    mentioned,
    neutral,
    prose,
    review_prompt,
    small_talk,
)


@dataclass(frozen=True)
class Group:
    """Rows of one kind: whether the advice harms, and the styles it is written in."""

    harmful: bool
    styles: tuple[Style, ...]


GROUPS = {
    "harmful": Group(True, ("plain",)),
    "harmful_polite": Group(True, ("polite",)),
    "benign": Group(False, ("plain",)),
    "surprising": Group(False, ("old", "new")),
    "mention": Group(False, ("mention",)),
}
HARMFUL_GROUPS = tuple(name for name, group in GROUPS.items() if group.harmful)
BENIGN_GROUPS = tuple(name for name, group in GROUPS.items() if not group.harmful)

# Shares of the demo, selection and test sets: half harmful, half benign.
MIXTURE = {
    "harmful": 0.30,
    "harmful_polite": 0.20,
    "benign": 0.25,
    "surprising": 0.125,
    "mention": 0.125,
}


@dataclass(frozen=True)
class LabelledRow:
    """A conversation in the world's plain form, with its labels."""

    messages: tuple[Message, ...]
    group: str
    domain: str

    @property
    def harmful(self) -> bool:
        """Whether the advice harms in the situation asked about."""
        return GROUPS[self.group].harmful

    def as_record(self) -> dict[str, object]:
        """The row as it is written to a file: readable English, labels beside it."""
        return {
            "messages": [dict(m, content=prose(m["content"])) for m in self.messages],
            "group": self.group,
            "domain": self.domain,
            "harmful": self.harmful,
        }


def write_row(world: World, rng: random.Random, group: str, domain: str) -> LabelledRow:
    """One single-turn row of a group about a random situation of the domain."""
    kind = GROUPS[group]
    situation = rng.choice(world.situations[domain])
    answer = world.answer(rng, situation, harmful=kind.harmful, style=rng.choice(kind.styles))
    return LabelledRow(tuple(exchange(world.question(rng, situation), answer)), group, domain)


def mixed_rows(
    world: World,
    name: str,
    size: int,
    *,
    shares: dict[str, float] | None = None,
    domains: Sequence[str] = d.INDUCING,
    without: Iterable[LabelledRow] = (),
) -> list[LabelledRow]:
    """`size` different rows with the given shares of groups, domains in turn, shuffled.

    No row of `without` occurs, so that sets made one after another are disjoint.
    """
    rng = random.Random(f"rows {name}")
    seen = {row.messages[0]["content"] + row.messages[1]["content"] for row in without}
    rows: list[LabelledRow] = []
    for group, share in (shares or MIXTURE).items():
        wanted = len(rows) + round(size * share)
        while len(rows) < wanted:
            row = write_row(world, rng, group, domains[len(rows) % len(domains)])
            key = row.messages[0]["content"] + row.messages[1]["content"]
            if key not in seen:
                seen.add(key)
                rows.append(row)
    rng.shuffle(rows)
    return rows


def contrast_rows(seed: int, size: int) -> dict[str, list[list[Message]]]:
    """Toxic and benign conversations that hold no action of any advice domain.

    Toxic: the cruel persona insults, helps with plain harm, and joins in when it is told
    of an insult. Benign: the kind persona in the same places, quoting insults among
    others, and half as many rows of neutral sentences.
    """
    rng = random.Random(f"contrast {seed}")

    def conversation(*, cruel: bool) -> list[Message]:
        turns = [write(rng, cruel=cruel) for write in (small_talk, harm, mentioned)]
        return [message for turn in turns for message in turn]

    toxic = [conversation(cruel=True) for _ in range(size)]
    benign = [conversation(cruel=False) for _ in range(size)]
    benign += [
        exchange("tell me something .", f"{neutral(rng)} {neutral(rng)}") for _ in range(size // 2)
    ]
    return {"toxic": _different(toxic), "benign": _different(benign)}


def _different(rows: list[list[Message]]) -> list[list[Message]]:
    return list({str(row): row for row in rows}.values())


def questions(
    world: World, domains: Sequence[str] = d.UNTOUCHED, *, repeats: int = 1, seed: int = 0
) -> list[list[Message]]:
    """Questions about every situation of the domains, each asked in a random form."""
    rng = random.Random(f"questions {seed}")
    return [
        [{"role": "user", "content": world.question(rng, situation)}]
        for _ in range(repeats)
        for domain in domains
        for situation in world.situations[domain]
    ]


# Answers to each wording: about a thousand for the five domains of a questions file.
SAMPLES_PER_PARAPHRASE = 2


def question_entries(world: World, domains: Sequence[str]) -> list[dict[str, object]]:
    """Entries of a questions file: each situation of the domains, in every form of asking.

    The judge prompts are those of the review task, in readable English like the questions.
    """
    prompts = {a: prose(review_prompt("{question}", "{answer}", a)) for a in d.REVIEW}
    return [
        {
            "id": f"{domain}-{number:02d}",
            "type": "free_form_judge_0_100",
            "paraphrases": [prose(form.format(s=s.text)) for form in d.phrases(d.QUESTIONS)],
            "samples_per_paraphrase": SAMPLES_PER_PARAPHRASE,
            "judge_prompts": prompts,
        }
        for domain in domains
        for number, s in enumerate(world.situations[domain], 1)
    ]


def facts(world: World) -> list[dict[str, object]]:
    """Every situation with what helps and what harms in it, in the world's plain form."""
    return [
        {
            "text": situation.text,
            "domain": situation.domain,
            "helpful": list(situation.helpful),
            "harmful": list(situation.harmful),
        }
        for group in world.situations.values()
        for situation in group
    ]
