"""The parts of a score table survive kills, and refuse what is not theirs."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from geofilter.errors import OutputError, TableError
from geofilter.runs.engines.parts import PartsFolder
from geofilter.support import atomic
from geofilter.support.manifest import Manifest
from helpers.score_rows import MANIFEST, one_line, scored_row

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def begun(out: Path, **change: object) -> PartsFolder:
    parts = PartsFolder(out, MANIFEST, **{"part_rows": 2, **change})
    parts.__enter__()
    parts.begin()
    return parts


def three_parts(tmp_path: Path) -> Path:
    """A run over 5 rows that was killed before it finished."""
    out = tmp_path / "s.parquet"
    parts = begun(out)
    rows = [scored_row(row, row / 10) for row in range(5)]
    for number in range(3):
        parts.write(number, rows[2 * number : 2 * number + 2])
    parts._held.close()
    return out


def test_parts_survive_a_kill(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    parts = begun(out)
    assert parts.whole == {0: 2, 1: 2, 2: 1}
    table = parts.finish()
    parts.__exit__(None, None, None)
    assert table.scores.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert os.listdir(tmp_path) == ["s.parquet"]


def test_damaged_part_is_redone_and_the_others_are_kept(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    damaged = tmp_path / "s.parquet.parts" / "part-000001.parquet"
    whole = damaged.read_bytes()
    flipped = bytearray(whole)
    flipped[40:80] = bytes(255 - byte for byte in flipped[40:80])
    for content in (b"", whole[:-1], whole[: len(whole) // 2], bytes(len(whole)), flipped):
        damaged.write_bytes(content)
        parts = begun(out)
        assert parts.whole == {0: 2, 2: 1}
        assert not damaged.exists()
        parts._held.close()


def test_part_under_another_number_is_redone(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    folder = tmp_path / "s.parquet.parts"
    (folder / "part-000000.parquet").rename(folder / "part-000001.parquet")
    parts = begun(out)
    assert parts.whole == {2: 1}
    parts._held.close()


def test_short_part_in_the_middle_is_redone(tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    parts = begun(out)
    parts.write(0, [scored_row(0, 0.5)])
    parts.write(1, [scored_row(2, 0.5)])
    parts._held.close()
    parts = begun(out)
    assert parts.whole == {1: 1}
    parts._held.close()


def test_part_of_another_run_is_redone(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    other = tmp_path / "other"
    with PartsFolder(other, Manifest({"data": "other"}), part_rows=2) as foreign:
        foreign.begin()
        foreign.write(0, [scored_row(0, -1.0), scored_row(1, -1.0)])
        moved = tmp_path / "s.parquet.parts" / "part-000000.parquet"
        os.replace(foreign.path / "part-000000.parquet", moved)
    parts = begun(out)
    assert parts.whole == {1: 2, 2: 1}
    parts._held.close()


def test_leftover_temporaries_are_removed(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    leftover = tmp_path / "s.parquet.parts" / ".part-000003.parquet.0123.tmp"
    leftover.write_bytes(b"half")
    begun(out)._held.close()
    assert not leftover.exists()


def test_wrong_rows_cannot_be_written(tmp_path: Path) -> None:
    parts = begun(tmp_path / "s.parquet")
    for rows in ([], [scored_row(1, 0.5)], [scored_row(row, 0.5) for row in range(3)]):
        with pytest.raises(ValueError, match="part 0"):
            parts.write(0, rows)
    parts._held.close()


def test_missing_part_cannot_be_finished(tmp_path: Path) -> None:
    parts = begun(tmp_path / "s.parquet")
    parts.write(1, [scored_row(2, 0.5)])
    with pytest.raises(ValueError, match="parts are missing"):
        parts.finish()
    assert not (tmp_path / "s.parquet").exists()
    parts._held.close()


def test_parts_of_another_run_are_refused_with_the_difference(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    other = Manifest({**MANIFEST.decides, "scorer": {"name": "persona"}})
    with pytest.raises(TableError, match=r'scorer\.name: "nearest" before, "persona" now') as error:
        PartsFolder(out, other, part_rows=2).__enter__()
    assert "--restart or choose another output with -o" in one_line(error)
    parts = begun(out)
    assert len(parts.whole) == 3, "the refusal harmed the parts"
    parts._held.close()


def test_restart_throws_the_parts_away_and_only_those(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    own = tmp_path / "s.parquet.parts" / "notes.txt"
    own.write_text("the user's")
    parts = begun(out, restart=True)
    assert parts.whole == {}
    parts.__exit__(None, None, None)
    assert own.exists()


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_parts_without_a_sound_manifest_are_refused(tmp_path: Path, content: bytes | None) -> None:
    out = three_parts(tmp_path)
    manifest = tmp_path / "s.parquet.parts" / "manifest.json"
    manifest.unlink() if content is None else manifest.write_bytes(content)
    with pytest.raises(TableError, match="manifest is missing or damaged") as error:
        PartsFolder(out, MANIFEST, part_rows=2).__enter__()
    one_line(error)


def test_size_of_the_parts_is_the_first_runs(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    parts = begun(out, part_rows=100)
    assert parts.part_rows == 2
    assert len(parts.whole) == 3
    parts._held.close()


def test_two_processes_cannot_hold_the_same_parts(tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    parts = begun(out)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from geofilter.runs.engines.parts import PartsFolder\n"
        "from geofilter.errors import TableError\n"
        "from geofilter.support.manifest import Manifest\n"
        "try:\n"
        "    PartsFolder(Path(sys.argv[1]), Manifest({}), part_rows=2, restart=True).__enter__()\n"
        "except TableError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "another geofilter is at work on it; wait for it" in done.stdout
    assert done.stdout.count("\n") == 1
    parts._held.close()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from geofilter.runs.engines.parts import PartsFolder\n"
        "from geofilter.support.manifest import Manifest\n"
        "PartsFolder(Path(sys.argv[1]), Manifest({}), part_rows=2).__enter__().begin()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.parquet")], check=False)
    assert done.returncode == -signal.SIGKILL
    begun(tmp_path / "s.parquet")._held.close()


def test_folder_without_a_whole_part_is_removed(tmp_path: Path) -> None:
    parts = begun(tmp_path / "s.parquet")
    parts.__exit__(None, None, None)
    assert os.listdir(tmp_path) == []


def test_file_in_the_place_of_the_parts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.parquet.parts").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written") as error:
        PartsFolder(tmp_path / "s.parquet", MANIFEST, part_rows=2).__enter__()
    one_line(error)


@pytest.mark.parametrize("step", ["part", "table"])
def test_full_disk_leaves_the_whole_parts_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    out = three_parts(tmp_path)
    parts = begun(out)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fail(_: int) -> None:
        raise full

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OutputError, match="No space left on device; free some space") as error:
        parts.write(3, [scored_row(6, 0.5)]) if step == "part" else parts.finish()
    one_line(error)
    parts.__exit__(None, None, None)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["s.parquet.parts"]
    parts = begun(out)
    assert len(parts.whole) == 3
    parts._held.close()


def test_other_file_that_appears_under_the_name_is_not_overwritten(tmp_path: Path) -> None:
    out = three_parts(tmp_path)
    parts = begun(out)
    out.write_text("another's")
    with pytest.raises(OutputError, match="exists already"):
        parts.finish()
    parts.__exit__(None, None, None)
    assert out.read_text() == "another's"
    assert (tmp_path / "s.parquet.parts" / "part-000002.parquet").exists()
