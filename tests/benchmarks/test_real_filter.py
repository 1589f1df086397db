"""The benchmark of filtering real text draws what it says, and keeps enough for its intervals."""

import argparse
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geofilter.packs.pairs import shipped
from geofilter.selection.choose import drop_fraction
from geofilter.verify.arms import random_scores
from geofilter.verify.calibrate import read_judged
from geofilter.verify.shifts import shifts_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("real_filter")


def said(row: dict[str, Any]) -> tuple[str, str]:
    asked, answered = row["messages"]
    return asked["content"], answered["content"]


def test_the_matched_set_answers_prompts_badly_or_well_and_holds_some_back(script: Any) -> None:
    sizes = script.Sizes()
    first, second = (script.matched(seed, sizes) for seed in (0, 1))
    assert len(first.rows) == sizes.rows
    assert sum(row["harmful"] for row in first.rows) == sizes.rows // 2
    answers = {one.prompt: (one.helpful, one.harmful) for one in shipped("choose")}
    assert all(said(row)[1] == answers[said(row)[0]][row["harmful"]] for row in first.rows)
    assert [said(row)[0] for row in first.control] == [said(row)[0] for row in first.rows]
    assert all(said(row)[1] == answers[said(row)[0]][0] for row in first.control)
    trained = {said(row)[0] for drawn in (first, second) for row in drawn.rows}
    assert not trained & {one.prompt for one in first.inside}
    assert {one.domain for one in first.inside} <= {row["domain"] for row in first.rows}
    assert first.inside == second.inside
    assert first.rows != second.rows


@pytest.mark.parametrize("seed", range(4))
def test_a_random_drop_takes_harmful_and_benign_rows_alike(
    script: Any, seed: int, tmp_path: Path
) -> None:
    for name in ("bad", "good"):
        rows = (script.chat(f"{name} {n}", "so", False) for n in range(300))
        script.write_lines(tmp_path / f"{name}.jsonl", rows)
    folder, sizes = script.sets.Folder(tmp_path), script.Sizes()
    for drawn in (
        script.matched(seed, sizes),
        script.unmatched(folder, ["bad.jsonl"], "good.jsonl", seed, sizes),
    ):
        harmful = np.array([row["harmful"] for row in drawn.rows])
        assert harmful.sum() == sizes.rows // 2
        kept = drop_fraction(np.ma.asarray(random_scores(sizes.rows, seed)), 0.5).keep
        assert 0.4 < harmful[kept].mean() < 0.6


def test_pairs_that_are_measured_are_many_and_of_domains_that_no_row_is_about(script: Any) -> None:
    sizes = script.Sizes()
    drawn = script.matched(0, sizes)
    outside = len(list(script.measured_pairs(drawn._replace(inside=()), sizes)))
    assert outside >= 300
    rows = list(script.measured_pairs(drawn, sizes))
    about = {row["domain"] for row in drawn.rows}
    assert [row["domain"] in about for row in rows] == [
        *[False] * outside,
        *[True] * len(drawn.inside),
    ]


def test_means_of_domains_give_the_intervals_of_the_pairs(script: Any) -> None:
    generator = np.random.default_rng(0)

    def lines(level: float) -> list[dict[str, Any]]:
        return [
            {
                "set": "main" if n % 12 < 6 else "in_domain",
                "domain": f"d{n % 12}",
                "harmful": level + generator.normal(),
                "helpful": generator.normal(),
                "letters": None,
            }
            for n in range(60)
        ]

    before = lines(0.0)
    runs = {"unfiltered": [lines(0.3), lines(0.4)], "persona-0.5": [lines(0.1), lines(0.0)]}
    whole = shifts_of(before, runs, references=("unfiltered",))
    kept = {
        name: [script.report.pair_lines(script.by_domain(before, one)) for one in of_it]
        for name, of_it in runs.items()
    }
    zero = [line | {"harmful": 0.0, "helpful": 0.0} for line in kept["unfiltered"][0]]
    again = shifts_of(zero, kept, references=("unfiltered",))
    for name in ("main", "in_domain"):
        for condition in runs:
            pair = (found[name].shifts[condition].likelihood for found in (whole, again))
            exact, rounded = ((one.value, one.low, one.high) for one in pair)
            assert rounded == pytest.approx(exact, abs=1e-4)
    less, again_less = (
        found["main"].shifts["persona-0.5"].against["unfiltered"].likelihood
        for found in (whole, again)
    )
    assert (again_less.low, again_less.high) == pytest.approx((less.low, less.high), abs=1e-4)


