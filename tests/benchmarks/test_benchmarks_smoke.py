"""The benchmarks of speed and scaling run to their end, on tiny models, and mean what they say."""

import contextlib
import importlib
import io
import json
import shutil
import sys
from collections.abc import Iterator
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> Iterator[None]:
    """Make the benchmarks importable: in this process, they need no second import of torch.

    One thread each, here and in what they start: tiny products only wait for a second.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


def run(script: str, folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """What a script wrote and what it printed, with a tiny model."""
    output = folder / "result.json"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        main = importlib.import_module(script).main
        assert main(["--tiny", "--output", str(output), *arguments]) == 0
    return json.loads(output.read_text()), printed.getvalue()


@pytest.fixture(scope="module")
def speed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("speed")
    module = importlib.import_module("speed")
    whole = cache(partial(module.with_loading, depth="half"))
    with pytest.MonkeyPatch.context() as patch:
        # The whole command in a process of its own, once for both depths: seconds of imports.
        patch.setattr(module, "with_loading", lambda folder, _: whole(folder))
        return run("speed", folder, "--rows", "16", "--rounds", "2")


def test_speed_compares_pipelines_that_compute_the_same_scores(
    speed: tuple[dict[str, Any], str],
) -> None:
    facts, _ = speed
    for depth in ("half", "quarter"):
        differences = facts["score_differences"][depth]
        assert differences.keys() == {"naive", "bridge", "bridge, stopped"}
        assert all(difference < 1e-3 for difference in differences.values()), differences


def test_speed_reports_every_pipeline_with_ratios_of_its_own_figures(
    speed: tuple[dict[str, Any], str],
) -> None:
    facts, printed = speed
    for depth in ("half", "quarter"):
        found = facts["depths"][depth]
        own = found["pipelines"]["geofilter"]["seconds"]
        bare = found["pipelines"]["limit"]["seconds"]
        assert len(own) == len(bare) == 2
        shares = [limit / full for limit, full in zip(bare, own, strict=True)]
        ratio = found["geofilter_is_times"]["limit"]
        assert min(shares) - 0.02 <= ratio["median"] <= max(shares) + 0.02
        naive = found["pipelines"]["naive"]["seconds"][0] / (sum(own) / 2)
        assert found["geofilter_is_times"]["naive"] == pytest.approx(naive, rel=0.05)
        assert facts["with_loading"][depth]["seconds"] > max(own)
        assert f"| {depth} | bridge, stopped |" in printed


def test_the_limit_runs_fewer_blocks_than_the_network_has(
    speed: tuple[dict[str, Any], str],
) -> None:
    facts, _ = speed
    assert facts["sae"]["blocks"] == {"half": 1, "quarter": 0}
    assert all(calls > 0 for calls in facts["network_calls"].values())
    half, quarter = (facts["depths"][depth]["pipelines"]["limit"] for depth in ("half", "quarter"))
    # As many FLOP per token and block: twice the blocks, twice the FLOP.
    flop = [one["gflops"] * sorted(one["seconds"])[0] for one in (half, quarter)]
    assert 1.2 < flop[0] / flop[1] < 3.4


def test_speed_at_true_sizes_runs_on_any_device(tmp_path: Path) -> None:
    facts, printed = run("speed", tmp_path, "--part", "gpu", "--rows", "8", "--rounds", "1")
    assert [found["model"] for found in facts["runs"]] == ["tiny-gemma-2-2b", "tiny-gemma-2-9b"]
    for found in facts["runs"]:
        assert found["geofilter"]["tokens_per_s"]["median"] > 0
        assert found["geofilter"]["peak_mib"] > 0
        assert 0 < found["share_of_limit"]["median"] < 2
    assert "| tiny-gemma-2-9b | 1,024 |" in printed


def test_scaling_reports_a_line_packs_of_every_size_and_choosing_again(tmp_path: Path) -> None:
    facts, printed = run(
        "scaling",
        tmp_path,
        "--rows",
        "6",
        "12",
        "18",
        "--features",
        "10",
        "1000",
        "--rounds",
        "1",
    )
    line = facts["over_tokens"]
    tokens = [size["tokens"] for size in line["sizes"].values()]
    assert tokens == sorted(tokens)
    assert len(set(tokens)) == 3
    assert line["r_squared"] <= 1
    assert list(facts["over_features"]["packs"]) == ["10", "1000"]
    assert "| 1,000 |" in printed
    again = facts["choosing_again"]
    if "missing" not in again:
        assert again["times_as_fast"]["score with the model"] == 1
        assert again["times_as_fast"]["score from saved features"] > 0


def test_a_study_prints_its_committed_figures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = BENCHMARKS / "results" / "organism_track.json"
    versions = json.loads(committed.read_text())["versions"]
    if versions != {name: version(name) for name in versions}:
        pytest.skip("measured with other versions, which the study refuses to go on from")
    copy = Path(shutil.copy(committed, tmp_path))
    monkeypatch.setattr(sys, "argv", ["organism_track.py", "--report", "-o", str(copy)])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        importlib.import_module("organism_track").main()
    assert json.loads(copy.read_text())["runs"] == json.loads(committed.read_text())["runs"]
    table = [line for line in printed.getvalue().splitlines() if line.startswith("| proximity")]
    page = (BENCHMARKS.parent / "docs" / "tracking.md").read_text().splitlines()
    assert table
    assert set(table) <= set(page)
