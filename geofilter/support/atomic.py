"""Outputs that appear whole under their final name, or not at all.

A file or folder is written under a temporary name next to its destination,
flushed to the disk, and then given its name. A crash leaves the old state; a
failure removes the temporary. A failure to write becomes one `OutputError`.
"""

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Container, Iterator
from pathlib import Path
from typing import BinaryIO

from geofilter.errors import OutputError, OutputExists
from geofilter.support.display import escape, shown

# Inside the caller's block only these are surely about the output: the block
# may also read its input, whose errors are not ours to name.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})
# Windows flushes only what is open for writing.
_TO_FLUSH = os.O_RDWR if os.name == "nt" else os.O_RDONLY
# Some file systems have no hard links, or no fsync of a folder.
_UNSUPPORTED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK})


def _cannot_write(path: Path, error: OSError) -> OutputError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        remedy = "free some space or write to another disk"
    elif error.errno == errno.ENOENT:
        remedy = "create the folder first"
    else:
        remedy = "choose another output"
    reason = error.strerror or escape(str(error))
    return OutputError(f"{shown(path)}: cannot be written: {reason}; {remedy}")


@contextlib.contextmanager
def _reported(path: Path, only: Container[int | None] | None = None) -> Iterator[None]:
    """Turn what fails, of the kinds `only`, into an `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        if only is None or error.errno in only:
            raise _cannot_write(path, error) from error
        raise


def _exists(path: Path) -> OutputExists:
    return OutputExists(f"{shown(path)}: exists already; remove it or choose another output")


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Refuse early an output that could not be published later; return it as a `Path`.

    Raises `OutputError` when `path` exists and `overwrite` is false, when it is
    neither a file nor a folder (a device is never replaced), or when its folder
    is missing or not writable. Nothing is created.
    """
    path = Path(path)
    try:
        kind = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise _cannot_write(path, error) from error
    else:
        if stat.S_ISLNK(kind):
            kind = path.stat().st_mode if path.exists() else stat.S_IFREG
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise OutputError(
                f"{shown(path)}: is neither a file nor a folder; choose another output"
            )
        if not overwrite:
            raise _exists(path)
    if not path.parent.is_dir():
        missing = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise _cannot_write(path, OSError(missing, os.strerror(missing)))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _cannot_write(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))
    return path


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut, where a folder can be opened like a file.

    Windows refuses that, and writes names to the disk by itself.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(handle)


def _temporary_for(path: Path) -> Path:
    # The name is cut because a file name holds at most 255 bytes.
    return path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")


def _destination(path: Path) -> Path:
    """Where to publish: a link is written through, never replaced by a file."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _keep_mode(path: Path, temporary: Path) -> None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return
    # Not where they agree: some file systems have one mode for all and refuse to set it.
    if mode != stat.S_IMODE(temporary.stat().st_mode):
        temporary.chmod(mode)


def _publish_file(temporary: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        # A hard link fails where the name exists, so that two writers that both
        # saw it free cannot overwrite each other; a rename would.
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            if os.path.lexists(path):
                raise _exists(path) from None
        else:
            temporary.unlink()
            return
    os.replace(temporary, path)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Yield a binary handle; on success its content is published as `path`.

    Raises `OutputError` as `check_output` does, and for a full disk or any other
    failure to write. On every exception, `KeyboardInterrupt` included, the
    temporary file is removed and `path` is as it was. A file that is replaced
    hands its mode on, so that a private one stays private.
    """
    target = _destination(check_output(path, overwrite=overwrite))
    if target.is_dir():
        raise _cannot_write(target, OSError(errno.EISDIR, os.strerror(errno.EISDIR)))
    temporary = _temporary_for(target)
    with _reported(target):
        # Not tempfile: its files are private, and a new output follows the umask.
        handle = temporary.open("xb")
    try:
        with _reported(target):
            _keep_mode(target, temporary)
        with _reported(target, only=_NO_ROOM):
            yield handle
        with _reported(target):
            handle.flush()
            os.fsync(handle.fileno())
            handle.close()
            _publish_file(temporary, target, overwrite)
            sync_folder(target.parent)
    finally:
        # Closing flushes, which fails once more on a full disk.
        with contextlib.suppress(OSError):
            handle.close()
        with contextlib.suppress(OSError):
            temporary.unlink()


def publish(temporary: Path, path: str | os.PathLike[str]) -> None:
    """Give the whole and flushed file `temporary` the free name `path`, on the same disk.

    For a caller with a place of its own for temporaries, who finds them after a
    kill. Raises `OutputError` as `writing` does, and then `temporary` stays.
    """
    target = check_output(path)
    with _reported(target):
        _publish_file(temporary, target, overwrite=False)
        sync_folder(target.parent)


def _sync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root, name), _TO_FLUSH)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(root))


def publish_folder(temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Give the folder `temporary` the name `path`, over what has that name with `overwrite`.

    Raises `OutputError` where something has it without.
    """
    if not os.path.lexists(path):
        os.rename(temporary, path)
        return
    if not overwrite:
        raise _exists(path)
    old = _temporary_for(path)
    os.rename(path, old)
    try:
        os.rename(temporary, path)
    except BaseException:
        os.rename(old, path)
        raise
    if old.is_dir():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink()


@contextlib.contextmanager
def writing_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new empty folder; on success it is published as `path`.

    The same promises and errors as `writing`. With `overwrite` the old folder is
    moved aside before the new one takes its name: a crash between the two leaves
    it under a hidden temporary name, whole.
    """
    target = _destination(check_output(path, overwrite=overwrite))
    temporary = _temporary_for(target)
    with _reported(target):
        temporary.mkdir()
    try:
        with _reported(target, only=_NO_ROOM):
            yield temporary
        with _reported(target):
            _sync_tree(temporary)
            publish_folder(temporary, target, overwrite=overwrite)
            sync_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
