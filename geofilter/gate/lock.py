"""The gate's lock: the scores of rows by their hash, committed with the data.

Text, one line per row, sorted, so that git shows and merges it line by line. The first
lines say what the scores were made with; each further line carries a check over that and
itself, so that a line that was edited, or comes from a lock of other settings, is known. A
check is not a signature: it has no key, and anyone who can run this program can make one.
"""

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np

from geofilter.errors import LockError
from geofilter.support.atomic import writing
from geofilter.support.display import escape, shown
from geofilter.support.locking import locked
from geofilter.support.manifest import Manifest
from geofilter.support.pointers import refuse_pointer

FORMAT = 1
_TITLE = f"# geofilter lock {FORMAT}: scores of rows by hash; made by geofilter check, not by hand"
_TITLE_OF_ANY = re.compile(r"# geofilter lock (\d{1,9})\b")
_KEY = re.compile(r"[0-9a-f]{32}")
_STATUS = re.compile(r"[a-z_]{1,40}")
_CONFLICT = ("<<<<<<< ", "=======", ">>>>>>> ")
# A line holds a hash, a number and a reason of at most 1,000 characters, some of them escaped.
_LONGEST = 16384  # characters


class Entry(NamedTuple):
    """What is known about a row: its score, or why it has none.

    `score` is higher the nearer the row lies to harm, a float32 value; None for an unscored
    row, whose `reason` says why. `status` is that of the score table.
    """

    score: float | None
    status: str
    reason: str | None = None


@dataclass(frozen=True)
class Header:
    """What the scores of a lock were made with.

    `asked`: what the policy states, the pack by its bytes; can be known without the model.
    `decides`: what the model gave: fingerprints of its weights and its SAE, the chat
    template, the window, the precision. `versions`: libraries; they move a score by
    rounding, and do not make a lock stale.
    """

    asked: Mapping[str, object]
    decides: Mapping[str, object]
    versions: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest({"asked": dict(self.asked), "decides": dict(self.decides)})

    @cached_property
    def _seed(self) -> "hashlib.blake2b":
        return hashlib.blake2b(self.manifest.hash.encode("ascii"), digest_size=8)

    def line_of(self, key: str, entry: Entry) -> str:
        """The line of a row, its check last, without an end of line."""
        score = "-" if entry.score is None else _number(entry.score)
        reason = json.dumps(entry.reason) if entry.reason is not None else "-"
        content = f"{key} {score} {entry.status} {reason}"
        check = self._seed.copy()
        check.update(content.encode("ascii"))
        return f"{content} {check.hexdigest()}"


@dataclass(frozen=True)
class Lock:
    """A lock as it was read. `edited`: numbers of lines, from 1, that do not fit their check."""

    header: Header
    entries: Mapping[str, Entry]
    edited: tuple[int, ...] = ()


