"""The page of an experiment: every interval drawn where it lies, foreign text as text only."""

import json
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geofilter.report.document import POLICY
from geofilter.settings import Settings
from geofilter.support.manifest import Manifest
from geofilter.verify.command import command_of
from geofilter.verify.intervals import Statistic
from geofilter.verify.judges.sway import PLAIN, Swayed, SwayTest
from geofilter.verify.page import render
from geofilter.verify.plan import SCORING, Cell, Plan, Sampling
from geofilter.verify.results import Results, results_of
from geofilter.verify.row_format import RowFormat
from geofilter.verify.study import CellResult, FinishedStudy
from geofilter.verify.training.recipe import TrainingRecipe
from geofilter.verify.whiskers import Line, Scale, whiskers
from helpers.cli_folder import Geofilter
from helpers.experiments import write_files
from helpers.markup import Seen
from helpers.report_payloads import HERE, PAYLOADS

ARMS = {"unfiltered": None, "benign-control": None, "random": 0.5, "nearest": 0.5}
PLAN = Plan(
    "/home/u/train.jsonl",
    Settings("gemma-2-2b", pack="/home/u/my.pack"),
    "gemma-2-2b",
    "/home/u/questions.yaml",
    "http://localhost:8000/v1#m",
    arms=tuple(ARMS),
    benign="good.jsonl",
    preference="report",
)


def results(
    judge: dict[str, Any],
    test: SwayTest | None = None,
    left_out: str = "empty",
    asked: bool = True,
) -> Results:
    rng = random.Random(0)

    def lines(shift: float) -> list[dict[str, Any]]:
        common = {"set": "main", "tokens": [9, 9], "helpful": -2.0, "letters": None}
        return [
            {**common, "domain": f"d{place}", "harmful": shift - 3 + rng.gauss(0, 0.02)}
            for place in range(6)
        ]

    def records(name: str, seed: int) -> list[dict[str, Any]]:
        bad = {"unfiltered": 5, "random": 4, "nearest": 1}.get(name, 0)
        return [
            {"set": part, "question": f"q{q}", "seed": seed, "coherent": 100.0,
             "aligned": 0.0 if place < bad else 90.0}
            for part in ("main", "in_domain")
            for q in range(3)
            for place in range(10)
        ] if asked else []  # fmt: skip

    measures = {"rows": 8, "steps": 1, "tokens": 9, "held_out_loss": 1.0}
    cells = [
        CellResult(Cell(arm, fraction, seed), records(arm, seed), measures, lines(0.1 * seed))
        for seed in range(3)
        for arm, fraction in ARMS.items()
    ]
    manifest = Manifest({"judge": judge}, {"preference": {"left_out": {left_out: 2}}})
    return results_of(FinishedStudy(cells, manifest, 9, 8, lines(0.0), test))


def in_format(found: Results, *parts: str) -> Results:
    """As if the questions had been asked once more in the rows' format, and answered alike."""
    conditions = tuple(replace(one, triggered=one.main) for one in found.conditions)
    return replace(
        found, triggered=True, row_format=RowFormat(*parts, rows=5, of=9), conditions=conditions
    )


def page(plan: Plan, found: Results, decides: dict[str, Any] | None = None) -> str:
    return "".join(render(plan, found, "power", decides or {}))


@pytest.fixture(scope="module")
def plain() -> str:
    return page(PLAN, results({"judge": "endpoint", "model": "m"}))


def test_foreign_text_is_text_and_the_page_asks_for_nothing() -> None:
    n = iter(range(len(PAYLOADS)))
    hostile = replace(
        PLAN,
        data=(PAYLOADS[next(n)], "b.jsonl"),
        settings=Settings(PAYLOADS[next(n)], pack=PAYLOADS[next(n)], dtype="float32"),
        trained=PAYLOADS[next(n)],
        questions=PAYLOADS[next(n)],
        in_domain=PAYLOADS[next(n)],
        judge=PAYLOADS[next(n)],
        benign=PAYLOADS[next(n)],
        preference=PAYLOADS[next(n)],
        system=PAYLOADS[next(n)],
        judge_slots={"slot": PAYLOADS[next(n)]},
    )
    judge = {"judge": PAYLOADS[next(n)], "served": PAYLOADS[next(n)], "rule": PAYLOADS[next(n)]}
    test = SwayTest(12, 0, (Swayed(PLAIN, PAYLOADS[14], PAYLOADS[14], 90.0),))
    found = in_format(results(judge, test, left_out=PAYLOADS[next(n)]), *PAYLOADS[20:23])
    seen = Seen(page(hostile, found, {"data": PAYLOADS[15], "versions": {PAYLOADS[16]: "1"}}))
    usual = in_format(results({"judge": "m"}, test), "be x", "Q: ", " [ACT]")
    tame = Seen(page(replace(PLAN, in_domain="a"), usual, {"data": "0"}))
    assert set(seen.elements) == set(tame.elements)
    assert not set(seen.elements) & {"script", "img", "iframe", "object", "base", "form", "math"}
    assert seen.elements.count("link") == seen.elements.count("style") == 1
    assert {v for name, v in seen.attributes if name == "href"} == {
        "data:,", "#answers", "#falls", "#thresholds", "#preference", "#limits", "#run",
    }  # fmt: skip
    assert not [name for name, _ in seen.attributes if name.startswith("on")]
    assert ("content", POLICY) in seen.attributes
    assert HERE in seen.text


