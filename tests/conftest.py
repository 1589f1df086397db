"""Settings that hold for every test: no network, no leftovers in the user's folders."""

import gc
import os
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from geofilter import GeoFilter
    from geofilter.gate.policy import Policy
    from helpers.cli_folder import Geofilter
    from helpers.engine_stubs import Score

# Before any test module imports a Hugging Face library, which reads these at import.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="disabled",
)

# Helpers whose asserts are to show what they compared, as those of a test do.
pytest.register_assert_rewrite("helpers.cli_mistakes", "helpers.row_files", "helpers.score_rows")


_modules = 0


def pytest_runtest_setup() -> None:
    """Leave what imports have made out of every later collection.

    A collection walks through all that torch and transformers keep, half a second each time,
    and a trainer asks for one in every run.
    """
    global _modules
    if len(sys.modules) > _modules + 100:
        gc.collect()
        gc.freeze()
        _modules = len(sys.modules)


@pytest.fixture(autouse=True)
def _own_cache_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Keep packs and data sets that a test caches away from the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush nothing: tests kill processes, not machines; `test_atomic` sees to the flushing."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def score(tmp_path: Path) -> "Score":
    """`score(records, scorer, ...)` scores into `s.parquet` of the test's folder, with stubs."""
    from helpers.engine_stubs import score_into

    return partial(score_into, tmp_path)


@pytest.fixture(scope="session")
def scored_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model, pack, data and score table; copy it, never write to it."""
    from helpers.cli_folder import make_folder, make_pack_and_table

    folder = tmp_path_factory.mktemp("scored")
    make_folder(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        make_pack_and_table(folder, monkeypatch)
    return folder


@pytest.fixture
def work(scored_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of `scored_folder` that a test may change."""
    folder = tmp_path / "work"
    shutil.copytree(scored_folder, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def geofilter(capsys: pytest.CaptureFixture[str]) -> "Geofilter":
    """Run a command line, given as one string or as its words, in this process."""
    from geofilter.cli.main import main
    from helpers.cli_folder import Outcome

    def run(*arguments: str) -> Outcome:
        (*_, one) = arguments
        code = main(shlex.split(one) if len(arguments) == 1 else arguments)
        shown = capsys.readouterr()
        return Outcome(code, shown.out, shown.err)

    return run


@pytest.fixture(scope="module")
def loaded(scored_folder: Path) -> "GeoFilter":
    """A GeoFilter with its model loaded, for the tests that ask nothing of loading."""
    from geofilter import GeoFilter, Settings

    model, sae, pack = (str(scored_folder / name) for name in ("model", "sae", "my.pack"))
    made = GeoFilter(Settings(model, sae=sae, pack=pack), threshold=0.0)
    made({"prompt": ["w1"], "response": ["w2 w3"]})
    return made


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: the test's own, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def policy(here: Path) -> "Policy":
    """The gate's policy in the current folder."""
    from helpers.gate_folder import make_folder

    return make_folder(here)


@pytest.fixture
def locked(policy: "Policy") -> str:
    """A data file of 80 rows, and the gate's lock with their scores, from 0.00 to 0.79."""
    from geofilter.gate import check
    from helpers.gate_folder import StubScorer, record, write

    file = write(Path("data.jsonl"), [record(i, i / 100) for i in range(80)])
    check.check([file], policy, load=StubScorer(policy).load)
    return file