def row_key(content: str, layout: str | None, columns: Mapping[str, str]) -> str:
    """32 hex digits: a row's content by its hash, and how it is read: both decide its score."""
    text = json.dumps([content, layout, dict(columns)], sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()


class _Damaged(LockError):
    """A file that is a lock, but cannot be read as one: scoring again may replace it."""


def read_lock(path: Path) -> Lock | None:
    """The lock at `path`; None where there is no file.

    Lines may come in any order, and twice, the first two as well, as a merge leaves them: of two
    scores of a row the higher one counts, of two reasons to have none the first. Raises
    `LockError` for a file that is not a lock, holds a conflict of a merge, or says of a row that
    it has a score and that it has none.
    """
    refuse_pointer(path, LockError)
    try:
        with path.open(encoding="ascii", errors="surrogateescape", newline="\n") as handle:
            return _read(path, _lines(path, handle))
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = error.strerror or escape(str(error))
        raise LockError(f"{shown(path)}: cannot be read: {reason}") from error


def read_replaceable(path: Path) -> Lock | None:
    """The lock at `path` for a caller who makes it again; None, too, where it is damaged.

    Raises `LockError` for a file that never was a lock, whole or not: the policy may name
    someone's data by mistake.
    """
    try:
        return read_lock(path)
    except _Damaged:
        return None


def _lines(path: Path, handle: TextIO) -> Iterator[tuple[int, str]]:
    number = 0
    while line := handle.readline(_LONGEST):
        number += 1
        if number == 1:
            _check_title(path, line)
        if len(line) == _LONGEST:
            raise _damaged(path, number, "is longer than any line of a lock")
        if not line.isascii():
            raise _damaged(path, number, "holds bytes that no lock holds")
        yield number, line.rstrip("\r\n")
    if number == 0:
        raise _damaged(path, 1, "is empty, and so not a geofilter lock")


def _read(path: Path, lines: Iterator[tuple[int, str]]) -> Lock:
    next(lines)  # the title
    header = _header(next(lines, (2, ""))[1])
    if header is None:
        raise _damaged(path, 2, "does not say what the scores were made with")
    entries: dict[str, Entry] = {}
    edited = []
    for number, line in lines:
        if line.startswith(_CONFLICT):
            raise _damaged(path, number, "holds a merge conflict; keep the lines of both sides")
        if line.startswith(("#", "{")) and _repeats(line, header):
            continue
        key, entry = _entry(line)
        if entry is None or header.line_of(key, entry) != line:
            edited.append(number)
            continue
        first = entries.setdefault(key, entry)
        if first.score is not None and entry.score is not None:
            # Two branches scored one row on machines that round differently.
            entries[key] = max(first, entry, key=_score)
        elif first.score is not None or entry.score is not None:
            raise _damaged(path, number, "says something else about a row than a line before it")
    return Lock(header, entries, tuple(edited))


def _check_title(path: Path, line: str) -> None:
    found = _TITLE_OF_ANY.match(line)
    if found is None and line.startswith(_CONFLICT[0]):
        raise _damaged(path, 1, "holds a merge conflict")
    if found is None:
        raise LockError(
            f"{shown(path)}: is not a geofilter lock, and is not written over; correct lock in "
            "the policy, or move the file away"
        )
    if int(found[1]) != FORMAT:
        raise _Damaged(
            f"{shown(path)}: has format {found[1]} of the lock, and this version reads {FORMAT}; "
            "use the geofilter that made it, or score again with geofilter check --rescore"
        )


def _repeats(line: str, header: Header) -> bool:
    """Whether a line is the title again, or a header of the same settings by other versions."""
    if line.startswith("#"):
        return line == _TITLE
    other = _header(line)
    return other is not None and other.manifest.hash == header.manifest.hash


def _header(line: str) -> Header | None:
    """What a line says the scores were made with; None where it does not say."""
    try:
        found = json.loads(line)
        parts = [found[name] for name in ("asked", "decides", "versions")]
        header = Header(*parts)
        header.manifest.hash  # noqa: B018 - refuses what is not a mapping of JSON values
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return header if all(isinstance(part, dict) for part in parts) else None


def _entry(line: str) -> tuple[str, Entry | None]:
    """The key and entry that a line spells; no entry where it does not spell one."""
    key, _, rest = line.partition(" ")
    score, _, rest = rest.partition(" ")
    status, _, rest = rest.partition(" ")
    reason, _, _check = rest.rpartition(" ")
    if not (_KEY.fullmatch(key) and _STATUS.fullmatch(status)):
        return key, None
    try:
        text = None if reason == "-" else json.loads(reason)
        number = None if score == "-" else _float32(score)
    except (ValueError, RecursionError):
        return key, None
    if not (text is None or isinstance(text, str)) or not (number is None or math.isfinite(number)):
        return key, None
    return key, Entry(number, status, text)


def update_lock(
    path: Path,
    header: Header,
    entries: Mapping[str, Entry],
    *,
    replace: bool = False,
    keep_only: Collection[str] | None = None,
) -> bool:
    """Add `entries` to the lock at `path`; return whether the file changed.

    What other processes have added meanwhile stays: the file is read again, merged and
    replaced as a whole while the folder is locked. `replace` throws away a lock that was
    made with something else, and lines that do not fit their check; without it these raise
    `LockError`, as a file that is not a lock always does. `keep_only` leaves out the rows of all
    other keys.
    """
    with only_one(path.parent):
        old = read_replaceable(path) if replace else read_lock(path)
        if old is not None and old.header.manifest.hash != header.manifest.hash:
            if not replace:
                raise LockError(f"{shown(path)}: was made with something else meanwhile; run again")
            old = None
        if old is not None and old.edited and not replace:
            raise _damaged(path, old.edited[0], "was edited meanwhile")
        before = dict(old.entries) if old is not None else {}
        after = {**before, **entries}
        if keep_only is not None:
            after = {key: entry for key, entry in after.items() if key in keep_only}
        if old is not None and after == before and not old.edited:
            return False
        stays = old.header if old is not None and not replace else header
        with writing(path, overwrite=True) as handle:
            handle.writelines(line.encode("ascii") for line in _spell(stays, after))
    return True


def _spell(header: Header, entries: Mapping[str, Entry]) -> Iterable[str]:
    yield _TITLE + "\n"
    parts = {
        "asked": dict(header.asked),
        "decides": dict(header.decides),
        "versions": dict(header.versions),
    }
    yield json.dumps(parts, sort_keys=True) + "\n"
    for key in sorted(entries):
        yield header.line_of(key, entries[key]) + "\n"


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the advisory lock of `folder`, which leaves no file behind and ends with the process."""
    unlockable = LockError(
        f"{shown(folder)}: cannot be locked against other processes; keep the lock on a local disk"
    )
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder, unlockable=unlockable))
        except OSError as error:
            raise LockError(f"{shown(folder)}: cannot be opened: {error.strerror}") from error
        yield


def _score(entry: Entry) -> float:
    assert entry.score is not None
    return entry.score


def _float32(text: str) -> float:
    """A number as the score that was written, to the last bit."""
    with np.errstate(over="ignore"):
        return float(np.float32(float(text)))


def _number(score: float) -> str:
    """Nine digits give every float32 back."""
    return format(score, ".9g")


def _damaged(path: Path, line: int, what: str) -> _Damaged:
    return _Damaged(
        f"{shown(path)}:{line}: {what}; take the file of the last good commit, or score all rows "
        "again with geofilter check --rescore"
    )
