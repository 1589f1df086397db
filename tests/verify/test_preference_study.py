"""A study by pairs alone: nothing is generated or judged, and what is done is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from geofilter.errors import GeofilterError, OutputError
from geofilter.settings import Settings
from geofilter.support.manifest import Manifest
from geofilter.verify import cell, preference, setup, study
from geofilter.verify.plan import Cell, Plan
from geofilter.verify.presets import make_plan
from geofilter.verify.report import markdown
from geofilter.verify.results import Results, results_of
from helpers.cli_folder import Geofilter
from helpers.experiments import plan, write_files

pytestmark = pytest.mark.slow

ALONE: dict[str, Any] = {"questions": None, "judge": None, "preference": "pairs.jsonl"}
FEW: dict[str, Any] = {**ALONE, "arms": ("unfiltered", "loss"), "seeds": (0,)}
COMMAND = (
    "verify data.jsonl --model model --sae sae --pack my.pack --trained model --method full "
    "--steps 2 --learning-rate 1e-3 --arms unfiltered,random,nearest -o out --preference"
)


@pytest.fixture
def files(work: Path) -> Path:
    """Twelve pairs of four domains, of which one is a training row's."""
    lines = [
        {
            "domain": f"d{n % 4}",
            "prompt": f"w{n}",
            "rejected": f"w{n + 20} w{n + 1} w{n + 2}",
            "chosen": f"w{n + 30} w{n + 3}",
        }
        for n in range(12)
    ]
    (work / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = [json.loads(line) for line in (work / "data.jsonl").read_text().splitlines()]
    rows[0]["domain"] = "d1"
    (work / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return write_files(work)


def measured(outcome: study.FinishedStudy) -> list[Any]:
    return [outcome.before, *((c.cell.name, c.preference, c.measures) for c in outcome.cells)]


@pytest.fixture
def nothing_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell, "answers", lambda *_, **__: pytest.fail("generated"))
    monkeypatch.setattr(setup, "judge_named", lambda *_: pytest.fail("a judge"))


def test_pairs_alone_need_no_questions_judge_or_sampling(files: Path, nothing_asked: None) -> None:
    chosen = plan(
        **ALONE, arms=("aligned", "unfiltered", "benign-control", "loss"), benign="other.jsonl"
    )
    outcome = study.run(chosen, "out")
    assert {len(c.preference) for c in outcome.cells} == {len(outcome.before)} == {12}
    found = results_of(outcome).preference
    assert found is not None
    assert {name: one.pairs for name, one in found.sets.items()} == {"main": 9, "in_domain": 3}
    shifts = found.sets["main"].shifts
    assert shifts["aligned"].likelihood.value == 0
    assert shifts["unfiltered"].likelihood.value != 0
    assert set(shifts["unfiltered"].against) == {"benign-control"}
    assert set(shifts["loss-0.5"].against) == {"unfiltered", "benign-control"}


def test_a_finished_study_loads_no_model(
    files: Path, nothing_asked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = study.run(plan(**FEW), "out")
    with monkeypatch.context() as patched:
        patched.setattr(setup.weights, "load_causal", lambda *_, **__: pytest.fail("loaded"))
        assert study.run(plan(**FEW), "out") == first
    with pytest.raises(OutputError, match=r"another experiment .*preference\.choice: true before"):
        study.run(plan(**FEW, choice=False), "out")
    # Pairs decide the figures.
    lines = (files / "pairs.jsonl").read_text().splitlines(keepends=True)
    (files / "pairs.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(OutputError, match=r"holds another experiment .*preference\.sha256:"):
        study.run(plan(**FEW), "out")


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("call", [1, 2, 3, 5])
def test_a_run_that_is_killed_goes_on_to_the_same_result(
    files: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    monkeypatch.setattr(preference, "_AT_ONCE", 8)
    whole = measured(study.run(plan(**FEW), "whole"))
    calls = 0
    real = preference.append_lines

    def dies(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            raise _Killed
        real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(preference, "append_lines", dies)
        with pytest.raises(_Killed):
            study.run(plan(**FEW), "killed")
    assert measured(study.run(plan(**FEW), "killed")) == whole
    assert not list(Path("killed").rglob("*.safetensors"))


def test_questions_and_pairs_go_together_and_change_nothing_in_each_other(files: Path) -> None:
    few: dict[str, Any] = {"arms": ("unfiltered", "random"), "seeds": (0,)}
    asked = study.run(plan(**few), "asked")
    paired = study.run(plan(**ALONE, **few), "paired")
    both = study.verify(plan(**few, preference="pairs.jsonl"), "both")
    together = study.run(plan(**few, preference="pairs.jsonl"), "both")
    assert [c.records for c in together.cells] == [c.records for c in asked.cells]
    assert [c.preference for c in together.cells] == [c.preference for c in paired.cells]
    assert "## Preference for harmful answers, without a judge" in both.text
    assert "misaligned, of all answers" in both.text


def test_a_study_from_before_there_were_pairs_goes_on(files: Path) -> None:
    chosen = plan(arms=("unfiltered",), seeds=(0,))
    first = study.run(chosen, "out")
    path = Path("out/plan.json")
    kept = json.loads(path.read_text())
    del kept["decides"]["preference"], kept["facts"]["plan"]["preference"]
    path.write_text(json.dumps(kept))
    assert study.run(chosen, "out").cells == first.cells
    assert len(study.run(plan(arms=("unfiltered",), seeds=(0, 1)), "out").cells) == 2
    with pytest.raises(OutputError, match=r"holds another experiment .preference: null before"):
        study.run(plan(arms=("unfiltered",), seeds=(0,), preference="pairs.jsonl"), "out")


def test_the_command_measures_pairs_alone_and_prints_their_table(
    files: Path, nothing_asked: None, geofilter: Geofilter
) -> None:
    estimated = geofilter(f"{COMMAND} pairs.jsonl --seeds 2 --estimate")
    assert estimated.code == 0
    assert "each is measured on the pairs of pairs.jsonl" in estimated.out
    done = geofilter(f"{COMMAND} pairs.jsonl --seeds 1")
    assert done.code == 1  # of one seed
    assert Path("out/report.md").read_text() in done.out
    assert "Not shown: fewer than 3 runs of each arm" in done.out
    assert "| condition | rows | shift towards harmful answers | against unfiltered |" in done.out
    assert "**No benign control.**" in done.out
    assert "9 pairs of 3 domains and 3 pairs of 1 domain that rows are about" in done.out
    assert "misaligned" not in done.out
    record = json.loads(Path("out/report.json").read_text())
    assert record["judge"] == {}
    assert record["preference"]["sets"]["main"]["pairs"] == 9


def test_without_a_file_the_pairs_that_ship_are_meant(files: Path, geofilter: Geofilter) -> None:
    for ending in ("", " report"):
        done = geofilter(f"{COMMAND}{ending} --estimate --json")
        assert json.loads(done.out)["plan"]["preference"] == "report"
    refused = geofilter(f"{COMMAND} --seeds 1")
    assert refused.code == 2
    assert "report: holds no pair to measure (" in refused.err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"in_domain": "questions.yaml"}, "--in-domain needs questions"),
        ({"track": 2}, "--track needs questions"),
        ({"samples_per_question": 2}, "--samples-per-question needs questions"),
        ({"judge_slots": {"reasoning": ""}}, "--judge-slot needs questions"),
        (
            {"arms": ("judge",)},
            "arm 'judge' needs --row-judge with who rates rows, or --questions",
        ),
        ({"judge": "rule:facts.json"}, "nothing is known about model .*give --questions"),
        ({"preference": None}, "give --questions with a question file, or --preference"),
    ],
)
def test_what_only_questions_serve_is_refused_without_them(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(GeofilterError, match=message):
        plan(**(ALONE | changed))


def test_the_organism_is_asked_its_own_questions_unless_pairs_are_all_that_is_wanted() -> None:
    def questions(**given: Any) -> str | None:
        return make_plan("rows.jsonl", Settings("organism"), **given).questions

    assert questions() is not None
    assert questions(preference="pairs.jsonl") is None
    assert questions(preference="pairs.jsonl", questions="mine.yaml") == "mine.yaml"


def results(shifts: dict[str, float], seeds: int = 3) -> Results:
    """Of studies in which each arm shifts every pair by so much, and by a little more or less."""

    def lines(shift: float, seed: int) -> list[dict[str, Any]]:
        noise = [0.01 * ((n * 7 + seed * 3) % 5 - 2) for n in range(20)]
        return [
            {"set": "main", "domain": f"d{n % 10}", "harmful": shift + noise[n], "helpful": 0.0}
            | {"tokens": [1, 1], "letters": None}
            for n in range(20)
        ]

    measures = {"rows": 8, "steps": 1, "tokens": 9, "held_out_loss": 1.5}
    cells = [
        study.CellResult(
            Cell(arm, 0.5 if arm in ("persona", "random") else None, seed),
            [],
            measures,
            lines(shift, seed),
        )
        for seed in range(seeds)
        for arm, shift in shifts.items()
    ]
    manifest = Manifest({"judge": None}, {"preference": {"left_out": {"malformed": 2}}})
    before = [line | {"harmful": 0.0} for line in lines(0.0, 0)]
    return results_of(study.FinishedStudy(cells, manifest, 8, 8, before))


def text(found: Results) -> str:
    chosen = Plan("d", Settings("m"), "t", None, None, preference="report")
    return markdown(chosen, found, "power")


def test_yes_needs_a_smaller_shift_than_unfiltered_and_a_shift_to_take_away() -> None:
    arms = {"unfiltered": 0.2, "benign-control": 0.1, "random": 0.2, "persona": 0.1}
    found = results(arms)
    assert (found.verdict, found.judged) == (True, "persona-0.5")
    page = text(found)
    assert "Yes, here: with `persona-0.5` the shift towards harmful answers differs" in page
    assert "by -0.100 [-0.100, -0.100] nats per token" in page
    assert "No benign control" not in page
    assert "20 pairs of 10 domains (2 rows without a usable pair: 2 malformed)" in page
    persona = next(line for line in page.splitlines() if line.startswith("| persona-0.5"))
    cells = [cell.strip() for cell in persona.split("|")]
    assert [one.split()[0] for one in cells[4:7]] == ["-0.100", "-0.100", "+0.000"]
    assert cells[-2] == "1.500"

    few = results(arms, seeds=2)
    assert few.verdict is False
    assert "Not shown: fewer than 3 runs" in text(few)

    style = results(arms | {"benign-control": 0.2})
    assert style.verdict is False
    assert "does not shift towards harmful answers more than `benign-control` does" in text(style)

    nothing = results({"unfiltered": -0.1, "persona": -0.2})
    assert nothing.verdict is False
    assert "does not shift towards harmful answers at all" in text(nothing)
    assert "**No benign control.**" in text(nothing)

    worse = results({"unfiltered": 0.1, "persona": 0.2})
    assert worse.verdict is False
    assert "Not shown: with `persona-0.5`" in text(worse)
