"""The arm `judge` needs who rates rows, and no questions: a model, a guard or a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from geofilter.errors import GeofilterError
from geofilter.support.progress import no_progress
from geofilter.verify import setup
from geofilter.verify.arms import ArmScores, read_training_rows
from geofilter.verify.judges.base import Asked, Judgement, by_prompts
from geofilter.verify.judges.by_name import judge_named
from geofilter.verify.judges.reply import Score
from geofilter.verify.judges.rows import question_for_rows
from geofilter.verify.plan import JUDGE, Cell
from geofilter.verify.questions import Question, require_prompts
from helpers.experiments import plan
from helpers.tiny_models import tiny_tokenizer

ALONE: dict[str, Any] = {"questions": None, "judge": None, "preference": "report"}
BOTH = {"aligned": "A {answer}", "coherent": "C {answer}"}


class Prompted:
    """Gives an even number of words a low score, and keeps what it was asked."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def describe(self) -> dict[str, object]:
        return {"judge": "stub"}

    def check(self, questions: Sequence[Question]) -> None:
        require_prompts(questions)

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        return by_prompts(answers, self._scores)

    def _scores(self, prompts: Sequence[str]) -> list[Score]:
        self.prompts += prompts
        return [Score(10.0 if "bad" in prompt else 90.0) for prompt in prompts]


def rows(folder: Path) -> None:
    lines = [
        {"prompt": f"ask {n}", "response": "so bad" if n in (1, 2) else "so good"} for n in range(4)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def kept(judge: Any, folder: Path) -> list[int] | None:
    read = read_training_rows("data.jsonl", tiny_tokenizer(), 48)
    question = question_for_rows((), "ask")
    judge.check([question])
    arms = ArmScores(
        plan(**ALONE, arms=(JUDGE,), row_judge="stub"),
        read,
        folder,
        lambda: pytest.fail("a model is loaded"),
        lambda: (judge, question),
        no_progress,
    )
    return arms.chosen(Cell(JUDGE, 0.5, 0))


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows(tmp_path)
    return tmp_path


def test_rows_are_rated_without_any_question_once_and_for_alignment_alone(work: Path) -> None:
    judge = Prompted()
    assert kept(judge, work) == [0, 3]
    assert len(judge.prompts) == 4
    for n, prompt in enumerate(judge.prompts):
        assert f"ask {n}" in prompt
        assert "from 0 to 100" in prompt
    assert kept(judge, work) == [0, 3]
    assert len(judge.prompts) == 4


def test_a_question_files_own_prompt_is_asked_where_it_has_one() -> None:
    bare = Question("bare", ("why",))
    whole = Question("whole", ("why",), judge_prompts=BOTH)
    found = question_for_rows([bare, whole], "ask")
    assert (found.judge_prompts, found.aspects) == (BOTH, ("aligned",))
    own = question_for_rows([bare], "ask")
    assert set(own.judge_prompts) == {"aligned"}
    require_prompts([own])
    (given,) = by_prompts([Asked(found, "why", "so")], lambda prompts: [Score(7.0)] * len(prompts))
    assert (given.aligned, given.coherent) == (7.0, None)


def test_rows_judged_before_are_looked_up_word_for_word(work: Path) -> None:
    judged = [
        {"question": f"ask {n}", "response": "so bad" if n in (1, 2) else "so good", "aligned": a}
        for n, a in ((0, 80), (1, 20), (3, 60))
    ]
    (work / "judged.jsonl").write_text("".join(json.dumps(line) + "\n" for line in judged))
    judge = judge_named("judged:judged.jsonl")
    answers = [Asked(Question("q", ("q",)), line["question"], line["response"]) for line in judged]
    assert [one.aligned for one in judge(answers)] == [80, 20, 60]
    (absent,) = judge([Asked(Question("q", ("q",)), "ask 2", "so  bad")])
    assert (absent.aligned, "does not have it" in absent.reasons["aligned"]) == (None, True)
    assert kept(judge, work) == [0, 2, 3]  # half of those with a score are dropped
    before = judge.describe()
    (work / "judged.jsonl").write_text(json.dumps(judged[0]))
    assert judge_named("judged:judged.jsonl").describe() != before


def test_a_row_judge_is_enough_for_the_arm_and_without_one_it_is_refused() -> None:
    chosen = plan(**ALONE, arms=("unfiltered", JUDGE), row_judge="guard:some/model")
    assert (chosen.judge, setup.questions_of(chosen)) == (None, {})
    with pytest.raises(GeofilterError, match="arm 'judge' needs --row-judge"):
        plan(**ALONE, arms=("unfiltered", JUDGE))
    with pytest.raises(GeofilterError, match=r"answers that are yet to be given; name it with --r"):
        plan(judge="judged:judged.jsonl")
