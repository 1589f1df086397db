"""Ray makes the table that a thread makes, though a worker is killed half-way."""

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from geofilter.data.rows import RowFile
from geofilter.errors import MissingExtraError, ModelError
from geofilter.runs.engines.driver import Engine, TablePlan, make_table
from geofilter.runs.engines.ray import RayEngine
from geofilter.runs.engines.threads import ThreadEngine
from geofilter.scoring.table import ScoreRow
from helpers.engine_stubs import MANIFEST, numbered, row, write
from helpers.light_workers import Make

pytestmark = pytest.mark.slow

RECORDS = [*numbered(9), b"{", *numbered(4), row("p", "infinite"), row("q1", "aaa"), *numbered(20)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(sys.path)}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def rows(tmp_path: Path) -> RowFile:
    return write(tmp_path / "d.jsonl", RECORDS)


def lines(rows: RowFile, engine: Engine, out: Path) -> list[ScoreRow]:
    return list(make_table(rows, engine, out, TablePlan(MANIFEST, part_rows=3)))


@pytest.mark.usefixtures("cluster")
def test_two_workers_make_the_same_table_though_one_is_killed(
    rows: RowFile, tmp_path: Path
) -> None:
    out = tmp_path / "s.parquet"
    found = lines(rows, RayEngine(Make(rows.layouts, tmp_path, deaths=1), 2), out)
    assert len(list(tmp_path.glob("death-*"))) == 1
    assert len(list(tmp_path.glob("worker-*"))) >= 2
    expected = ThreadEngine(Make(rows.layouts, tmp_path)(0))
    assert found == lines(rows, expected, tmp_path / "expected.parquet")


@pytest.mark.usefixtures("cluster")
def test_an_error_ends_the_run_and_what_is_done_is_kept_and_gone_on_from(
    rows: RowFile, tmp_path: Path
) -> None:
    out = tmp_path / "s.parquet"
    failing = Make(rows.layouts, tmp_path, deaths=1, error=ModelError("what is wrong; what to do"))
    with pytest.raises(ModelError, match=r"^what is wrong; what to do$"):
        lines(rows, RayEngine(failing, 2), out)
    kept = list((tmp_path / "s.parquet.parts").glob("part-*"))
    assert kept
    expected = ThreadEngine(Make(rows.layouts, tmp_path)(0))
    found = lines(rows, RayEngine(Make(rows.layouts, tmp_path), 2), out)
    assert found == lines(rows, expected, tmp_path / "expected.parquet")


@pytest.mark.usefixtures("cluster")
def test_rows_that_kill_every_worker_are_given_up_in_one_line(
    rows: RowFile, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"^workers died at rows \d+ to \d+, 3 times; .*memory"):
        lines(rows, RayEngine(Make(rows.layouts, tmp_path, deaths=99), 2), tmp_path / "s.parquet")
    assert list((tmp_path / "s.parquet.parts").glob("part-*"))


@pytest.mark.usefixtures("cluster")
def test_what_warnings_a_program_shows_is_not_changed(rows: RowFile, tmp_path: Path) -> None:
    before = list(warnings.filters)
    lines(rows, RayEngine(Make(rows.layouts, tmp_path), 1), tmp_path / "s.parquet")
    assert warnings.filters == before


def test_without_ray_the_line_says_what_to_type(
    rows: RowFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geofilter\[ray\]'"):
        RayEngine(Make(rows.layouts, tmp_path), 2)
