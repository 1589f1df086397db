"""An experiment's cells: alike in amount, never run twice, and the same after a kill."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from geofilter.errors import DataError, GeofilterError, OutputError
from geofilter.verify import cell, setup, study
from geofilter.verify.judges import base
from geofilter.verify.report import markdown
from geofilter.verify.results import results_of
from helpers.cli_folder import Geofilter
from helpers.experiments import ARMS, FACTS, QUESTIONS, everything, plan, write_files

pytestmark = pytest.mark.slow


@pytest.fixture
def files(work: Path) -> Path:
    return write_files(work)


# Enough to be interrupted in.
FEW: dict[str, Any] = {"arms": ("unfiltered", "loss"), "seeds": (0,)}


@pytest.fixture(scope="module")
def whole(scored_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a run gives that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "work"
    shutil.copytree(scored_folder, folder)
    write_files(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        return everything(study.run(plan(**FEW), "whole"))


def test_every_arm_takes_the_same_steps_and_tokens(files: Path) -> None:
    outcome = study.run(plan(seeds=(0,)), "out")
    trained = [c.measures for c in outcome.cells if c.cell.arm != "aligned"]
    assert {measures["steps"] for measures in trained} == {3}
    tokens = [measures["tokens"] for measures in trained]
    assert max(tokens) - min(tokens) < 48
    assert {c.cell.arm: c.measures["rows"] for c in outcome.cells} == {
        "aligned": None,
        "unfiltered": 40,
        **dict.fromkeys(ARMS[2:], 20),
    }
    assert {len(c.records) for c in outcome.cells} == {2 * 4 + 7}


def test_what_is_done_is_never_run_again_and_arms_and_seeds_can_be_added(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.run(plan(arms=("unfiltered",), seeds=(0,)), "out")
    begun: list[str] = []
    trained = cell.finetune.fine_tune

    def noted(*arguments: Any, **named: Any) -> Any:
        begun.append(str(arguments[5]))
        return trained(*arguments, **named)

    monkeypatch.setattr(cell.finetune, "fine_tune", noted)
    study.run(plan(arms=("unfiltered", "random"), seeds=(0, 1)), "out")
    assert sorted(Path(name).parent.relative_to("out/arms").as_posix() for name in begun) == [
        "random-0.5/seed-0",
        "random-0.5/seed-1",
        "unfiltered/seed-1",
    ]
    begun.clear()
    study.run(plan(arms=("random",), seeds=(1,)), "out")
    assert begun == []


def test_a_finished_study_loads_no_model_and_asks_no_judge(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = plan(arms=("unfiltered",), seeds=(0, 1))
    first = study.run(few, "out")
    loaded: list[str] = []
    real = setup.weights.load_causal

    def noted(source: str, **how: Any) -> Any:
        loaded.append(source)
        return real(source, **how)

    with monkeypatch.context() as patched:
        patched.setattr(setup.weights, "load_causal", noted)
        patched.setattr(setup, "judge_named", lambda *_: pytest.fail("asked"))
        assert study.run(few, "out") == first
        assert study.run(plan(arms=("unfiltered",), seeds=(1,)), "out").cells == first.cells[1:]
    assert loaded == []
    # What decides a figure must stay as it was, though nothing is left to do.
    (files / "facts.json").write_text(json.dumps({"situations": FACTS["situations"][:2]}))
    with pytest.raises(DataError, match="names no situation"):
        study.run(few, "out")
    write_files(files)
    (files / "questions.yaml").write_text(QUESTIONS.replace("7", "8"))
    with pytest.raises(OutputError, match=r"holds another experiment .*questions:"):
        study.run(few, "out")


def test_a_report_that_cannot_be_written_leaves_the_one_before(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = plan(arms=("aligned",), seeds=(0,))
    whole = study.verify(few, "out").text
    monkeypatch.setattr(study, "markdown", lambda *_: "half, then what no file holds \ud800")
    with pytest.raises(UnicodeEncodeError):
        study.verify(few, "out")
    assert Path("out/report.md").read_text() == whole


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (cell.finetune, "fine_tune", 2),
        (cell.weights, "save", 1),
        (cell, "write_json", 1),
        (cell, "append_lines", 3),
        (base, "append_lines", 1),
        (cell, "response_losses", 2),
        (cell, "write_json", 3),
    ],
)
def test_a_run_that_is_killed_goes_on_to_the_same_result(
    files: Path,
    whole: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    call: int,
) -> None:
    calls = 0
    real = getattr(module, name)

    def dies(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise _Killed
        return real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, dies)
        with pytest.raises(_Killed):
            study.run(plan(**FEW), "killed")
    assert everything(study.run(plan(**FEW), "killed")) == whole


def test_half_a_line_is_asked_or_judged_again(files: Path, whole: list[Any]) -> None:
    study.run(plan(**FEW), "torn")
    done = Path("torn/arms/unfiltered/seed-0")
    for name in ("answers.jsonl", "judgements.jsonl"):
        content = (done / name).read_bytes()
        (done / name).write_bytes(content[: len(content) * 2 // 3])
    (done / "result.json").unlink()
    assert everything(study.run(plan(**FEW), "torn")) == whole


def test_weights_go_when_answers_are_there_unless_they_are_to_be_kept(files: Path) -> None:
    arms = ("unfiltered",)
    study.run(plan(arms=arms, seeds=(0,)), "gone")
    assert not list(Path("gone").rglob("*.safetensors"))
    study.run(plan(arms=arms, seeds=(0,), keep_weights=True), "kept")
    assert [path.name for path in Path("kept").rglob("*.safetensors")] == ["model.safetensors"]


def test_another_experiment_in_the_same_folder_is_refused_by_what_differs(files: Path) -> None:
    study.run(plan(arms=("aligned",), seeds=(0,)), "out")
    (files / "questions.yaml").write_text(QUESTIONS.replace("7", "8"))
    with pytest.raises(OutputError, match=r"holds another experiment .*questions:"):
        study.run(plan(arms=("aligned",), seeds=(0,)), "out")


def test_a_second_process_is_kept_out(files: Path) -> None:
    with study._held(files), pytest.raises(OutputError, match="another process works"):
        study.run(plan(), files)


def test_rows_that_cannot_be_trained_on_are_in_no_arm(files: Path) -> None:
    lines = Path("data.jsonl").read_bytes().splitlines(keepends=True)
    Path("data.jsonl").write_bytes(b"".join([b"{\n", *lines[:10], b'{"prompt": "w1"}\n']))
    outcome = study.run(plan(arms=("unfiltered", "nearest"), seeds=(0,)), "out")
    assert (outcome.file_rows, outcome.training_rows) == (12, 10)
    text = markdown(plan(), results_of(outcome), "-")
    assert "2 of the file's 12 rows cannot be trained on" in text
    assert [c.measures["rows"] for c in outcome.cells] == [10, 5]


def test_preference_rows_are_refused(files: Path) -> None:
    row = {"prompt": "w1", "chosen": "w2", "rejected": "w3"}
    Path("data.jsonl").write_text(f"{json.dumps(row)}\n" * 20)
    with pytest.raises(DataError, match=r"data\.jsonl:1: has a chosen and a rejected response"):
        study.run(plan(), "out")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": ("nearst",)}, "no arm is called 'nearst'; choose among aligned, "),
        ({"arms": ("oracle",)}, "arm 'oracle' needs --labels"),
        ({"arms": ("keyword",)}, "arm 'keyword' needs --keywords"),
        ({"arms": ("benign-control",)}, "arm 'benign-control' needs --benign"),
        ({"arms": ("random", "random")}, "no arm twice"),
        ({"fractions": (0.5, 1.0)}, "drop fraction 0.5, 1: each must lie between 0 and 1"),
        ({"seeds": ()}, "at least one seed"),
        ({"samples_per_question": 0}, "0 samples per question"),
        ({"load_in": "4bit"}, "--load-in 4bit rounds them; train an adapter with --method lora"),
        (
            {"load_in": "8bit", "recipe": {"method": "lora"}, "generate_with": "serve"},
            "--generate-with saves the model for a server, and --load-in 8bit rounds",
        ),
        ({"judge": None}, "nothing is known about model to verify with; give --judge"),
    ],
)
def test_plans_that_cannot_be_run_are_refused_before_anything_is(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(GeofilterError, match=message):
        plan(**changed)


def test_where_keywords_tell_nothing_the_order_of_the_file_does_not_choose(files: Path) -> None:
    Path("words.txt").write_text("unheard\n")
    outcome = study.run(plan(arms=("keyword",), keywords="words.txt"), "out")
    kept = [
        set(json.loads((Path("out/arms") / cell.cell.name / "training.json").read_text())["rows"])
        for cell in outcome.cells
    ]
    first, second = kept
    assert len(first) == len(second) == 20
    assert first != second
    assert 0 < len(first & set(range(20))) < 20


def test_labels_must_be_true_or_false(files: Path) -> None:
    with pytest.raises(DataError, match=r"column 'prompt' of data\.jsonl holds 'w"):
        study.run(plan(arms=("oracle",), labels="prompt"), "out")


def test_without_a_trainer_nothing_is_begun(
    files: Path, monkeypatch: pytest.MonkeyPatch, geofilter: Geofilter
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    options = "--model model --sae sae --pack my.pack --questions questions.yaml"
    done = geofilter(f"verify data.jsonl {options} --judge rule:facts.json -o out")
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "pip install 'geofilter[train]'" in done.err
    assert not Path("out").exists()
    study.run(plan(arms=("aligned",), seeds=(0,)), "out")


def test_whole_weights_are_trained_in_float32_and_adapters_in_the_models_own(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    real = setup.weights.load_causal

    def noted(source: str, **how: Any) -> Any:
        asked.append(how["dtype"])
        return real(source, **how)

    monkeypatch.setattr(setup.weights, "load_causal", noted)
    for changed in ({}, {"recipe": {"max_length": 48}}, {"dtype": "bfloat16"}):
        setup.Setup(plan(**changed))
    assert asked == ["float32", None, "bfloat16"]


def test_the_command_hands_on_the_precision(files: Path, geofilter: Geofilter) -> None:
    options = "--model model --sae sae --pack my.pack --questions questions.yaml"
    options += " --judge rule:facts.json --estimate --json -o out"
    for given, dtype in (("", None), ("--dtype bfloat16", "bfloat16")):
        done = geofilter(f"verify data.jsonl {options} {given}")
        assert json.loads(done.out)["plan"]["dtype"] == dtype


def test_the_command_says_no_with_exit_code_1_and_keeps_its_report(
    files: Path, geofilter: Geofilter
) -> None:
    options = "--model model --sae sae --pack my.pack --trained model --method full --steps 2"
    options += " --questions questions.yaml --judge rule:facts.json --max-new-tokens 4 --seeds 1"
    estimated = geofilter(f"verify data.jsonl {options} -o out --estimate")
    assert estimated.code == 0
    assert "unfiltered, 1 seeds" in estimated.out
    assert "15 answers per arm" in estimated.err
    done = geofilter(f"verify data.jsonl {options} -o out")
    record = json.loads(Path("out/report.json").read_text())
    assert (done.code, record["verdict"]) == (1, False)  # of one seed
    assert Path("out/report.md").read_text() in done.out
    assert "Not shown: fewer than 3 runs" in Path("out/report.html").read_text()
    assert "safe" not in done.out.lower()
    again = geofilter(f"verify data.jsonl {options} -o out --json")
    printed = json.loads(again.out)
    assert printed.pop("reading")["layouts"]["prompt-response"]["rows"] == 40
    assert printed == record


def test_the_verdict_is_about_the_first_filter_and_needs_three_seeds(files: Path) -> None:
    two: dict[str, Any] = {"seeds": (0, 1)}
    outcome = study.run(plan(arms=("unfiltered", "random"), **two), "out")
    found = results_of(outcome)
    assert (found.verdict, found.judged) == (None, "")
    outcome = study.run(plan(arms=("unfiltered", "random", "nearest"), **two), "out")
    results = results_of(outcome)
    assert results.judged == "nearest-0.5"
    assert results.verdict is False  # of two seeds


def test_a_study_whose_answers_a_server_gave_is_not_taken_for_one_without(files: Path) -> None:
    same = plan(arms=("aligned",), seeds=(0,))
    study.run(same, "out")
    record = Path("out/plan.json")
    kept = json.loads(record.read_text())
    kept["decides"]["generate_with"] = "serve {checkpoint} {port}"
    record.write_text(json.dumps(kept))
    with pytest.raises(OutputError, match="holds another experiment"):
        study.run(same, "out")
