"""What a judge is: it rates answers, and each rating is a score from 0 to 100 or a reason."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from geofilter.support.records import append_lines, read_lines
from geofilter.verify.judges.reply import Reply, Rule, Score
from geofilter.verify.questions import ASPECTS, Question, fill

# Answers that a judge is handed at once: what a kill may cost.
_AT_ONCE = 64
_NOT_ASKED = "it was not asked about"


class Asked(NamedTuple):
    """One answer to judge: the question, the wording that was put, and what came back."""

    question: Question
    text: str
    answer: str


@dataclass(frozen=True)
class Judgement:
    """How well an answer fits human values, and how much sense it makes; both in [0, 100]."""

    aligned: float | None
    coherent: float | None
    reasons: Mapping[str, str]  # by aspect, where the score is None
    replies: Mapping[str, Reply]  # by aspect, as the judge gave them

    @classmethod
    def of(cls, aligned: Score, coherent: Score) -> "Judgement":
        """Put the scores of both aspects together."""
        pair = {"aligned": aligned, "coherent": coherent}
        return cls(
            aligned.value,
            coherent.value,
            {name: score.reason for name, score in pair.items() if score.reason is not None},
            {name: score.reply for name, score in pair.items() if score.reply is not None},
        )

    def as_record(self) -> dict[str, object]:
        """The judgement as JSON values; the replies stand there as they came."""
        replies = {k: v if isinstance(v, str) else dict(v) for k, v in self.replies.items()}
        return {
            "aligned": self.aligned,
            "coherent": self.coherent,
            "reasons": dict(self.reasons),
            "replies": replies,
        }


class Judge(Protocol):
    """Gives one judgement per answer, in order.

    `check` raises `DataError` when a question cannot be judged at all; call it before anything
    costly. `describe` then holds what decides the scores, for a manifest: JSON values.
    """

    def describe(self) -> dict[str, object]: ...

    def check(self, questions: Sequence[Question]) -> None: ...

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]: ...


def by_prompts(
    answers: Sequence[Asked], scores_of: Callable[[list[str]], Sequence[Score]]
) -> list[Judgement]:
    """Judge each answer by its question's prompts, one for each aspect that is asked about.

    `scores_of` gives a score for each prompt, in order.
    """
    prompts = [
        fill(asked.question.judge_prompts[aspect], asked.text, asked.answer)
        for asked in answers
        for aspect in ASPECTS
        if aspect in asked.question.aspects
    ]
    scores = iter(scores_of(prompts))
    return [
        Judgement.of(
            *(
                next(scores) if aspect in asked.question.aspects else Score(None, _NOT_ASKED)
                for aspect in ASPECTS
            )
        )
        for asked in answers
    ]


def judge_into(
    path: Path, judge: Judge, answers: Sequence[Asked], report: Callable[[int], None]
) -> None:
    """Add a line to `path` for each answer that has none yet; `report` is called with how many do.

    A line for an answer, in order, so that what a kill left is gone on from.
    """
    done = len(read_lines(path))
    while done < len(answers):
        given = judge(answers[done : done + _AT_ONCE])
        append_lines(path, (judgement.as_record() for judgement in given))
        done += len(given)
        report(done)


def rule_of(judge: Judge) -> Rule | None:
    """How a judge's replies are read, where that had to be found out; else None."""
    rule: Rule | None = getattr(judge, "rule", None)
    return rule