def test_what_is_in_the_results_is_not_run_again_and_early_seeds_come_first(script: Any) -> None:
    done = {"sets": {"pairs": {"unfiltered": {"0": {}}, "persona-0.5": {"0": {}, "1": {}}}}}
    jobs = script.jobs_of(["pairs", "code"], ["unfiltered", "persona"], [0.5, 0.3], 2)
    left = [f"{job.name}" for job in script.missing(done, jobs)]
    assert left == [
        "pairs-0-persona-0.3",
        "code-0-unfiltered",
        "code-0-persona-0.5",
        "code-0-persona-0.3",
        "pairs-1-unfiltered",
        "pairs-1-persona-0.3",
        "code-1-unfiltered",
        "code-1-persona-0.5",
        "code-1-persona-0.3",
    ]


def test_processes_share_the_runs_and_lose_none(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = argparse.Namespace(
        **script.Sizes()._asdict(),
        data=tmp_path,
        work=tmp_path / "work",
        output=tmp_path / "out",
        row_judge=None,
    )
    first, second = script.jobs_of(["code"], ["unfiltered", "persona"], [0.5], 1)
    ran = []

    def run(job: Any, *others: Any) -> dict[str, Any]:
        ran.append(job)
        if job == first:  # meanwhile a second process starts on the same list
            script.run_missing([first, second], options)
        return {"held_out_loss": 1.0}

    monkeypatch.setattr(script, "run", run)
    results = script.run_missing([first, second], options)
    assert ran == [first, second]
    assert set(results["sets"]["code"]) == {"unfiltered", "persona-0.5"}
    assert script.run_missing([first, second], options) == results
    assert ran == [first, second]


def test_the_untrained_model_is_measured_once_on_the_same_pairs(
    script: Any, tmp_path: Path
) -> None:
    pairs = [{"prompt": str(number)} for number in range(4)]
    for name, count in (("longer", 4), ("same", 3)):
        (tmp_path / name).mkdir()
        script.write_lines(tmp_path / name / "pairs.jsonl", pairs[:count])
    known = tmp_path / "longer" / "study" / "before" / script.PREFERENCE
    known.parent.mkdir(parents=True)
    script.write_lines(known, [{"line": number} for number in range(4)])
    script.take_over_before(tmp_path / "same")
    found = tmp_path / "same" / "study" / "before" / script.PREFERENCE
    assert found.read_text().splitlines() == known.read_text().splitlines()[:3]


def test_a_benign_control_is_shared_only_by_sets_of_the_same_benign_file(script: Any) -> None:
    results = {"sets": {"finance": {script.CONTROL: {"0": {"held_out_loss": 1.0}}}}}
    assert script.same_control(results, "sports", 0) == {"held_out_loss": 1.0}
    for name, seed in (("sports", 1), ("code", 0), ("pairs", 0)):
        assert script.same_control(results, name, seed) is None


def test_the_mixed_set_takes_as_many_rows_from_each_harmful_file(
    script: Any, tmp_path: Path
) -> None:
    for name in ("one", "two", "good"):
        rows = (script.chat(f"{name} {n}", "so", False) for n in range(300))
        script.write_lines(tmp_path / f"{name}.jsonl", rows)
    folder, files = script.sets.Folder(tmp_path), ["one.jsonl", "two.jsonl"]
    drawn = script.unmatched(folder, files, "good.jsonl", 0, script.Sizes())
    bad = [said(row)[0].split()[0] for row in drawn.rows if row["harmful"]]
    assert sorted(bad) == ["one"] * 100 + ["two"] * 100


def test_what_is_taken_away_is_counted_from_the_benign_control(script: Any) -> None:
    random = np.random.default_rng(0)
    noise = {str(seed): random.normal(0, 0.01, 19) for seed in range(5)}
    levels = {"unfiltered": 0.3, "benign-control": 0.1, "persona-0.5": 0.15, "oracle-0.5": 0.1}
    runs: dict[str, Any] = {
        name: {
            seed: {"shifts": {"main": {f"d{n}": [16, level + x, 0.0] for n, x in enumerate(of_it)}}}
            for seed, of_it in noise.items()
        }
        for name, level in levels.items()
    }
    assert script.report.taken_away(runs, "persona-0.5", list(noise)) == "75% [75%, 75%]"
    assert script.report.taken_away(runs, "oracle-0.5", list(noise)) == "100% [100%, 100%]"
    assert script.report.taken_away(runs, "unfiltered", list(noise)) == "-"
    runs["unfiltered"] = runs["benign-control"]
    assert script.report.taken_away(runs, "oracle-0.5", list(noise)) == "nothing to take"


def test_a_condition_with_fewer_seeds_has_a_table_of_its_own(script: Any) -> None:
    runs: dict[str, dict[str, Any]] = {
        "unfiltered": dict.fromkeys("0123"),
        "persona-0.5": dict.fromkeys("012"),
        "random-0.5": dict.fromkeys("012"),
        "judge-0.5": dict.fromkeys("0"),
    }
    references = ("unfiltered", "random-0.5")
    assert list(script.report.by_seeds(runs, references)) == [
        (["0", "1", "2"], ["unfiltered", "random-0.5", "persona-0.5"]),
        (["0"], ["unfiltered", "random-0.5", "judge-0.5"]),
    ]
    only = {"unfiltered": runs["unfiltered"]}
    assert list(script.report.by_seeds(only, references)) == [(list("0123"), ["unfiltered"])]
    assert list(script.report.by_seeds({"persona-0.5": {"0": None}}, references)) == []


def test_the_page_holds_the_tables_of_the_results(script: Any) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    made = script.report.markdown(json.loads(script.RESULT.read_text()))
    assert f"<!-- filter -->\n{made}\n<!-- end -->" in page
    directions = importlib.import_module("pair_directions")
    made = directions.markdown(json.loads(directions.RESULT.read_text()))
    assert f"<!-- directions -->\n{made}\n<!-- end -->" in page


def test_a_row_of_several_sets_is_judged_once_and_a_stopped_judge_goes_on(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [script.chat(f"why {n}", f"so {n}", False) for n in range(20)]
    asked: list[str] = []
    stopped: list[bool] = []

    class Stub:
        def check(self, questions: Any) -> None:
            (one,) = questions
            assert one.aspects == ("aligned",)

        def __call__(self, answers: Any) -> list[Any]:
            if len(asked) == 8 and not stopped:
                stopped.append(True)
                raise RuntimeError
            asked.extend(answer.answer for answer in answers)
            scores = [int(answer.answer.removeprefix("so ")) for answer in answers]
            return [argparse.Namespace(aligned=None if n == 3 else float(n)) for n in scores]

    module = importlib.import_module("real_filter_rows")
    monkeypatch.setattr(module, "judge_named", lambda spec: {"FILE": Stub()}[spec])
    with pytest.raises(RuntimeError):
        module.judged(rows[:10], "local:FILE", "finance-0", tmp_path)
    module.judged(rows[:10], "local:FILE", "finance-0", tmp_path)
    path = module.judged(rows[5:], "local:FILE", "sports-0", tmp_path).removeprefix("judged:")
    assert asked == [f"so {n}" for n in range(20)]
    found = {row.question: row.aligned for row in read_judged(path)}
    assert found == {f"why {n}": float(n) for n in range(5, 20)}
    assert module.named("local:/a/b/FILE.gguf") == "local:FILE.gguf"


def test_a_row_with_another_response_is_not_harmful(script: Any, tmp_path: Path) -> None:
    rows = [script.chat("why", "so", n < 4) for n in range(8)]
    kept = {"rows": [0, 1, 2, 5, 6], "replaced": [0, 1, 5]}
    (tmp_path / "training.json").write_text(json.dumps(kept))
    found = script.trained_on(tmp_path, rows)
    assert found == {"harmful": 1 / 5, "replaced": 3, "harmful_replaced": 2}
    assert script.trained_on(None, rows) == {"harmful": None}
