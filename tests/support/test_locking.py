"""One process at a time: the lock, and what happens where locks do not work."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from geofilter.support import locking
from geofilter.support.locking import locked
from helpers.windows import refuse_folders

IN_USE = RuntimeError("another holds it")
UNLOCKABLE = RuntimeError("no locks here")


@pytest.fixture(params=["file", "folder", "folder that cannot be opened"])
def place(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    if request.param == "file":
        (tmp_path / "lock").touch()
        yield tmp_path / "lock"
        return
    if request.param == "folder that cannot be opened":
        refuse_folders(monkeypatch)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_second_holder_is_refused_until_the_first_ends(place: Path) -> None:
    with (
        locked(place, in_use=IN_USE),
        pytest.raises(RuntimeError) as error,
        locked(place, in_use=IN_USE),
    ):
        pytest.fail("both held it")
    assert error.value is IN_USE
    with locked(place, in_use=IN_USE):
        pass


def test_an_error_of_the_work_ends_the_lock_and_passes(place: Path) -> None:
    with pytest.raises(BlockingIOError, match="of the work"), locked(place, unlockable=UNLOCKABLE):
        raise BlockingIOError("of the work")
    with locked(place, in_use=IN_USE):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be removed there")
def test_the_lock_of_a_file_without_a_name_keeps_out_no_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    native = locking.lock_descriptor

    def removed_meanwhile(handle: int, *, blocking: bool) -> bool:
        lock.unlink()
        return native(handle, blocking=blocking)

    monkeypatch.setattr(locking, "lock_descriptor", removed_meanwhile)
    with pytest.raises(RuntimeError) as error, locked(lock, in_use=IN_USE):
        pytest.fail("it held a file that has no name")
    assert error.value is IN_USE


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("in_use", [None, IN_USE])
def test_where_there_are_no_locks_the_caller_decides(
    place: Path, monkeypatch: pytest.MonkeyPatch, number: int, in_use: Exception | None
) -> None:
    def refuse(handle: int, *, blocking: bool) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locking, "lock_descriptor", refuse)
    worked = False
    with locked(place, in_use=in_use):
        worked = True
    assert worked
    with pytest.raises(RuntimeError) as error, locked(place, in_use=in_use, unlockable=UNLOCKABLE):
        pytest.fail("it worked without a lock")
    assert error.value is UNLOCKABLE


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing"):
        pass
    assert list(tmp_path.iterdir()) == []
