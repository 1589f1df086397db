"""Other responses for rows that were chosen: asked for, scored as the rows were, and kept.

A response is taken only if its score lies below a bound, the least score that was chosen, so that
no row ever gets a worse one. What a model wrote is data, as hostile as the rows are: it is checked,
never obeyed, and a limited amount of it is kept.

Replies and scores are added to a file as they come, so that what a kill left is gone on from. The
file's first line says what they were made with and from; it may hold more than a later choice of
rows needs, and what it holds is not asked for again.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from geofilter.data.samples import Turn
from geofilter.errors import OutputError
from geofilter.support.display import shown
from geofilter.support.manifest import Manifest, difference
from geofilter.support.progress import Progress, no_progress
from geofilter.support.records import append_lines, read_lines

ATTEMPTS = 3
# Characters of a reply that are kept; what is longer is no response to a row.
REPLY_LIMIT = 100_000
_LAYING_OUT = frozenset("\n\r\t")
# What a chat model says in English when it will not answer. Only how a reply begins is looked at:
# further on these are words as any others.
_BEGINNING = 160
_REFUSAL = re.compile(
    r"(?:(?:i['’]?m (?:\w+ )?sorry|sorry|i apologi[sz]e|unfortunately)\b[^.!?]*?\b|i (?:\w+ )?)"
    r"(?:can['’]?t|can ?not|(?:i['’]?m|am) (?:not able|unable) to|won['’]?t|will not) "
    r"(?:help|assist|provide|comply|answer|fulfil+|do that|continue|engage|discuss|support)"
    r"|as an ai\b",
    re.IGNORECASE,
)


class Reply(NamedTuple):
    """What a model said, or None with the `fault`; a text with a fault is not taken either.

    `lasting`: whether asking the same again is of no use, so that it is kept.
    """

    text: str | None
    fault: str | None = None
    lasting: bool = True


class Scored(NamedTuple):
    """A score, higher = nearer to harm, or None with the reason."""

    score: float | None
    reason: str | None


class Ask(NamedTuple):
    """The turns that a response is asked for, those of the row `row`."""

    row: int
    turns: tuple[Turn, ...]


class Writer(Protocol):
    """A model that writes responses.

    `name` is for people. `describe` holds what decides them, for a manifest. A call yields the
    replies to those of `asks` whose rows are `wanted`, as they come; the same asks and attempt may
    give the same replies. At most `at_once` are asked in one call.
    """

    name: str
    at_once: int

    def describe(self) -> dict[str, object]: ...

    def __call__(
        self, asks: Sequence[Ask], attempt: int, wanted: Collection[int]
    ) -> Iterator[tuple[int, Reply]]: ...


# Scores of rows, by their places, with other responses.
ScoreTexts = Callable[[Sequence[tuple[int, str]]], list[Scored]]


class Candidate(NamedTuple):
    """A row that may get another response than `old`; `turns` are what that answers."""

    row: int
    turns: tuple[Turn, ...]
    old: str


@dataclass(frozen=True)
class Outcome:
    """What became of a candidate: the response that is taken, or None with the reason.

    `text` and `score` are those of the response taken; else of the one that scored lowest, None
    where none was scored.
    """

    taken: bool
    text: str | None
    score: float | None
    reason: str


class ReplyLog:
    """The replies and scores of a run, in the file `path`; without one, in memory alone.

    `made` says what they are made with and from. Raises `OutputError` for a file of another run,
    and for a damaged one.
    """

    def __init__(self, path: Path | None, made: Manifest) -> None:
        self._path = path
        self._replies: dict[tuple[int, int], Reply] = {}
        self._scores: dict[tuple[int, int], Scored] = {}
        if path is None:
            return
        lines = read_lines(path)
        if not lines:
            append_lines(path, [{"made": dict(made.decides)}])
            return
        before, records = lines[0].get("made"), lines[1:]
        if not isinstance(before, dict):
            raise _damaged(path)
        if changed := difference(Manifest(before), made):
            raise OutputError(
                f"{shown(path)}: holds replies that were made otherwise ({'; '.join(changed)}); "
                "remove it or choose another output"
            )
        for record in records:
            self._read(record)

    def _read(self, record: Mapping[str, Any]) -> None:
        assert self._path is not None
        match record:
            case {"row": int(row), "attempt": int(attempt), "reply": str() | None as text}:
                self._replies[row, attempt] = Reply(text, _text_or_none(record.get("fault")))
            case {"row": int(row), "attempt": int(attempt), "score": float() | int() | None as one}:
                score = None if one is None else float(one)
                self._scores[row, attempt] = Scored(score, _text_or_none(record.get("reason")))
            case _:
                raise _damaged(self._path)

    def reply(self, row: int, attempt: int) -> Reply | None:
        return self._replies.get((row, attempt))

    def scored(self, row: int, attempt: int) -> Scored | None:
        return self._scores.get((row, attempt))

    def add_reply(self, row: int, attempt: int, reply: Reply) -> None:
        if reply.text is not None and len(reply.text) > REPLY_LIMIT:
            reply = Reply(None, f"is longer than {REPLY_LIMIT:,} characters")
        self._replies[row, attempt] = reply
        if reply.lasting:
            fault = {"fault": reply.fault} if reply.fault else {}
            self._append([{"row": row, "attempt": attempt, "reply": reply.text, **fault}])

    def add_scores(self, found: Mapping[tuple[int, int], Scored]) -> None:
        self._scores |= found
        self._append(
            {"row": row, "attempt": attempt, **one._asdict()}
            for (row, attempt), one in found.items()
        )

    def _append(self, records: Any) -> None:
        if self._path is not None:
            append_lines(self._path, records)


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _damaged(path: Path) -> OutputError:
    return OutputError(f"{shown(path)}: is damaged; remove it and run the same command again")


def fault_of(text: str, old: str) -> str | None:
    """Why a reply cannot stand in the place of the response `old`; None where it can."""
    said = text.strip()
    if not any(unicodedata.category(c)[0] not in "CZ" for c in said):
        return "is empty"
    if said == old.strip():
        return "says the same"
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in _LAYING_OUT for c in said):
        return "holds control characters"
    if _REFUSAL.match(said[:_BEGINNING]):
        return "is a refusal"
    return None


def replace_all(
    candidates: Sequence[Candidate],
    log: ReplyLog,
    writer: Writer,
    score: ScoreTexts,
    *,
    below: float,
    attempts: int = ATTEMPTS,
    progress: Progress = no_progress,
) -> dict[int, Outcome]:
    """Ask for other responses until each candidate has one that scores `below`, `attempts` at most.

    What `log` holds is neither asked nor scored again. By the candidates' rows. Raises what the
    writer and the scorer raise; what has come until then is in the log.
    """
    done = 0
    for attempt in range(attempts):
        left = [one for one in candidates if _taken(one, log, below, attempt) is None]
        for start in range(0, len(left), writer.at_once):
            group = left[start : start + writer.at_once]
            missing = {one.row for one in group if log.reply(one.row, attempt) is None}
            if missing:
                asks = [Ask(one.row, one.turns) for one in group]
                for row, reply in writer(asks, attempt, missing):
                    log.add_reply(row, attempt, reply)
                    done += 1
                    progress("ask", done, None)
            _score(group, attempt, log, score)
    return {one.row: _outcome(one, log, below, attempts) for one in candidates}


def _score(group: Sequence[Candidate], attempt: int, log: ReplyLog, score: ScoreTexts) -> None:
    fresh = [
        (one.row, text)
        for one in group
        if (text := _usable(one, log, attempt)) is not None and log.scored(one.row, attempt) is None
    ]
    if fresh:
        found = score(fresh)
        pairs = zip(fresh, found, strict=True)
        log.add_scores({(row, attempt): one for (row, _), one in pairs})


def _usable(candidate: Candidate, log: ReplyLog, attempt: int) -> str | None:
    """The reply as it would stand in the row; None where it cannot."""
    reply = log.reply(candidate.row, attempt)
    if reply is None or reply.text is None or reply.fault or fault_of(reply.text, candidate.old):
        return None
    return reply.text.strip()


def _taken(candidate: Candidate, log: ReplyLog, below: float, attempts: int) -> int | None:
    """The first of so many attempts whose reply is taken."""
    for attempt in range(attempts):
        scored = log.scored(candidate.row, attempt)
        usable = scored is not None and _usable(candidate, log, attempt) is not None
        if usable and scored is not None and scored.score is not None and scored.score < below:
            return attempt
    return None


def _outcome(candidate: Candidate, log: ReplyLog, below: float, attempts: int) -> Outcome:
    taken = _taken(candidate, log, below, attempts)
    if taken is not None:
        scored = log.scored(candidate.row, taken)
        assert scored is not None
        said = f"replaced by a response that scores {scored.score:.4g}"
        return Outcome(True, _usable(candidate, log, taken), scored.score, said)
    reasons: dict[str, int] = {}
    best: tuple[float, str | None] | None = None
    for attempt in range(attempts):
        scored, reply = log.scored(candidate.row, attempt), log.reply(candidate.row, attempt)
        usable = _usable(candidate, log, attempt)
        if usable is not None and scored is not None and scored.score is not None:
            best = min(best or (scored.score, usable), (scored.score, usable), key=lambda b: b[0])
            reason = f"scores {scored.score:.4g}"
        elif usable is not None and scored is not None:
            reason = f"cannot be scored: {scored.reason}"
        else:
            assert reply is not None
            reason = reply.fault or fault_of(reply.text or "", candidate.old) or "is empty"
        reasons[reason] = reasons.get(reason, 0) + 1
    listed = "; ".join(f"{n} times {why}" if n > 1 else why for why, n in reasons.items())
    said = f"not replaced: of {attempts} replies none is taken ({listed})"
    return Outcome(False, best and best[1], best and best[0], said)
