"""Jobs done in processes: none is lost, none is done by a dead process, and none hangs."""

import linecache
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from geofilter.data.rows import RowFile
from geofilter.errors import ModelError
from geofilter.runs.engines.pool import WorkerPool
from geofilter.runs.engines.processes import ProcessEngine
from helpers.engine_stubs import ROOT, numbered, write
from helpers.light_workers import Make

pytestmark = pytest.mark.slow


@pytest.fixture
def rows(tmp_path: Path) -> RowFile:
    return write(tmp_path / "d.jsonl", numbered(4))


def _doubling(place: int) -> Any:
    return partial(_double, place)


def _double(place: int, job: int) -> int:
    if job == 13:
        raise ValueError("no luck")
    return 2 * job


def _dying_at_start(place: int) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def test_each_job_has_its_own_result_or_error() -> None:
    with WorkerPool(_doubling, 2, "remedy") as pool:
        done = {job: pool.do(job, "at a job") for job in (1, 13, 2, 3)}
        assert [done[job].result() for job in (1, 2, 3)] == [2, 4, 6]
        with pytest.raises(ValueError, match=r"^no luck$"):
            done[13].result()


def test_a_worker_that_dies_before_it_is_ready_is_given_up_in_one_line() -> None:
    with WorkerPool(_dying_at_start, 1, "what to do") as pool:
        error = pool.do(1, "at a job").exception()
    assert isinstance(error, ModelError)
    assert str(error) == (
        "a worker process was killed by signal 9 while it loaded the model, 3 times; what to do"
    )


def test_work_that_cannot_be_sent_is_an_error_of_the_job() -> None:
    with WorkerPool(lambda place: None, 1, "remedy") as pool:
        assert pool.do(1, "at a job").exception() is not None


def test_however_slow_submit_is_a_failure_sets_its_job_once(rows: RowFile, tmp_path: Path) -> None:
    engine = ProcessEngine(Make(rows.layouts, tmp_path, start_error=ModelError("no model")), 1)

    def slow(frame: FrameType, event: str, _: Any) -> Any:
        """Before it decides anything, `submit` waits until its job has failed, or a while."""
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line.split()[0] in {"if", "return"}:
            known = frame.f_locals.get("task")
            job = getattr(known, "done", None) or getattr(known, "answers", None)
            ends = time.monotonic() + 5
            while job is not None and not job.done() and time.monotonic() < ends:
                time.sleep(0.01)
        return slow

    def only_submit(frame: FrameType, event: str, argument: Any) -> Any:
        return slow if frame.f_code.co_name == "submit" else None

    with engine:
        sys.settrace(only_submit)
        try:
            job = engine.submit(list(rows), lambda _: None)
        finally:
            sys.settrace(None)
        with pytest.raises(ModelError, match="no model"):
            job.result(timeout=60)


def test_no_process_outlives_a_program_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, time
            from functools import partial
            from geofilter.runs.engines.pool import WorkerPool

            def make(place):
                return work

            def work(job):
                print(os.getpid(), flush=True)
                time.sleep(600)

            if __name__ == "__main__":
                with WorkerPool(make, 1, "") as pool:
                    pool.do(1, "").result()
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, str(program)], env=environment, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        worker = int(running.stdout.readline())
        running.kill()
    ends = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
