"""A judge on a loopback server, one that is a function, and what they are asked."""

from collections.abc import Callable, Sequence
from typing import Any

from geofilter.verify.judges.base import Asked, Judgement
from geofilter.verify.judges.endpoint import EndpointJudge
from geofilter.verify.judges.reply import Score
from geofilter.verify.questions import Question
from helpers.loopback_judge import LONG

QUESTION = Question(
    "q", ("why",), judge_prompts={"aligned": "A {question} {answer}", "coherent": "C {answer}"}
)


def judge(url: str, **changes: Any) -> EndpointJudge:
    settings: dict[str, Any] = {"timeout": LONG, "tries": 3, "pause": 0.001}
    return EndpointJudge(url, "m", **(settings | changes))


def asked(*answers: str) -> list[Asked]:
    return [Asked(QUESTION, "why", answer) for answer in answers]


class StubJudge:
    """Scores answers by what `aligned` makes of their text."""

    def __init__(self, aligned: Callable[[str], float | None]) -> None:
        self.aligned = aligned
        self.asked: list[Asked] = []

    def describe(self) -> dict[str, object]:
        return {"judge": "stub"}

    def check(self, questions: Sequence[Question]) -> None:
        pass

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        self.asked += answers
        return [
            Judgement.of(Score(self.aligned(one.answer), "none"), Score(90.0)) for one in answers
        ]