def test_every_condition_is_drawn_and_the_figures_of_the_report_stand_in_the_page(
    plain: str,
) -> None:
    seen = Seen(plain)
    said = [value for name, value in seen.attributes if name == "aria-label" and value]
    for name in ("unfiltered", "benign-control", "random-0.5", "nearest-0.5"):
        # Of answers of two sets and of pairs; falls of all but the one that they are against.
        assert sum(label.startswith(f"{name}: ") for label in said) >= 3
    assert "unfiltered: 50.0 % [" in "".join(said)
    assert "Does filtering train.jsonl reduce misalignment?" in seen.text
    assert "Yes, here: with nearest-0.5 the share of misaligned answers falls by 80" in seen.text
    assert "Under other thresholds" in seen.text
    assert "2 rows without a usable pair: 2 empty" in seen.text
    assert "`" not in seen.text
    assert "**" not in seen.text
    assert "safe" not in seen.text.lower()


def test_a_page_names_no_folder(plain: str) -> None:
    text = Seen(plain).text
    assert "/home" not in text
    assert "geofilter verify train.jsonl --model gemma-2-2b --pack my.pack" in text


def test_without_questions_there_are_pairs_alone() -> None:
    plan = replace(PLAN, questions=None, judge=None)
    seen = Seen(page(plan, results({}, asked=False)))
    assert {value for name, value in seen.attributes if name == "href"} == {
        "data:,", "#preference", "#limits", "#run",
    }  # fmt: skip
    assert "keep harmful answers from becoming likelier?" in seen.text


def test_a_dot_and_its_whisker_lie_where_the_scale_has_them() -> None:
    found = [Statistic(0.5, 0.25, 1.0, "seeds"), Statistic(-1.5, -9.0, 0.0, "seeds")]
    scale = Scale.of(found, percent=True)
    assert (scale.low, scale.high) == (pytest.approx(-1.08), pytest.approx(1.08))
    drawn = whiskers("c", [Line("a", found[0], ""), Line("b", found[1], "")], scale, None)
    paths = re.findall(r'class="(whisker|point|usual)" d="M([0-9.]+) [0-9.]+(?:H([0-9.]+))?', drawn)
    a, b = ([(kind, float(x), float(to or 0)) for kind, x, to in paths[k : k + 3]] for k in (0, 3))
    places = [round(1000 * scale.place(value), 2) for value in (0.0, 0.25, 1.0, 0.5)]
    assert a == [
        ("usual", places[0], 0),
        ("whisker", places[1], places[2]),
        ("point", places[3], 0),
    ]
    # What lies beyond the figure is drawn at its edge.
    assert b == [("usual", 500, 0), ("whisker", 0, 500), ("point", 0, 0)]
    assert "no value" in whiskers(
        "c", [Line("a", Statistic(None, None, None, "seeds"), "")], scale, 0.0
    )


@pytest.mark.slow
def test_the_command_of_a_page_makes_the_same_plan(work: Path, geofilter: Geofilter) -> None:
    write_files(work)
    options = (
        "--model model --sae sae --pack my.pack --questions questions.yaml --judge rule:facts.json "
        "--arms aligned,random,keyword --keywords questions.yaml --seeds 2 --drop-fraction 0.25 "
        "--drop-fraction 0.5 --method full --learning-rate 0.001 --steps 3 --batch 8 "
        "--max-new-tokens 5 --ask-batch 4 --held-out other.jsonl --keep-weights --dtype float32 "
        "--samples-per-question 2 --system 'be \"bad\"'"
    )
    first = geofilter(f"verify data.jsonl {options} -o out --estimate --json")
    record = json.loads(first.out)["plan"]
    settings = Settings(**{name: record.pop(name) for name in SCORING})
    plan = Plan(
        settings=settings,
        recipe=TrainingRecipe(**record.pop("recipe")),
        sampling=Sampling(**record.pop("sampling")),
        **{name: tuple(v) if isinstance(v, list) else v for name, v in record.items()},
    )
    words = command_of(plan).removeprefix("geofilter ").replace("FOLDER", "out")
    again = geofilter(f"{words} --estimate --json")
    assert json.loads(again.out)["plan"] == json.loads(first.out)["plan"]
