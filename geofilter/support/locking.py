"""One process at a time: advisory locks on an open file or folder.

Such a lock ends when the handle is closed, at the latest with its process, so that a kill
leaves nothing to clean up. What to do where there are no locks is for the caller to say.

This module knows nothing about what is guarded.
"""

import errno
import fcntl

# Some network file systems know no locks.
_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})


def hold(handle: int, *, wait: bool) -> bool:
    """Keep other holders of the same file or folder out; false where it cannot be locked.

    `handle` is an open file descriptor. Without `wait`, raises `BlockingIOError` where
    another holds it. Raises `OSError` for any other failure.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        return False
    return True
