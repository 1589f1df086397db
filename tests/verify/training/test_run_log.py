"""Runs in trackers: one for each cell, under its name, with what was measured of it at the end."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers
from transformers.integrations import integration_utils

from geofilter.errors import GeofilterError, MissingExtraError
from geofilter.verify import setup, study
from geofilter.verify.training.run_log import check_trackers, log_measures
from helpers.experiments import plan, write_files

Calls = list[tuple[Any, ...]]


class Stub(ModuleType):
    """A tracker that notes what it is asked, and does nothing."""

    run: Any = None

    def __init__(self, name: str, calls: Calls) -> None:
        super().__init__(name)
        self.calls = calls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **named: Any) -> None:
            self.calls.append((name, *arguments, *named.items()))

        return call


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> Stub:
    """A tracker in place of the real one, and in place of the trainer's integration of it."""
    stub = Stub("trackio", calls)

    class Integration(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
            calls.append(("train", args.run_name))

        def on_log(self, args: Any, *_: Any, logs: dict[str, Any], **__: Any) -> None:
            calls.append(("step", "loss" in logs))

    monkeypatch.setitem(sys.modules, "trackio", stub)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Integration)
    return stub


@pytest.mark.slow
def test_each_cell_is_a_run_with_its_steps_and_then_its_measures(
    work: Path, trackio: Stub, calls: Calls
) -> None:
    write_files(work)
    asked = plan(arms=("aligned", "unfiltered"), seeds=(0,), report_to=("trackio",))
    outcome = study.run(asked, "out")
    names = [call[1] for call in calls if call[0] == "train"]
    assert names == ["unfiltered/seed-0"]
    assert calls.count(("step", True)) == 3
    begun = [dict(call[1:])["name"] for call in calls if call[0] == "init"]
    assert begun == ["aligned/seed-0", "unfiltered/seed-0"]
    logged = [call[1] for call in calls if call[0] == "log"]
    assert [set(one) for one in logged] == [{"misaligned/main", "held_out_loss"}] * 2
    losses = [cell.measures["held_out_loss"] for cell in outcome.cells]
    assert [one["held_out_loss"] for one in logged] == losses
    assert [call[0] for call in calls].count("finish") == 2
    # How runs are logged decides no figure, and what is done is not logged again.
    calls.clear()
    assert study.run(plan(arms=("aligned", "unfiltered"), seeds=(0,)), "out").cells == outcome.cells
    assert calls == []


def test_a_tracker_that_is_not_installed_is_named_before_anything_is_loaded(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(work)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(setup.weights, "load_causal", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(MissingExtraError, match=r"--report-to mlflow needs .* pip install mlflow"):
        study.run(plan(report_to=("mlflow",)), "out")
    check_trackers(())


def test_a_run_that_wandb_left_open_is_ended_with_its_measures(
    monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    stub = Stub("wandb", calls)
    monkeypatch.setitem(sys.modules, "wandb", stub)
    stub.run = object()
    log_measures(["wandb"], "a/seed-0", {"x": 1.0}, trained=True)
    assert calls == [("log", {"x": 1.0}), ("finish",)]
    calls.clear()
    stub.run = None
    log_measures(["wandb"], "a/seed-0", {"x": 1.0}, trained=False)
    assert calls == [("init", ("name", "a/seed-0")), ("log", {"x": 1.0}), ("finish",)]


def test_a_tracker_that_fails_says_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        run = None

        def init(self, **_: Any) -> None:
            raise ConnectionError("no\nroute")

    monkeypatch.setitem(sys.modules, "wandb", Broken("wandb"))
    with pytest.raises(GeofilterError, match="did not take the measures of a/seed-0: no route;"):
        log_measures(["wandb"], "a/seed-0", {"x": 1.0}, trained=False)
