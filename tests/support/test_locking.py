"""One process at a time: the lock, and what happens where there is none."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from geofilter.support.locking import hold


@pytest.fixture(params=["file", "folder"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.param == "file":
        (tmp_path / "lock").touch()
        return tmp_path / "lock"
    return tmp_path


def test_a_second_holder_is_refused_until_the_first_closes(place: Path) -> None:
    first, second = (os.open(place, os.O_RDONLY) for _ in range(2))
    try:
        assert hold(first, wait=False)
        with pytest.raises(BlockingIOError):
            hold(second, wait=False)
        os.close(first)
        assert hold(second, wait=True)
    finally:
        os.close(second)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_told_of_not_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        assert hold(handle, wait=False) is False
    finally:
        os.close(handle)


def test_any_other_failure_is_raised() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        hold(-1 % 2**30, wait=False)
