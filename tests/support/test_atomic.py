"""Outputs appear whole under their final name, or not at all."""

import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from geofilter.errors import OutputError
from geofilter.support import atomic
from helpers.windows import refuse_folders


def write_then(out: Path, then: Callable[[], object], *, overwrite: bool = False) -> None:
    """Write half of the content, then let something happen inside the block."""
    with atomic.writing(out, overwrite=overwrite) as handle:
        handle.write(b"half")
        then()


def raising(failure: BaseException) -> Callable[[], object]:
    def fail() -> None:
        raise failure

    return fail


def test_content_is_published_and_no_temporary_stays(tmp_path: Path) -> None:
    with atomic.writing(tmp_path / "out") as handle:
        handle.write(b"whole")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["out"]


def test_content_reaches_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    steps = []

    def record(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        steps.append((kind, os.fstat(handle).st_size if kind == "file" else None, out.exists()))

    monkeypatch.setattr(os, "fsync", record)
    write_then(out, lambda: None)
    assert steps == [("file", 4, False), ("folder", None, True)]


def test_a_folder_that_cannot_be_opened_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folders(monkeypatch)
    write_then(tmp_path / "out", lambda: None)
    with atomic.writing_folder(tmp_path / "folder") as folder:
        (folder / "part").write_bytes(b"x")
    assert (tmp_path / "out").read_bytes() == b"half"
    assert (tmp_path / "folder" / "part").read_bytes() == b"x"


@pytest.mark.parametrize("failure", [ValueError("x"), KeyboardInterrupt(), OSError(5, "input")])
def test_failure_in_the_block_leaves_nothing(tmp_path: Path, failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        write_then(tmp_path / "out", raising(failure))
    assert os.listdir(tmp_path) == []


def test_failure_with_overwrite_leaves_the_old_content(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with pytest.raises(ValueError, match="x"):
        write_then(out, raising(ValueError("x")), overwrite=True)
    assert out.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_existing_output_is_refused_untouched_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already; remove it") as caught:
        write_then(out, lambda: pytest.fail("the block must not run"))
    assert "\n" not in str(caught.value)
    assert out.read_bytes() == b"old"


def test_output_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="exists already"):
        write_then(out, lambda: out.write_bytes(b"theirs"))
    assert out.read_bytes() == b"theirs"
    assert os.listdir(tmp_path) == ["out"]


def test_file_system_without_hard_links_still_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    with atomic.writing(tmp_path / "out") as handle:
        handle.write(b"whole")
    assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(OutputError, match="exists already"):
        write_then(tmp_path / "b", lambda: (tmp_path / "b").write_bytes(b"theirs"))


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import resource, sys\n"
        "from geofilter.support import atomic\n"
        "from geofilter.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    with atomic.writing(sys.argv[1]) as handle:\n"
        "        handle.write(bytes(int(sys.argv[2])))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    # 100_100 bytes fail only in the final flush, 500_000 in the caller's block.
    for size in ("100100", "500000"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "out"), size],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.count("\n") == 1, done.stderr
        assert "cannot be written: File too large; choose another output" in done.stdout
        assert os.listdir(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000


def test_no_space_left_says_what_to_do(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        write_then(tmp_path / "out", raising(full))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing/out", "No such file or directory; create the folder first"),
        ("file/out", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("folder", "Is a directory"),
    ],
)
def test_unusable_path_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(OutputError, match=message) as caught,
        atomic.writing(tmp_path / name, overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert "\n" not in str(caught.value)


def test_unwritable_folder_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so the refusal is simulated.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="Permission denied"):
        atomic.check_output(tmp_path / "out")


def test_device_is_never_replaced() -> None:
    with (
        pytest.raises(OutputError, match="neither a file nor a folder"),
        atomic.writing("/dev/null", overwrite=True),
    ):
        pytest.fail("the block must not run")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_name_in_the_message_is_escaped(tmp_path: Path) -> None:
    out = tmp_path / "a\x1b[31m\nb"
    out.write_bytes(b"")
    with pytest.raises(OutputError) as caught:
        atomic.check_output(out)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with atomic.writing(tmp_path / "link", overwrite=True) as handle:
        handle.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_output_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic.writing(tmp_path / "out"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_sigkill_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from geofilter.support import atomic\n"
        "with atomic.writing(sys.argv[1]) as handle:\n"
        "    handle.write(b'half')\n"
        "    handle.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()


def test_folder_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with contextlib.suppress(ValueError), atomic.writing_folder(out) as folder:
        (folder / "a").write_bytes(b"half")
        raise ValueError
    assert os.listdir(tmp_path) == []
    with atomic.writing_folder(out) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"1")
    assert (out / "sub" / "a").read_bytes() == b"1"
    with pytest.raises(OutputError, match="exists already"), atomic.writing_folder(out):
        pytest.fail("the block must not run")
    with atomic.writing_folder(out, overwrite=True) as folder:
        (folder / "b").write_bytes(b"2")
    assert os.listdir(out) == ["b"]
    assert os.listdir(tmp_path) == ["out"]


def test_publishing_a_file_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "theirs").write_bytes(b"theirs")
    with pytest.raises(OutputError, match="exists already"):
        atomic.publish(tmp_path / "mine", tmp_path / "theirs")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    atomic.publish(tmp_path / "mine", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mine"
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o664])
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int, linked: bool) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"old")
    out.chmod(mode)
    if linked:
        (tmp_path / "link").symlink_to(out)
    seen = []

    def look() -> None:
        (temporary,) = tmp_path.glob(".out.*.tmp")
        seen.append(stat.S_IMODE(temporary.stat().st_mode))

    write_then(tmp_path / "link" if linked else out, look, overwrite=True)
    assert stat.S_IMODE(out.stat().st_mode) == mode
    assert seen == [mode], "what the old mode kept private stays so meanwhile"


def test_a_new_file_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_then(tmp_path / "out", lambda: None, overwrite=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
