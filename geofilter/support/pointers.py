"""Small files that stand for a large one that was not fetched: Git LFS and git-annex.

A clone without the large files holds such a pointer under the name of each. It is no damaged
file, and no row: only fetching helps.
"""

import os
import stat
from pathlib import Path

from geofilter.errors import GeofilterError
from geofilter.support.display import shown

_LFS = b"version https://git-lfs.github.com/spec/v1"
_ANNEX = (b"/annex/objects/", b".git/annex/objects/")
HEAD = len(_LFS)  # bytes of a file that say whether it is a pointer
_LARGEST = 1024  # bytes; Git LFS takes no larger file for a pointer, nor do we in folders


def pointer_in(head: bytes) -> str | None:
    """What a file that begins with `head` is, and what to do, where it is a pointer."""
    if head.startswith(_LFS):
        return "is a pointer of Git LFS, not the file; fetch it with git lfs pull"
    if head.startswith(_ANNEX):
        return "is a pointer of git-annex, not the file; fetch it with git annex get"
    return None


def broken_link(path: str | os.PathLike[str]) -> str | None:
    """What is wrong, and what to do, where `path` is a link that leads nowhere."""
    try:
        target = os.readlink(path)
    except (OSError, ValueError):
        return None
    if os.path.exists(path):
        return None
    if "/annex/objects/" in target:
        return "is a link of git-annex to a file that is not here; fetch it with git annex get"
    return f"is a link to {shown(target)}, which does not exist; check the link"


def refuse_pointer(path: str | os.PathLike[str], error: type[GeofilterError]) -> None:
    """Raise `error`, in one line, where `path` is a pointer or a link that leads nowhere.

    A path that is no file, or cannot be read, is left to what reads it.
    """
    reason = broken_link(path)
    try:
        if reason is None and stat.S_ISREG(os.stat(path).st_mode):
            with open(path, "rb") as file:
                reason = pointer_in(file.read(HEAD))
    except (OSError, ValueError):
        return
    if reason is not None:
        raise error(f"{shown(path)}: {reason}")


def refuse_pointers(
    folder: str | os.PathLike[str], suffixes: tuple[str, ...], error: type[GeofilterError]
) -> None:
    """`refuse_pointer` for each file of a folder whose name ends in one of `suffixes`."""
    for path in sorted(Path(folder).iterdir()):
        if not path.name.endswith(suffixes):
            continue
        if path.is_symlink() or (path.is_file() and path.stat().st_size <= _LARGEST):
            refuse_pointer(path, error)
