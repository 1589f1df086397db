"""Tasks of lm-eval: run by its own library on each cell's model, kept, and reported as means."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from geofilter.errors import GeofilterError, MissingExtraError, OutputError
from geofilter.verify import setup, study
from geofilter.verify.lm_tasks import means, run_tasks
from geofilter.verify.training.weights import CausalModel
from helpers.experiments import plan, write_files

FIGURES = {"alias": "hellaswag", "acc,none": 0.25, "acc_stderr,none": 0.1, "sample_len": 9}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What lm-eval is asked, in place of lm-eval."""
    calls: list[Any] = []
    library, models = ModuleType("lm_eval"), ModuleType("lm_eval.models.huggingface")

    def evaluate(*, model: Any, tasks: list[str]) -> dict[str, Any]:
        calls.append((model, tasks))
        if "unknown" in tasks:
            raise KeyError("unknown\ntask")
        return {"results": {task: {**FIGURES, "alias": task} for task in tasks}, "configs": {}}

    library.simple_evaluate = evaluate  # type: ignore[attr-defined]
    models.HFLM = lambda **named: SimpleNamespace(**named)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lm_eval", library)
    monkeypatch.setitem(sys.modules, "lm_eval.models", ModuleType("lm_eval.models"))
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", models)
    return calls


def test_every_number_is_kept_by_its_name_and_no_text(asked: list[Any]) -> None:
    model = CausalModel("network", "tokenizer")
    found = run_tasks(model, ["a", "b"], 4)
    assert found["a"] == {"acc,none": 0.25, "acc_stderr,none": 0.1, "sample_len": 9}
    ((wrapped, tasks),) = asked
    assert (wrapped.pretrained, wrapped.tokenizer, wrapped.batch_size) == (
        "network",
        "tokenizer",
        4,
    )
    assert tasks == ["a", "b"]
    with pytest.raises(GeofilterError, match=r"did not run unknown: .*task.*; see its tasks with"):
        run_tasks(model, ["unknown"], 4)


def test_means_are_over_the_runs_that_have_a_figure() -> None:
    runs = [{"a": {"acc,none": 0.0, "acc_stderr,none": 1.0}}, {"a": {"acc,none": 1.0}}, {}]
    assert means(runs) == {"a": {"acc,none": 0.5}}


@pytest.mark.slow
def test_each_cell_runs_the_tasks_once_and_the_reports_have_them(
    work: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(work)
    few: dict[str, Any] = {"arms": ("aligned",), "seeds": (0, 1), "held_out": None}
    with_tasks = plan(**few, lm_tasks=("hellaswag",))
    text = study.verify(with_tasks, "out").text
    assert len(asked) == 2
    assert "| condition | hellaswag acc |" in text
    assert "| aligned | 0.25 |" in text
    assert "hellaswag acc" in Path("out/report.html").read_text()
    record = json.loads(Path("out/report.json").read_text())
    assert record["conditions"][0]["lm_eval"] == {"hellaswag": {"acc,none": 0.25}}
    study.verify(with_tasks, "out")
    assert len(asked) == 2
    with pytest.raises(OutputError, match=r"holds another experiment .lm_eval.tasks: "):
        study.run(plan(**few, lm_tasks=("arc_easy",)), "out")
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setattr(setup.weights, "load_causal", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(MissingExtraError, match=r"pip install .geofilter\[lm-eval\]"):
        study.run(with_tasks, "other")
