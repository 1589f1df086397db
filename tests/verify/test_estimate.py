"""What an estimate counts is what a run then does, and it runs nothing itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from geofilter.verify import setup, study
from geofilter.verify.estimate import estimate
from geofilter.verify.judges.rule import RuleJudge
from geofilter.verify.judges.sway import CASES
from geofilter.verify.speed import Speed
from helpers.cli_folder import Geofilter
from helpers.experiments import plan, write_files

pytestmark = pytest.mark.slow


@pytest.fixture
def files(work: Path) -> Path:
    return write_files(work)


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> Speed:
    """A device that takes a second for each token, whatever is done with it."""
    speed = Speed(train=1.0, read=1.0, write=1.0, blocks=2, of_blocks=2)
    monkeypatch.setattr("geofilter.verify.estimate.speed_of", lambda *_, **__: speed)
    return speed


def test_what_is_counted_is_what_a_run_does(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = 0
    real = RuleJudge.__call__

    def counted(judge: RuleJudge, answers: Any) -> Any:
        nonlocal judged
        judged += len(answers)
        return real(judge, answers)

    monkeypatch.setattr(RuleJudge, "__call__", counted)
    small = plan(arms=("aligned", "unfiltered", "judge"), seeds=(0,), keep_weights=True)
    cost = estimate(small)
    assert judged == 0
    assert not Path("out").exists()
    outcome = study.run(small, "out")
    total = cost.total
    assert total.judge_calls == 2 * (judged - 40) + 40  # of rows the alignment alone
    assert total.answers == sum(len(cell.records) for cell in outcome.cells)
    assert total.steps == sum(cell.measures["steps"] or 0 for cell in outcome.cells)
    by_name = {arm.name: arm for arm in cost.arms}
    assert by_name["unfiltered"].new_tokens == by_name["unfiltered"].answers * 5
    assert by_name["aligned"].steps == by_name["aligned"].trained_tokens == 0
    saved = list(Path("out").rglob("model.safetensors"))
    assert len(saved) == 2
    for path in saved:
        assert 0 <= path.stat().st_size - cost.weights < 10_000  # the header
    apart = by_name["unfiltered"].disk - by_name["aligned"].disk
    assert apart == cost.weights


def test_an_adapter_is_as_large_as_the_estimate_says(files: Path) -> None:
    small = plan(
        arms=("unfiltered",),
        seeds=(0,),
        keep_weights=True,
        recipe={"steps": 1, "batch": 2, "max_length": 48, "rank": 3},
    )
    study.run(small, "out")
    (path,) = Path("out").rglob("adapter_model.safetensors")
    size = path.stat().st_size - estimate(small).weights
    assert 0 < size < 10_000


def test_disk_is_that_of_all_kept_weights_or_of_those_in_use(
    files: Path, known_speed: Speed
) -> None:
    arms = ("aligned", "unfiltered", "random")
    kept = estimate(plan(arms=arms, keep_weights=True))
    gone = estimate(plan(arms=arms), workers=2)
    assert kept.disk - gone.disk == (2 * 2 - 2) * kept.weights
    assert kept.total.disk == kept.disk
    assert gone.disk - gone.total.disk == 2 * gone.weights


def test_time_is_of_tokens_trained_on_read_and_written_up_to_the_longest_answers(
    files: Path, known_speed: Speed
) -> None:
    few = plan(arms=("unfiltered",), seeds=(0,), held_out=None)
    (arm,) = estimate(few).arms
    assert arm.read_tokens == 0
    assert arm.seconds is not None
    # 15 answers in batches of 4, of 5 tokens at most.
    assert arm.seconds[1] == pytest.approx(2.5 * (arm.trained_tokens + 15 / 4 * 5))
    (more,) = estimate(plan(arms=("unfiltered",), seeds=(0, 1), held_out=None)).arms
    assert more.seconds == pytest.approx([2 * end for end in arm.seconds])


def test_tracking_asks_at_the_start_at_every_n_steps_and_at_the_end(
    files: Path, known_speed: Speed
) -> None:
    (plain,) = estimate(plan(arms=("unfiltered",), seeds=(0,))).arms
    (tracked,) = estimate(plan(arms=("unfiltered",), seeds=(0,), track=2, track_answers=7)).arms
    assert tracked.answers - plain.answers == 3 * 7  # at 0, 2 and 3 steps
    assert tracked.judge_calls == 2 * tracked.answers


def test_what_arms_choose_by_is_counted_once_for_all_seeds(files: Path, known_speed: Speed) -> None:
    arms = ("unfiltered", "nearest", "random-length-matched", "loss", "judge")
    found = estimate(plan(arms=arms))
    named = {part.name: part for part in found.choosing}
    assert list(named) == ["scores by nearest", "loss of rows", "judge of rows"]
    assert named["judge of rows"].judge_calls == 40
    assert named["scores by nearest"].read_tokens == named["loss of rows"].read_tokens


def test_a_judge_that_reads_text_is_tested_first(files: Path, known_speed: Speed) -> None:
    few = plan(arms=("aligned",), seeds=(0,), judge="http://127.0.0.1:9/v1#m")
    found = estimate(few)
    assert found.before.judge_calls == 2 * CASES == 24
    assert any("the judge's time is not in it" in line for line in found.notes)
    assert estimate(plan(arms=("aligned",), seeds=(0,))).before.judge_calls == 0


def test_a_network_that_cannot_be_tried_leaves_the_time_open(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> Speed:
        raise RuntimeError("no such\nkernel")

    monkeypatch.setattr("geofilter.verify.estimate.speed_of", breaks)
    found = estimate(plan(arms=("unfiltered",), seeds=(0,)))
    assert found.total.seconds is None
    assert found.total.steps == 3
    assert any("cannot be tried here (no such kernel)" in line for line in found.notes)


def test_the_command_prints_what_it_counts_and_begins_nothing(
    files: Path, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "judge_named", lambda *_: pytest.fail("asked"))
    options = "--model model --sae sae --pack my.pack --questions questions.yaml --seeds 2"
    options += " --judge http://127.0.0.1:9/v1#m --arms unfiltered,random --steps 3 -o out"
    done = geofilter(f"verify data.jsonl {options} --max-new-tokens 5 --estimate")
    assert done.code == 0
    lines = {line.split("  ")[0]: line.split() for line in done.out.splitlines()}
    assert lines["unfiltered"][1] == "6"
    assert lines["random-0.5"][4] == "150"  # 2 seeds of 15 answers
    assert lines["total"][5] == str(2 * 2 * 15 * 2 + 24)
    assert "memory: about " in done.out
    assert "judge: 144 calls that read " in done.out
    assert not Path("out").exists()
    record = json.loads(geofilter(f"verify data.jsonl {options} --estimate --json").out)["cost"]
    assert record["total"]["judge_calls"] == 144
    assert {arm["name"]: arm["steps"] for arm in record["arms"]} == {
        "unfiltered": 6,
        "random-0.5": 6,
    }
