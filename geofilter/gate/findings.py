"""What the gate finds wrong with rows and locks, in words that say what to do."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from geofilter.data.formats.streams import shown
from geofilter.data.rows import Row
from geofilter.gate.lock import Entry, Lock
from geofilter.gate.policy import Policy
from geofilter.support.display import argument, escape
from geofilter.support.manifest import Manifest, difference

Kind = Literal["near-harm", "unscored", "not-locked", "stale-lock", "edited-lock", "other-score"]

# The rule of each kind, in one sentence.
RULES: dict[Kind, str] = {
    "near-harm": "The row's score is at or above the threshold of the policy.",
    "unscored": "The row has no score, and the policy refuses such rows.",
    "not-locked": "Rows of the file have no score in the lock.",
    "stale-lock": "The lock was made with something else than the policy asks for.",
    "edited-lock": "A line of the lock does not fit its check.",
    "other-score": "The model gives another score than the lock states.",
}
# Lines of a lock that are named one by one.
_NAMED_LINES = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One objection. `file` is a path as it was given, or as a format wants it; `line` from 1.

    `place` is the row's place for a person (`data.jsonl:17`, `data.parquet:row 17`), the
    only one where the format has no lines. `key`: the row's in the lock, where its score, or
    the lack of one, is what is refused. `score`: the score that is.
    """

    kind: Kind
    file: str
    line: int | None
    place: str
    message: str
    key: str | None = None
    score: float | None = None

    @property
    def text(self) -> str:
        """The place and the message, for a person."""
        return f"{self.place}: {self.message}"

    @property
    def text_at_line(self) -> str:
        """What a server shows at the line; the place is in it where there is no line."""
        return self.text if self.line is None else self.message


def cut_of(policy: Policy) -> float:
    """The threshold in the type of the scores, as `selection.threshold` takes it."""
    with np.errstate(over="ignore"):
        return float(np.float32(policy.threshold))


def refusal(
    policy: Policy, cut: float, file: str, row: Row, key: str, entry: Entry
) -> Finding | None:
    """The finding of a row of `file` with that score, or without one; None where it passes."""
    if entry.score is None:
        if policy.unscored == "pass":
            return None
        return _of_row("unscored", file, row, _in_words(entry), key)
    if entry.score < cut:
        return None
    note = f"; {entry.reason}" if entry.reason else ""
    message = (
        f"{_in_words(entry)} is at or above the threshold {policy.threshold:.6g} "
        f"({policy.scorer.name}{note})"
    )
    return replace(_of_row("near-harm", file, row, message, key), score=entry.score)


def _in_words(entry: Entry) -> str:
    """A score in words, or the reason for its absence."""
    if entry.score is None:
        return f"no score ({entry.status}: {as_policy(entry.reason or '')})"
    return f"score {entry.score:.6g}"


_COLUMNS = re.compile(r"--column [^\s=]+=[^\s;,]+(?: --column [^\s=]+=[^\s;,]+)*")
_LAYOUT = re.compile(r"--layout ([\w-]+)")


def as_policy(advice: str) -> str:
    """What to do about a row, with keys of a policy in the place of options of `score`."""

    def columns(options: re.Match[str]) -> str:
        given = options[0].removeprefix("--column ").split(" --column ")
        pairs = [f"{role} = '{name}'" for role, _, name in (one.partition("=") for one in given)]
        return f"columns = {{{', '.join(pairs)}}}"

    return _LAYOUT.sub(r"layout = '\1'", _COLUMNS.sub(columns, advice))


def other_score(policy: Policy, file: str, row: Row, locked: Entry, entry: Entry) -> Finding:
    """The lock states `locked` of the row, and the model gives `entry`."""
    return _of_row(
        "other-score",
        file,
        row,
        f"{_name(policy)} states {_in_words(locked)}, and the model gives {_in_words(entry)}: the "
        "lock was changed by hand, or made with other versions than these; score all rows again "
        "with geofilter check --rescore where you trust the machine",
    )


_LINE = re.compile(r"(\d+)(?: \(row \d+\))?")


def _of_row(kind: Kind, file: str, row: Row, message: str, key: str | None = None) -> Finding:
    place = _LINE.fullmatch(row.where.removeprefix(f"{shown(file)}:"))
    return Finding(kind, file, int(place[1]) if place else None, row.where, message, key)


def not_locked(missing: Mapping[str, tuple[Row, int]], policy: Policy) -> Iterator[Finding]:
    """One finding for each file: `missing` gives the first such row of it, and their number."""
    for file, (row, count) in missing.items():
        rows = "this row has" if count == 1 else f"{count:,} rows, this one first, have"
        yield _of_row(
            "not-locked",
            file,
            row,
            f"{rows} no score in {_name(policy)}; where the model can run, do `geofilter check "
            f"{argument(file)}`, and commit {_name(policy)} with the data",
        )


def passed_unscored(
    unscored: Mapping[str, tuple[Row, Entry, int]], policy: Policy
) -> Iterator[Finding]:
    """What to say of rows that pass without a score: `unscored` gives the first of each file.

    No objection; nothing where the policy refuses such rows one by one.
    """
    if policy.unscored != "pass":
        return
    for file, (row, entry, count) in unscored.items():
        rows = "this row has" if count == 1 else f"{count:,} rows, this one first, have"
        message = f"{rows} {_in_words(entry)} and may pass, for the policy has unscored = 'pass'"
        yield _of_row("unscored", file, row, message)


def objections(policy: Policy, lock: Lock) -> tuple[Finding, ...]:
    """What is wrong with the lock, as far as it can be seen without the model."""
    asked = Manifest({"asked": policy.asked()})
    stated = Manifest({"asked": dict(lock.header.asked)})
    if changed := difference(stated, asked):
        return (stale(policy, changed),)
    return tuple(_edited(policy, lock))


def _edited(policy: Policy, lock: Lock) -> Iterator[Finding]:
    hidden = len(lock.edited) - _NAMED_LINES
    for place, number in enumerate(lock.edited[:_NAMED_LINES]):
        more = f" (and {hidden:,} more lines)" if hidden > 0 and place == _NAMED_LINES - 1 else ""
        yield _of_lock(
            "edited-lock",
            policy,
            number,
            f"the line does not fit its check{more}: it was changed by hand, or belongs to a lock "
            "of other settings; take the file of the last good commit, or score all rows again "
            "with geofilter check --rescore",
        )


def stale(policy: Policy, changed: Sequence[str]) -> Finding:
    """The lock was made with something else; `changed` says what differs."""
    return _of_lock(
        "stale-lock",
        policy,
        2,
        f"the scores were made with something else ({'; '.join(changed)}); where the model can "
        f"run, do `geofilter check --rescore`, and commit {_name(policy)}",
    )


def _of_lock(kind: Kind, policy: Policy, line: int, message: str) -> Finding:
    path = os.path.relpath(policy.lock_path)
    return Finding(kind, path, line, f"{shown(path)}:{line}", message)


def _name(policy: Policy) -> str:
    return escape(policy.lock, limit=200)
