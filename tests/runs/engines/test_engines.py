"""Who works on the jobs decides no line: threads, processes, and processes that die."""

import multiprocessing
import time
from pathlib import Path

import pytest

from geofilter.data.rows import RowFile
from geofilter.errors import ModelError
from geofilter.runs.engines.driver import Engine, TablePlan, make_table
from geofilter.runs.engines.processes import ProcessEngine
from geofilter.runs.engines.threads import ThreadEngine
from geofilter.runs.engines.worker import Worker
from geofilter.scoring.table import ScoreRow
from helpers.engine_stubs import MANIFEST, StubEncoder, StubScorer, numbered, row, write
from helpers.light_workers import Make

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_waiting_for_the_disk")]

RECORDS = [*numbered(9), b"{", *numbered(4), row("p", "infinite"), row("q1", "aaa"), *numbered(20)]


@pytest.fixture
def rows(tmp_path: Path) -> RowFile:
    return write(tmp_path / "d.jsonl", RECORDS)


def lines(rows: RowFile, engine: Engine, out: Path) -> list[ScoreRow]:
    return list(make_table(rows, engine, out, TablePlan(MANIFEST, part_rows=3)))


def expected(rows: RowFile, folder: Path) -> list[ScoreRow]:
    return lines(rows, ThreadEngine(Make(rows.layouts, folder)(0)), folder / "expected.parquet")


@pytest.mark.parametrize("deaths", [0, 2])
def test_two_processes_make_the_same_table_though_one_is_killed(
    rows: RowFile, tmp_path: Path, deaths: int
) -> None:
    engine = ProcessEngine(Make(rows.layouts, tmp_path, deaths), 2)
    found = lines(rows, engine, tmp_path / "s.parquet")
    assert len(list(tmp_path.glob("worker-*"))) >= 2
    assert len(list(tmp_path.glob("death-*"))) == deaths
    assert found == expected(rows, tmp_path)


def test_a_job_that_kills_every_process_is_given_up_in_one_line(
    rows: RowFile, tmp_path: Path
) -> None:
    engine = ProcessEngine(Make(rows.layouts, tmp_path, deaths=99), 2)
    with pytest.raises(ModelError, match=r"was killed by signal 9 at rows .* 3 times") as error:
        lines(rows, engine, tmp_path / "s.parquet")
    assert "\n" not in str(error.value)
    assert "fewer --workers" in str(error.value)
    # What was done before it is kept.
    assert list((tmp_path / "s.parquet.parts").glob("part-*"))


@pytest.mark.parametrize("when", ["error", "start_error"])
def test_an_error_in_a_process_is_that_of_the_run(rows: RowFile, tmp_path: Path, when: str) -> None:
    failing = {when: ModelError("what is wrong; what to do"), "deaths": 1}
    engine = ProcessEngine(Make(rows.layouts, tmp_path, **failing), 2)
    with pytest.raises(ModelError, match=r"^what is wrong; what to do$"):
        lines(rows, engine, tmp_path / "s.parquet")


def test_processes_go_on_from_the_parts_of_a_thread(rows: RowFile, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    dying = Make(rows.layouts, tmp_path, deaths=1, error=OSError("dies"))
    with pytest.raises(OSError, match="dies"):
        lines(rows, ThreadEngine(dying(0)), out)
    assert list((tmp_path / "s.parquet.parts").glob("part-*"))
    assert lines(rows, ProcessEngine(Make(rows.layouts, tmp_path), 2), out) == expected(
        rows, tmp_path
    )


def test_nothing_is_started_where_the_parts_are_all_there(rows: RowFile, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    first = lines(rows, ProcessEngine(Make(rows.layouts, tmp_path), 1), out)
    refusing = Make(rows.layouts, tmp_path, start_error=ModelError("started"))
    assert lines(rows, ProcessEngine(refusing, 1), out) == first


def test_no_process_outlives_an_error(rows: RowFile, tmp_path: Path) -> None:
    engine = ProcessEngine(Make(rows.layouts, tmp_path, deaths=1, error=OSError("x")), 2)
    with pytest.raises(OSError, match="x"):
        lines(rows, engine, tmp_path / "s.parquet")
    assert not multiprocessing.active_children()


class Slow(StubScorer):
    """Takes its time, step by step, as a model does."""

    def __call__(self, batch):
        for _ in range(3000):
            time.sleep(0.01)
        return super().__call__(batch)


def test_an_interruption_stops_the_thread_in_the_middle_of_a_job(
    rows: RowFile, tmp_path: Path
) -> None:
    engine = ThreadEngine(Worker(rows.layouts, StubEncoder(), Slow()))
    threads = []

    def interrupted() -> None:
        with engine:
            engine.submit(list(rows)[:2], lambda _: None)
            time.sleep(0.1)
            threads.extend(engine._threads)
            raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - started < 5
    assert not any(thread.is_alive() for thread in threads)


def test_jobs_are_cut_where_rows_are_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofilter.runs.engines.driver._JOB_BYTES", 1000)
    rows = write(tmp_path / "d.jsonl", [row(f"q{i}", "a" * 300) for i in range(12)])
    sizes: list[int] = []

    class Counting(Worker):
        def encode(self, given):
            sizes.append(len(given))
            assert all(one.raw is None for one in given)
            return super().encode(given)

    worker = Counting(rows.layouts, StubEncoder(), StubScorer())
    table = make_table(rows, ThreadEngine(worker), tmp_path / "s.parquet", TablePlan(MANIFEST))
    assert len(table) == sum(sizes) == 12
    assert len(sizes) > 3
