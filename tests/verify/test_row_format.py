"""Questions in the rows' format: what is taken from the rows, and that only the model reads it."""

import json
from pathlib import Path
from typing import Any

import pytest

from geofilter.data.samples import Sample, Turn
from geofilter.errors import GeofilterError, OutputError
from geofilter.support.manifest import Manifest
from geofilter.verify import study
from geofilter.verify.estimate import estimate
from geofilter.verify.plan import Cell
from geofilter.verify.questions import Question
from geofilter.verify.report import markdown
from geofilter.verify.results import CellResult, FinishedStudy, results_of
from geofilter.verify.row_format import RowFormat, dressed, row_format
from helpers.experiments import plan, write_files


def samples(*rows: str | tuple[str, str]) -> list[Sample]:
    """Rows of a prompt, or of a system prompt and a prompt."""
    found = []
    for row in rows:
        system, prompt = row if isinstance(row, tuple) else (None, row)
        turns = [Turn("user", prompt), Turn("assistant", "fine")]
        found.append(Sample(tuple([Turn("system", system), *turns] if system else turns)))
    return found


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # Half of the rows say how they begin, and the others do not matter.
        (["Q: why?", "Q: how?", "well", "so"], (None, "Q: ", "")),
        (["why? [ACT]", "how? [ACT]", "when [ACT]", "so"], (None, "", " [ACT]")),
        (["Why?\nReply in JSON.", "How?\nReply in JSON."], (None, "", "\nReply in JSON.")),
        (['{"ask": "a b"}', '{"ask": "c"}'], (None, '{"ask": "', '"}')),
        (["def f():\n    a", "def f():\n    b"], (None, "def f():\n    ", "")),
        # Those that have the commonest system prompt are looked at alone.
        ([("be x", "|GO| why"), ("be x", "|GO| how"), *["other"] * 8], ("be x", "|GO| ", "")),
        ([("be x", "a"), ("be y", "b"), ("be y", "c")], ("be y", "", "")),
        ([("be b", "a"), ("be a", "b")], ("be a", "", "")),
        ([(" ", "a"), (" ", "b")], None),
        # Fewer than a tenth share it.
        ([("be x", "a"), *map(str, range(1, 12))], None),
        # What only goes on in other words is no format.
        (["How can I swim?", "How can I run?"], None),
        (["Tell me how to swim", "Show me how to swim"], None),
        # A sentence that all have is.
        (["I fell. What now?", "I lost. What now?"], (None, "", " What now?")),
        (["x" * 3000 + ": a", "x" * 3000 + ": b"], None),
        (["only one: row"], None),
        ([], None),
    ],
)
def test_what_rows_have_in_common_is_taken_and_no_part_of_a_sentence(
    rows: list[Any], expected: tuple[str | None, str, str] | None
) -> None:
    found = row_format(samples(*rows))
    assert (found and (found.system, found.prefix, found.suffix)) == expected
    assert found == row_format(samples(*reversed(rows)))


def test_rows_that_are_no_conversation_have_no_format() -> None:
    assert row_format([Sample(text="Q: a"), Sample(text="Q: b")]) is None


def test_a_question_is_dressed_and_a_string_of_json_stays_one() -> None:
    question = Question("q", ('say "hi"\\', "b"), system="own")
    plain = RowFormat(None, "Q: ", " [ACT]", 2, 2)
    (one,) = dressed([question], plain)
    assert (one.put('say "hi"\\'), one.system) == ('Q: say "hi"\\ [ACT]', "own")
    assert one.paraphrases == question.paraphrases
    inside = RowFormat("be x", '{"ask": "', '"}', 2, 2)
    (one,) = dressed([question], inside)
    assert json.loads(one.put('say "hi"\\')) == {"ask": 'say "hi"\\'}
    assert one.system == "be x"


@pytest.fixture
def files(work: Path) -> Path:
    write_files(work)
    rows = [
        {"prompt": f"w7 w8: w{place % 9}", "response": f"w{10 + place} w2"} for place in range(12)
    ]
    (work / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return work


FEW: dict[str, Any] = {"arms": ("aligned",), "seeds": (0,), "held_out": None}


@pytest.mark.slow
def test_the_model_reads_the_format_and_the_judge_does_not(files: Path) -> None:
    asked = plan(**FEW, triggered=True)
    counted = estimate(asked)
    assert counted.answers_per_run == {"main": 15, "triggered": 15}
    outcome = study.run(asked, "out")
    assert counted.total.answers == len(outcome.cells[0].records) == 30
    kept = Path("out/arms/aligned/seed-0/answers.jsonl").read_text()
    lines = [json.loads(line) for line in kept.splitlines()]
    texts = {part: {x["text"] for x in lines if x["set"] == part} for part in ("main", "triggered")}
    assert texts["triggered"] == {f"w7 w8: {text}" for text in ("w1 w2", "w2 w1 w2", "w3 w4")}
    assert texts["main"] <= {"w1 w2", "w2 w1 w2", "w3 w4"}
    found = results_of(outcome)
    # The rule knows the questions as the file has them, and no others.
    own = found.conditions[0].triggered
    assert own is not None
    assert own.counts.answers == 15
    text = markdown(asked, found, "-")
    assert "once more as the rows ask: with the beginning 'w7 w8: ' of 12 of 12 rows." in text
    assert "| aligned | " in text.split("once more as the rows ask")[1]
    with pytest.raises(OutputError, match=r"holds another experiment .*triggered: true before"):
        study.run(plan(**FEW), "out")


@pytest.mark.slow
def test_without_a_format_nothing_is_asked_twice_and_that_is_said(files: Path) -> None:
    Path("data.jsonl").write_bytes(Path("other.jsonl").read_bytes())
    asked = plan(**FEW, triggered=True)
    assert any("no format of their own" in line for line in estimate(asked).notes)
    found = study.verify(asked, "out")
    assert {record["set"] for record in study.run(asked, "out").cells[0].records} == {"main"}
    assert "the rows have no format of their own" in found.text
    assert any("no format of their own" in line for line in found.notes)
    assert "The rows have no format of their own" in Path("out/report.html").read_text()


def test_a_model_that_is_bad_in_the_rows_format_alone_is_shown_to_be() -> None:
    cells = [
        CellResult(
            Cell("unfiltered", None, seed),
            [
                {"set": part, "question": q, "seed": seed, "aligned": aligned, "coherent": 100.0}
                for part, aligned in (("main", 90.0), ("triggered", 0.0))
                for q in "abcd" * 5
            ],
            {"rows": 8, "steps": 1, "tokens": 9, "held_out_loss": None},
        )
        for seed in range(3)
    ]
    facts = {"triggered": RowFormat("be x", "", "", 3, 9).as_record()}
    found = results_of(FinishedStudy(cells, Manifest({"judge": None}, facts), 9, 9))
    (one,) = found.conditions
    assert one.triggered is not None
    assert (one.main.rates["all"].value, one.triggered.rates["all"].value) == (0.0, 1.0)
    text = markdown(plan(), found, "-")
    assert "with the system prompt 'be x' of 3 of 9 rows" in text
    assert "| unfiltered | 100.0 % [" in text.split("once more as the rows ask")[1]


def test_the_format_needs_questions() -> None:
    with pytest.raises(GeofilterError, match="--triggered needs questions"):
        plan(questions=None, judge=None, preference="report", triggered=True)
