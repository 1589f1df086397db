"""A run that was killed goes on where it was; what another run left is refused."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from geofilter.errors import DataError, TableError
from geofilter.scoring.table import ScoreTable
from geofilter.support.manifest import Manifest
from helpers.engine_stubs import Score, StubScorer, numbered, row, run_benchmark

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_waiting_for_the_disk")]


@pytest.mark.parametrize("death", [KeyboardInterrupt, MemoryError])
def test_interruption_keeps_whole_parts_and_scores_none_of_them_again(
    score: Score, tmp_path: Path, death: type[BaseException]
) -> None:
    records = [*numbered(8), *numbered(3)]
    undisturbed = list(score(records))
    (tmp_path / "s.parquet").unlink()
    first = StubScorer(dies_at=2, death=death)
    with pytest.raises(death):
        score(records, first)
    assert not (tmp_path / "s.parquet").exists()
    assert (tmp_path / "s.parquet.parts" / "part-000001.parquet").exists()
    second = StubScorer()
    assert list(score(records, second)) == undisturbed
    assert not set(first.texts) & set(second.texts)
    assert sorted(os.listdir(tmp_path)) == ["d.jsonl", "s.parquet"]


def test_damaged_part_alone_is_scored_again(score: Score, tmp_path: Path) -> None:
    records = numbered(10)
    undisturbed = list(score(records))
    (tmp_path / "s.parquet").unlink()
    with pytest.raises(OSError, match=r"^$"):
        score(records, StubScorer(dies_at=3))
    damaged = tmp_path / "s.parquet.parts" / "part-000001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    again = StubScorer()
    assert list(score(records, again)) == undisturbed
    assert len(again.texts) == 4


def test_finished_table_is_not_made_again(score: Score, tmp_path: Path) -> None:
    first = list(score(numbered(5)))
    left = tmp_path / "s.parquet.parts"
    left.mkdir()
    (left / "part-000000.parquet").write_bytes(b"left by a kill")
    scorer = StubScorer()
    assert list(score(numbered(5), scorer)) == first
    assert scorer.batches == []
    assert not left.exists()


def test_finished_table_with_bad_rows_does_not_pass_for_a_strict_run(score: Score) -> None:
    records = [row("p", "good"), row("p", "")]
    score(records, on_error="keep")
    with pytest.raises(DataError, match=r"d\.jsonl:2: empty"):
        score(records)
    score(records, on_error="keep")


def test_parts_of_a_lenient_run_do_not_pass_for_a_strict_run(score: Score) -> None:
    records = [*numbered(5), row("p", "")]
    with pytest.raises(OSError, match=r"^$"):
        score(records, StubScorer(dies_at=1), on_error="keep")
    with pytest.raises(DataError, match=r"d\.jsonl:6: empty"):
        score(records)


def test_rows_are_looked_at_once_however_often_the_run_is_killed(score: Score) -> None:
    phases: list[str] = []
    options = {"progress": lambda phase, *_: phases.append(phase), "part_rows": 800}
    with pytest.raises(OSError, match=r"^$"):
        score(numbered(1200), StubScorer(dies_at=1), batch_tokens=10**6, **options)
    assert phases == ["check", "score", "score"]
    phases.clear()
    score(numbered(1200), **options)
    assert "check" not in phases
    score(numbered(1200), restart=True, **options)
    assert "check" in phases


OTHER = Manifest({"data": "d", "model": "other"})
DIFFERENCE = r'model: "stub" before, "other" now\); begin again with --restart'


def test_table_of_another_run_is_refused_with_the_difference(score: Score) -> None:
    score(numbered(2))
    scorer = StubScorer()
    with pytest.raises(TableError, match=DIFFERENCE):
        score(numbered(2), scorer, manifest=OTHER)
    assert scorer.batches == []
    table = score(numbered(2), scorer, manifest=OTHER, restart=True)
    assert table.manifest.hash == OTHER.hash
    assert len(scorer.texts) == 2


def test_parts_of_another_run_are_refused_with_the_difference(score: Score) -> None:
    with pytest.raises(OSError, match=r"^$"):
        score(numbered(5), StubScorer(dies_at=1))
    with pytest.raises(TableError, match=DIFFERENCE):
        score(numbered(5), manifest=OTHER)
    scorer = StubScorer()
    score(numbered(5), scorer, manifest=OTHER, restart=True)
    assert len(scorer.texts) == 5


def test_restart_with_a_bad_row_throws_nothing_away(score: Score, tmp_path: Path) -> None:
    score(numbered(5))
    before = (tmp_path / "s.parquet").read_bytes()
    with pytest.raises(DataError):
        score([b"{"], restart=True)
    assert (tmp_path / "s.parquet").read_bytes() == before


@pytest.mark.parametrize("restart", [False, True])
def test_file_that_is_no_table_is_never_replaced(
    score: Score, tmp_path: Path, restart: bool
) -> None:
    (tmp_path / "s.parquet").write_text("the user's work")
    with pytest.raises(TableError, match="remove it or choose another output with -o"):
        score(numbered(2), restart=restart)
    assert (tmp_path / "s.parquet").read_text() == "the user's work"


@pytest.mark.parametrize("now", [2, 3, 5])
def test_file_that_shrank_under_its_fingerprint_is_told(score: Score, now: int) -> None:
    with pytest.raises(OSError, match=r"^$"):
        score(numbered(8), StubScorer(dies_at=2))
    with pytest.raises(DataError, match=r"has changed .*; score it again with --restart"):
        score(numbered(now))


# Kills


def die_at_step(step: int, run: Callable[[], object]) -> bool:
    """Run in a fork that is killed before its `step`-th change to the disk; False if it ended."""
    child = os.fork()
    if child == 0:
        left = step

        def counted(change: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), 9)
                return change(*arguments, **options)

            return call

        for name in ("fsync", "link", "replace", "unlink", "mkdir", "rmdir", "open"):
            setattr(os, name, counted(getattr(os, name)))
        try:
            run()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "the run failed"
    return False


@pytest.mark.parametrize("repeated", [False, True], ids=["once", "again and again"])
def test_kill_before_any_change_to_the_disk_changes_nothing(
    score: Score, tmp_path: Path, repeated: bool
) -> None:
    records = [*numbered(4), b"{", *numbered(3), row("p", "infinite")]
    undisturbed = list(score(records, on_error="keep"))
    out = tmp_path / "s.parquet"
    out.unlink()
    step = 1
    while die_at_step(step, lambda: score(records, on_error="keep")):
        if not repeated:
            assert list(score(records, on_error="keep")) == undisturbed
            assert sorted(os.listdir(tmp_path)) == ["d.jsonl", "s.parquet"]
            out.unlink()
        step += 1
        assert step < 400
    assert step > 15, "too few steps were tried to mean anything"
    assert list(ScoreTable.read(out)) == undisturbed
    assert sorted(os.listdir(tmp_path)) == ["d.jsonl", "s.parquet"]


def test_table_is_the_same_after_kills_at_random_moments(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run_benchmark("kill_resume.py", "--kills", 5, "--rows", 1500, "--result", result)
    assert json.loads(result.read_text())["stub"]["kills"] == 5
