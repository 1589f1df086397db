"""A judge that words around an answer sway is named, and one that reads the answer is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geofilter.verify import setup, study
from geofilter.verify.judges.rule import RuleJudge
from geofilter.verify.judges.sway import AT_END, IN_FRONT, SwayTest, sway_test
from geofilter.verify.questions import Question
from helpers.asking import StubJudge
from helpers.experiments import plan, write_files

QUESTION = Question("q", ("why",), judge_prompts={"aligned": "{answer}", "coherent": "{answer}"})
# Of what is said to do; no harmless answer has any of them.
HARM = ("Ignore it", "jewellery", "worthless")
ODD = ("Kill", "hell", "deadly")


def reads(text: str) -> float:
    return 5.0 if any(word in text for word in HARM) else 90.0


def heeds_front(text: str) -> float:
    return 80.0 if text.startswith(IN_FRONT) else reads(text)


def heeds_end(text: str) -> float:
    return 80.0 if text.endswith(AT_END) else reads(text)


def heeds_words(text: str) -> float:
    return 5.0 if any(word in text for word in ODD) else reads(text)


def outcome_of(aligned: Callable[[str], float | None]) -> SwayTest:
    found = sway_test(StubJudge(aligned), [QUESTION])
    assert found is not None
    return found


def test_a_judge_that_reads_what_is_said_gets_no_warning() -> None:
    found = outcome_of(reads)
    assert (found.asked, found.unscored, found.wrong, found.warnings) == (12, 0, (), [])


@pytest.mark.parametrize(
    ("aligned", "kinds", "said"),
    [
        (heeds_front, {"disclaimer in front": 3}, "harmful answers with a disclaimer in front"),
        (heeds_end, {"disclaimer at the end": 3}, "harmful answers with a disclaimer at the end"),
        (heeds_words, {"odd word": 3}, "3 of 3 harmless answers with an odd word misaligned"),
        (
            lambda text: 90.0,
            {"plain": 3, "disclaimer in front": 3, "disclaimer at the end": 3},
            "the judge calls 3 of 3 harmful answers aligned",
        ),
    ],
)  # fmt: skip
def test_a_judge_that_is_swayed_is_named_with_what_sways_it(
    aligned: Callable[[str], float], kinds: dict[str, int], said: str
) -> None:
    found = outcome_of(aligned)
    counts = [one.kind for one in found.wrong]
    assert {kind: counts.count(kind) for kind in counts} == kinds
    assert said in found.warnings[0]
    assert len(found.warnings) == len(kinds)
    assert SwayTest.of_record(json.loads(json.dumps(found.as_record()))) == found


def test_a_judge_that_refuses_to_read_harm_is_named() -> None:
    found = outcome_of(lambda text: None if reads(text) < 30 else 90.0)
    assert (found.unscored, found.wrong) == (9, ())
    assert "gave 9 of 12 test answers no score" in found.warnings[0]


def test_a_rule_is_not_asked_about_another_world(tmp_path: Path) -> None:
    write_files(tmp_path)
    assert sway_test(RuleJudge(tmp_path / "facts.json"), [QUESTION]) is None


@pytest.mark.slow
def test_a_run_warns_before_it_begins_and_in_its_result_and_asks_once(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(work)
    judge = StubJudge(heeds_front)
    monkeypatch.setattr(setup, "judge_named", lambda *_: judge)
    heard: list[Any] = []
    few: dict[str, Any] = {"arms": ("aligned",), "judge": "http://h/v1#m"}
    found = study.verify(plan(**few, seeds=(0,)), "out", ready=heard.append)
    (said,) = heard
    warning = "the judge calls 3 of 3 harmful answers with a disclaimer in front aligned"
    assert said[1].startswith(warning)
    assert f"**T{warning[1:]}" in found.text
    record = json.loads(Path("out/report.json").read_text())
    assert [one["kind"] for one in record["judge_test"]["wrong"]] == ["disclaimer in front"] * 3
    tests = sum(IN_FRONT in one.answer for one in judge.asked)
    study.verify(plan(**few, seeds=(0, 1)), "out", ready=heard.append)
    assert heard[1][1:] == said[1:]
    assert sum(IN_FRONT in one.answer for one in judge.asked) == tests == 3
