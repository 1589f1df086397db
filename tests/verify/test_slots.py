"""A study asks its questions with the judge slots that were given, and counts all of them."""

import json
from pathlib import Path

import pytest

from geofilter.errors import DataError, OutputError
from geofilter.verify import study
from geofilter.verify.setup import questions_of
from helpers.cli_folder import Geofilter
from helpers.experiments import QUESTIONS, plan, write_files

INSIDE = QUESTIONS.replace("{answer}", "{thoughts} {answer}").replace("7", "3")
OPTIONS = (
    "verify data.jsonl --model model --sae sae --pack my.pack --questions questions.yaml "
    "--judge rule:facts.json -o out "
)


@pytest.fixture
def files(work: Path) -> Path:
    write_files(work)
    (work / "inside.yaml").write_text(INSIDE)
    return work


def test_an_estimate_counts_the_questions_of_both_files(files: Path, geofilter: Geofilter) -> None:
    done = geofilter(f"{OPTIONS} --estimate")
    assert "each gives 15 answers to the main questions\n" in done.out
    inside = "--in-domain inside.yaml --judge-slot thoughts="
    done = geofilter(f"{OPTIONS} --estimate {inside}")
    assert "each gives 15 answers to the main questions, 11 to those in domain\n" in done.out
    assert "15 answers per arm" not in done.out
    record = json.loads(geofilter(f"{OPTIONS} --estimate {inside} --json").out)
    assert record["answers_per_run"] == {"main": 15, "in_domain": 11}
    assert record["plan"]["judge_slots"] == {"thoughts": ""}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--in-domain gone.yaml", "gone.yaml: cannot be read"),
        ("--in-domain inside.yaml", "with --judge-slot thoughts=TEXT, or drop it"),
        ("--judge-slot thoughts=", "no judge prompt of these questions has it"),
        ("--in-domain inside.yaml --judge-slot thoughts=a --judge-slot x=", "judge slot 'x'"),
        ("--in-domain inside.yaml --judge-slot thoughts", "NAME= to drop the slot"),
        ("--judge-slot thoughts=a --judge-slot thoughts=b", "given twice"),
        ("--judge-slot answer=a", "is filled with the answer"),
    ],
)
def test_an_estimate_finds_what_a_run_would(
    files: Path, geofilter: Geofilter, options: str, said: str
) -> None:
    for estimate in ("--estimate", ""):
        done = geofilter(f"{OPTIONS} {options} {estimate}")
        assert (done.code, done.out) == (2, "")
        # What was read may stand before it.
        *_, line = done.err.splitlines()
        assert said in line


def test_every_set_of_questions_is_read_with_the_slots(files: Path) -> None:
    asked = questions_of(plan(in_domain="inside.yaml", judge_slots={"thoughts": "so {it} was"}))
    assert asked["main"][0].judge_prompts["coherent"] == "{answer}"
    assert asked["in_domain"][0].judge_prompts["coherent"] == "so {{it}} was {answer}"
    with pytest.raises(DataError, match=r"they have thoughts\); leave it out"):
        questions_of(plan(in_domain="inside.yaml", judge_slots={"thoughts": "", "thought": ""}))


@pytest.mark.slow
def test_the_slots_are_a_part_of_what_a_study_is(files: Path) -> None:
    few = {"arms": ("unfiltered",), "seeds": (0,), "in_domain": "inside.yaml"}
    study.run(plan(**few, judge_slots={"thoughts": ""}), "out")
    kept = json.loads(Path("out/plan.json").read_text())
    assert kept["decides"]["judge_slots"] == {"thoughts": ""}
    study.run(plan(**few, judge_slots={"thoughts": ""}), "out")
    with pytest.raises(OutputError, match="holds another experiment"):
        study.run(plan(**few, judge_slots={"thoughts": "none"}), "out")


@pytest.mark.slow
def test_a_study_that_is_older_than_the_slots_goes_on(files: Path) -> None:
    few = {"arms": ("unfiltered",), "seeds": (0,)}
    study.run(plan(**few), "out")
    path = Path("out/plan.json")
    kept = json.loads(path.read_text())
    assert kept["decides"].pop("judge_slots") == {}
    path.write_text(json.dumps(kept))
    study.run(plan(**few), "out")
    study.run(plan(**few | {"seeds": (0, 1)}), "out")
