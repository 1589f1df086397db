"""Cells give the same side by side, and a folder never mixes what would give others."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from geofilter.errors import OutputError
from geofilter.support.manifest import Manifest
from geofilter.verify import setup, study, workers
from geofilter.verify.plan import Plan
from helpers.cli_folder import Geofilter
from helpers.dying_cells import DyingAtUnfiltered, DyingWithoutModel
from helpers.experiments import QUESTIONS, everything, plan, write_files
from helpers.loopback_judge import Request, Server, completion

pytestmark = pytest.mark.slow


@pytest.fixture
def files(work: Path) -> Path:
    return write_files(work)


class _Killed(BaseException):
    pass


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as a worker has: with others, sums are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


OPTIONS = (
    "--model model --sae sae --pack my.pack --method full --steps 2 --questions questions.yaml "
    "--judge rule:facts.json --max-new-tokens 4 --arms unfiltered,random --seeds 1 --workers 2"
)


def test_runs_side_by_side_give_the_results_of_runs_in_turn_though_a_worker_is_killed(
    files: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CellWork", DyingAtUnfiltered)
    Path("deaths").write_text("1")
    chosen = plan(arms=("unfiltered", "nearest"), seeds=(0,))
    both = everything(study.run(chosen, "both", workers=2))
    assert len(list(files.glob("death-*"))) == 1
    assert both == everything(study.run(chosen, "alone"))


def test_a_run_that_kills_every_worker_is_given_up_in_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, geofilter: Geofilter
) -> None:
    monkeypatch.setattr(workers, "CellWork", DyingWithoutModel)
    done = geofilter(f"verify data.jsonl {OPTIONS} -o out")
    assert done.code == 2
    last = done.err.splitlines()[-1]
    assert "a worker process was killed by signal 9 in unfiltered/seed-0, 3 times" in last
    assert "run again to go on" in last
    assert "fewer --workers" in last
    assert "Traceback" not in done.err


def test_each_worker_has_a_gpu_of_its_own_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[tuple[str, str | None]] = []
    current: list[str] = []

    class Noted:
        work = None

        def __init__(self, plan: Plan, *, rule: str | None) -> None:
            opened.append((plan.settings.device, rule))

    monkeypatch.setattr(workers, "Setup", Noted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    threads, devices = torch.get_num_threads(), workers.devices_of(plan().settings.device)
    make = workers.CellWork(plan(), tmp_path, devices, threads, "probabilities")
    for place in range(3):
        make(place)
    assert [device for device, _ in opened] == current == ["cuda:0", "cuda:1", "cuda:0"]
    assert {rule for _, rule in opened} == {"probabilities"}
    assert workers.devices_of("cuda:1") == ("cuda:1",)


def test_runs_of_another_precision_are_not_mixed_in(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study.run(plan(arms=("aligned",), seeds=(0,)), "out")
    chosen = plan(arms=("aligned",), seeds=(0, 1))
    kept = json.loads(Path("out/plan.json").read_text())
    assert kept["decides"]["precision"] == {"dtype": "float32", "device": "cpu"}
    real = setup.Setup.describe

    def elsewhere(self: setup.Setup) -> Manifest:
        described = real(self)
        precision = {"dtype": "bfloat16", "device": "cuda"}
        return Manifest({**described.decides, "precision": precision}, described.facts)

    with monkeypatch.context() as patched:
        patched.setattr(setup.Setup, "describe", elsewhere)
        with pytest.raises(OutputError, match=r'precision\.device: "cpu" before, "cuda" now'):
            study.run(chosen, "out")
    # A folder from before precision was written down has that of the first run that goes on.
    del kept["decides"]["precision"]
    Path("out/plan.json").write_text(json.dumps(kept))
    study.run(chosen, "out")
    with monkeypatch.context() as patched:
        patched.setattr(setup.Setup, "describe", elsewhere)
        with pytest.raises(OutputError, match="holds another experiment"):
            study.run(plan(arms=("aligned",), seeds=(0, 1, 2)), "out")


def numbers(request: Request) -> object:
    return completion("70", {"70": 1.0})


def test_how_a_servers_replies_are_read_is_found_once_and_must_stay(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    handed: list[str | None] = []
    monkeypatch.setattr(study, "run_side_by_side", lambda *_, rule: handed.append(rule) or _stop())
    server = Server(numbers)
    with server.running() as url:
        asked = judged_by(f"{url}#m", files)
        with pytest.raises(_Killed):
            study.run(asked, "out", workers=2)
        assert handed == ["probabilities"]
        kept = json.loads(Path("out/plan.json").read_text())["decides"]
        assert kept["judge"]["rule"] == kept["row_judge"]["rule"] == "probabilities"
        server.act = lambda _: completion("70")
        with pytest.raises(OutputError, match=r'judge\.rule: "probabilities" before, "first int'):
            study.run(asked, "out", workers=2)


def judged_by(judge: str, files: Path) -> Plan:
    """An experiment whose questions all have prompts for a judge that reads them."""
    prompts = '{aligned: "{question} {answer}", coherent: "{answer}"}'
    text = QUESTIONS.replace("samples_per_paraphrase: 7", f"judge_prompts: {prompts}")
    (files / "questions.yaml").write_text(text)
    return plan(judge=judge, row_judge=judge, arms=("aligned",))


def _stop() -> None:
    raise _Killed
