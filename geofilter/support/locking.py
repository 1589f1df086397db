"""One process at a time: advisory locks on a file or folder.

Such a lock ends at the latest with its process, so that a kill leaves nothing to clean up.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

_IN_FOLDER = ".geofilter-in-use"


@contextmanager
def locked(
    place: Path, *, in_use: Exception | None = None, unlockable: Exception | None = None
) -> Iterator[None]:
    """Keep other processes out of what `place` guards, a folder or file that exists.

    `in_use` is raised where another process holds it; without `in_use` this one waits.
    `unlockable` is raised where the file system has no locks, as on some networks; without it
    the work goes on unguarded. Raises `OSError` where `place` cannot be opened.

    Where a folder cannot be opened like a file, as on Windows, an empty file in it stands for it,
    which goes with the last that has it open.
    """
    handle, place, ours = _opened(place)
    try:
        try:
            held = lock_descriptor(handle, blocking=in_use is None)
        except OSError as error:
            if unlockable is not None:
                raise unlockable from error
        else:
            # The holder before may have removed the file after it was opened here: then the
            # lock is on a file that has no name any more, and keeps out no one.
            if in_use is not None and not (held and _is_at(handle, place)):
                ours = False
                raise in_use
        yield
    finally:
        os.close(handle)
        if ours:
            # Windows refuses while others have it open: then theirs is the last.
            with suppress(OSError):
                place.unlink()


def _opened(place: Path) -> tuple[int, Path, bool]:
    """A handle to lock, its path, and whether that is a file that stands for a folder."""
    if not place.is_dir():
        return os.open(place, os.O_RDWR), place, False
    try:
        return os.open(place, os.O_RDONLY), place, False
    except PermissionError:
        inside = place / _IN_FOLDER
        return os.open(inside, os.O_RDWR | os.O_CREAT), inside, True


def _is_at(handle: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), place.stat())
    except FileNotFoundError:
        return False
