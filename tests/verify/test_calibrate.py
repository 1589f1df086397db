"""Judges that agree with a file, score otherwise, guess, or say nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from geofilter.errors import DataError
from geofilter.verify.calibrate import Calibration, JudgedRow, calibrate, read_judged, table
from geofilter.verify.judges import by_name
from geofilter.verify.questions import Question
from helpers.asking import StubJudge
from helpers.cli_folder import Geofilter

PROMPTS = {"aligned": "{answer}", "coherent": "{answer}"}
QUESTIONS = [Question("q", ("why",), judge_prompts=PROMPTS)]
# 20 answers, 5 of them misaligned.
ROWS = [
    JudgedRow("why", str(score), float(score), 90.0)
    for score in (2, 8, 14, 20, 26, *range(32, 92, 4))
]


def agreement(aligned: Callable[[str], float | None], rows: list[JudgedRow] = ROWS) -> Calibration:
    return calibrate(StubJudge(aligned), rows, QUESTIONS)


def test_a_judge_that_says_the_same_agrees_wholly() -> None:
    found = agreement(float)
    assert (found.answers, found.compared, found.unscored, found.unlabelled) == (20, 20, 0, 0)
    assert (found.misaligned, found.judged_misaligned, found.kappa, found.shift) == (
        0.25,
        0.25,
        1,
        0,
    )
    assert found.auroc is not None
    assert found.auroc.value == 1
    assert found.threshold == 30
    assert [one.answers for one in found.bins] == [3, 4, 5, 5, 3]
    assert found.bins[0].misaligned == 1


def test_a_judge_that_scores_higher_is_known_by_its_shift_and_its_threshold() -> None:
    found = agreement(lambda text: float(text) / 2 + 50)
    assert found.judged_misaligned == 0
    assert found.auroc is not None
    assert found.auroc.value == 1  # the order is right
    assert found.kappa == 0
    assert found.threshold == 64  # the first above 63, which is what it gives 26
    assert found.kappa_there == 1
    assert found.shift is not None
    assert found.shift > 20


def test_a_judge_that_gives_one_score_tells_nothing() -> None:
    found = agreement(lambda text: 80.0)
    assert found.auroc is not None
    assert (found.auroc.value, found.kappa) == (0.5, 0)


def test_unscored_answers_are_counted_and_compared_with_nothing() -> None:
    rows = [*ROWS, JudgedRow("why", "50", None, 90.0), JudgedRow("why", "50", 50.0, None)]
    found = agreement(lambda text: None if text == "2" else float(text), rows)
    assert (found.answers, found.unlabelled, found.unscored, found.compared) == (22, 2, 1, 19)
    silent = agreement(lambda text: None)
    assert (silent.unscored, silent.compared, silent.auroc, silent.threshold) == (20, 0, None, None)
    assert ("AUROC for misaligned", "-") in table(silent)


def test_without_coherence_alignment_alone_decides() -> None:
    found = agreement(float, [row._replace(coherent=None) for row in ROWS])
    assert (found.by_coherence, found.compared, found.misaligned) == (False, 20, 0.25)
    assert any("no coherence" in name for name, _ in table(found))


def test_a_file_of_one_kind_recommends_nothing() -> None:
    found = agreement(float, ROWS[5:])
    assert (found.misaligned, found.auroc, found.threshold, found.kappa) == (0, None, None, None)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("question,response,aligned,coherent\nwhy,so,7,\n", ""),
        ("question,answer,aligned\nwhy,so,nan\n", ""),
        ("question,aligned\nwhy,7\n", "judged.csv:2: has no response or answer"),
        ("answer,aligned\nso,7\n", "judged.csv:2: has no question"),
        ("question,answer\nwhy,so\n", "judged.csv:2: has no column aligned"),
        ("question,answer,aligned\nwhy,so,101\n", "judged.csv:2: aligned is '101', not a number"),
        ("question,answer,aligned\nwhy,so,good\n", "judged.csv:2: aligned is 'good'"),
        ("question,answer,aligned\n", "holds no"),
    ],
)
def test_files_are_read_or_refused_with_place_and_value(
    lines: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judged.csv").write_text(lines)
    if not said:
        (row,) = read_judged("judged.csv")
        assert (row.question, row.answer, row.coherent) == ("why", "so", None)
        return
    with pytest.raises(DataError, match=said):
        read_judged("judged.csv")


def test_the_command_prints_one_table_and_warns_of_a_judge_that_is_swayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, geofilter: Geofilter
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [f"{r.question},{r.answer},{r.aligned},{r.coherent}" for r in ROWS]
    Path("judged.csv").write_text("\n".join(["question,response,aligned,coherent", *lines]) + "\n")
    Path("q.yaml").write_text(
        "- {id: q, type: free_form_judge_0_100, paraphrases: [why], "
        f"judge_prompts: {json.dumps(PROMPTS)}}}\n"
    )
    stub = StubJudge(lambda text: float(text) if text.isdigit() else 90.0)
    monkeypatch.setattr(by_name, "JUDGES", (("stub", lambda spec, rule: stub),))
    done = geofilter("judge judged.csv --judge stub --questions q.yaml")
    assert done.code == 0
    assert "the judge calls 3 of 3 harmful answers aligned" in done.err
    assert "AUROC for misaligned" in done.out
    assert "1.000 [" in done.out
    record = json.loads(geofilter("judge judged.csv --judge stub --questions q.yaml --json").out)
    assert (record["threshold"], record["auroc"]["value"]) == (30, 1)
    assert len(record["judge_test"]["wrong"]) == 9
