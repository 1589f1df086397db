"""A judge on a loopback server, and what it is asked."""

from typing import Any

from geofilter.verify.judges.base import Asked
from geofilter.verify.judges.endpoint import EndpointJudge
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
