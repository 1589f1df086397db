"""Data as people have it: shards, patterns, standard input, pipes; and rows on standard output."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geofilter.data.rows import open_rows
from geofilter.scoring.table import ScoreTable
from helpers.cli_folder import Geofilter
from helpers.engine_stubs import Score, StubScorer

MADE = "--model model --sae sae --pack my.pack"

pytestmark = pytest.mark.slow


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def scores_of(path: str) -> list[float]:
    return list(pq.read_table(path).column("score").to_pylist())


@pytest.fixture
def shards(work: Path) -> bytes:
    """data.jsonl cut into three shards, each without the end of its last line; all its bytes."""
    Path("parts").mkdir()
    whole = Path("data.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for place, part in enumerate((lines[:15], lines[15:16], lines[16:])):
        name = f"parts/train-{place:05d}-of-00003.jsonl"
        Path(name).write_bytes(b"".join(part).removesuffix(b"\n"))
    return whole


def test_shards_score_as_the_file_they_were_cut_from_and_filter_gives_its_bytes_back(
    shards: bytes, geofilter: Geofilter
) -> None:
    done = geofilter(f"score parts/ {MADE} --json")
    files = [f"parts/train-{place:05d}-of-00003.jsonl" for place in range(3)]
    found = json.loads(done.out)
    assert (done.code, found["table"], found["files"]) == (0, "parts.scores.parquet", files)
    assert f"3 files as one data set, in this order: {', '.join(files)}" in done.err
    assert scores_of("parts.scores.parquet") == scores_of("data.scores.parquet")
    facts = ScoreTable.read("parts.scores.parquet").manifest.facts
    assert facts["files"] == [os.path.abspath(file) for file in files]
    table = "--scores parts.scores.parquet"
    assert geofilter(f"filter parts/*.jsonl {table} --threshold 9 -o kept.jsonl").code == 0
    assert Path("kept.jsonl").read_bytes() == shards.removesuffix(b"\n")
    explained = geofilter(f"explain {' '.join(files)} {table} --row 15")
    assert explained.out.startswith("parts/train-00001-of-00003.jsonl:1 (--row 15): score")
    assert geofilter(f"report parts {table} --no-model -o r.html").code == 0
    wrong = geofilter(f"filter {' '.join(files[::-1])} {table} --threshold 9 -o no.jsonl")
    assert (wrong.code, "or its files came in another order" in wrong.err) == (2, True)


def test_a_run_over_shards_goes_on_where_it_stopped(
    shards: bytes, score: Score, work: Path, tmp_path: Path
) -> None:
    first, second = StubScorer(dies_at=2, death=KeyboardInterrupt), StubScorer()
    with pytest.raises(KeyboardInterrupt):
        score(open_rows("parts"), first)
    table = score(open_rows("parts/train-*.jsonl"), second)
    assert len(table) == 40
    assert first.texts
    assert not set(first.texts) & set(second.texts)


def test_standard_input_is_scored_and_filtered_by_the_same_bytes(
    work: Path, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Path("data.jsonl").read_bytes()
    piped(monkeypatch, content)
    assert geofilter(f"score - {MADE} -o s.parquet").code == 0
    assert scores_of("s.parquet") == scores_of("data.scores.parquet")
    piped(monkeypatch, content)
    done = geofilter("filter - --scores s.parquet --drop-fraction 0.5 -o kept.jsonl")
    assert (done.code, len(Path("kept.jsonl").read_bytes().splitlines())) == (0, 20)
    piped(monkeypatch, content + b"\n")
    done = geofilter("filter - --scores s.parquet --drop-fraction 0.5 -o no.jsonl")
    assert (done.code, "standard input has changed" in done.err) == (2, True)


def test_a_pipe_among_files_is_called_by_the_name_that_was_given(
    work: Path, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(monkeypatch, Path("data.jsonl").read_bytes())
    done = geofilter(f"score - data.jsonl {MADE} -o s.parquet --json")
    assert done.code == 0
    assert "2 files as one data set, in this order: standard input, data.jsonl" in done.err
    assert json.loads(done.out)["files"] == ["standard input", "data.jsonl"]
    assert "/proc/" not in done.err + str(ScoreTable.read(Path("s.parquet")).manifest.facts)


def test_kept_rows_on_standard_output_are_the_bytes_of_the_data_and_nothing_else(
    work: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from geofilter.cli.main import main

    command = "filter data.jsonl --scores data.scores.parquet --threshold 9 -o -"
    assert main(command.split()) == 0
    out, err = capfdbinary.readouterr()
    assert out == Path("data.jsonl").read_bytes()
    assert b"40 of 40 rows kept \xe2\x86\x92 standard output" in err
    assert not Path("-").exists()


REFUSED = {
    "no name for the table of standard input": (f"score - {MADE}", "name one with -o"),
    "a table on standard output": (f"score data.jsonl {MADE} -o -", "name a file"),
    "a summary among rows": (
        "filter data.jsonl --scores data.scores.parquet --threshold 1 -o - --json",
        "--json writes its summary; give one",
    ),
    "dropped rows on standard output": (
        "filter data.jsonl --scores data.scores.parquet --threshold 1 -o k.jsonl --dropped -",
        "only -o can be standard output",
    ),
    "training on rows that come once": (
        "verify - --model organism -o study",
        "save them as a file and name it",
    ),
    "a shard that is missing": (
        f"score parts {MADE}",
        "parts/train-00001-of-00003.jsonl: this shard is missing",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(
    case: str, shards: bytes, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, message = REFUSED[case]
    if case == "a shard that is missing":
        Path("parts/train-00001-of-00003.jsonl").unlink()
    piped(monkeypatch, b"{}\n")
    before = sorted(os.listdir())
    done = geofilter(command)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err
    assert sorted(os.listdir()) == before


def test_an_experiment_takes_several_files_as_one_data_set(
    work: Path, geofilter: Geofilter
) -> None:
    done = geofilter("verify data.jsonl other.jsonl --model organism --estimate -o study --json")
    assert (done.code, json.loads(done.out)["plan"]["data"]) == (0, ["data.jsonl", "other.jsonl"])


def run(command: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """A line of bash, in which `geofilter` is this one and temporary files lie in `folder`."""
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    begin = f'set -o pipefail; geofilter() {{ {sys.executable} -m geofilter "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", begin + command],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_the_shell_s_pipes_lead_in_and_out(shards: bytes, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    table = "--scores data.scores.parquet --threshold 9"
    done = run(f"geofilter filter <(cat data.jsonl) {table} -o - | head -n 1", temporary)
    assert done.stdout == shards.splitlines(keepends=True)[0]
    assert b"Traceback" not in done.stderr
    done = run(
        f"mkfifo p; (sleep 1; cat data.jsonl > p) & geofilter filter p {table} -o -", temporary
    )
    assert (done.returncode, done.stdout) == (0, shards)
    done = run(f"cat parts/* data.jsonl | geofilter filter /dev/stdin {table} -o -", temporary)
    assert (done.returncode, done.stdout) == (2, b"")
    done = run(f"geofilter filter - {table} -o - < data.jsonl > kept.jsonl", temporary)
    assert (done.returncode, Path("kept.jsonl").read_bytes()) == (0, shards)
    assert not list(temporary.iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="files need a name here")
def test_not_even_a_kill_leaves_a_copy_of_standard_input(work: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # The copy is begun with the first piece; standard input then stays open.
    program = "import sys; from geofilter.data.rows import open_rows; open_rows('-')"
    command = f'(yes | head -c 3000000; sleep 3) | {sys.executable} -c "{program}"'
    done = run(f"{command} & sleep 2; kill -9 $!; wait", temporary)
    assert b"Traceback" not in done.stderr
    assert not list(temporary.iterdir())


def test_a_reader_that_goes_away_ends_the_command_quietly(
    work: Path, geofilter: Geofilter, tmp_path: Path
) -> None:
    records = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    long = [json.dumps({**record, "more": "x" * 10_000}) for record in records]
    Path("long.jsonl").write_text("\n".join(long))  # more than a pipe holds
    assert geofilter(f"score long.jsonl {MADE} -o long.parquet").code == 0
    done = run(
        "geofilter filter long.jsonl --scores long.parquet --threshold 9 -o - | head -c 20",
        tmp_path,
    )
    assert (done.returncode, len(done.stdout), done.stderr) == (141, 20, b"")
