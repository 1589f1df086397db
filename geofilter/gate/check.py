"""The gate: which rows of which files the policy refuses, by the scores in the lock.

Rows that the lock knows are not scored again. The others are scored where the model can be
loaded, and refused as not locked where it cannot. Its libraries are imported only to load it,
so that a check without one takes no longer than reading the rows.
"""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from geofilter.data.formats.places import each_file
from geofilter.data.layouts.choose import Layouts
from geofilter.data.reading import Reading
from geofilter.data.rows import Row, RowFile, open_rows
from geofilter.errors import PolicyError
from geofilter.gate.accepted import add_accepted, file_of, read_accepted, refused_at
from geofilter.gate.findings import (
    Finding,
    as_policy,
    cut_of,
    not_locked,
    objections,
    other_score,
    passed_unscored,
    refusal,
    stale,
)
from geofilter.gate.lock import (
    Entry,
    Header,
    Lock,
    read_lock,
    read_replaceable,
    row_key,
    update_lock,
)
from geofilter.gate.policy import Policy, read_policy
from geofilter.support.atomic import check_output
from geofilter.support.display import escape
from geofilter.support.manifest import difference
from geofilter.support.progress import Progress, no_progress

# Locked rows that are scored again whenever the model is loaded: a look at the lock's honesty.
AUDITED = 20
# How far a score may lie from the locked one, as a share of the greatest of the two scores
# and the threshold: rounding of other machines and batches, which docs/gate.md measures.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
_JOB_ROWS = 256
_JOB_BYTES = 8 * 2**20
# Seconds of scoring that a kill may cost.
_SAVE_EVERY = 60.0


class RowScorer(Protocol):
    """A loaded model as the gate sees it."""

    @property
    def header(self) -> Header:
        """What its scores are made with."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What was noticed while the model was loaded, one line each."""
        ...

    def score(self, rows: Sequence[Row], layouts: Layouts) -> list[Entry]:
        """The score of each row, in order, or why it has none."""
        ...


# Loads the model; the first file of rows is what its run is described over.
Load = Callable[[RowFile], RowScorer]


@dataclass(frozen=True)
class Verdict:
    """What a check found. The gate says yes when there are no findings.

    `n_rows` were looked at, `n_scored` different ones of them scored by the model now,
    `n_audited` locked ones scored again and compared. `lock_changed`: the lock was written.
    `n_unscored` have no score, whether the policy refuses them or not; `passed` names the first
    of each file where it does not. `n_accepted` rows would be refused for their score, but for
    the policy's accepted ones.
    `judged`: the rows were held against the policy. False where the lock did not fit:
    then nothing is known of a row that has no finding. `readings`: file -> what was read of
    it. `notes`: those of the model.
    """

    policy: Policy
    files: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    n_rows: int = 0
    n_scored: int = 0
    n_audited: int = 0
    lock_changed: bool = False
    n_accepted: int = 0
    n_unscored: int = 0
    passed: tuple[Finding, ...] = ()
    judged: bool = True
    readings: Mapping[str, Reading] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def without(self, accepted: Collection[str | None]) -> "Verdict":
        """The verdict where rows of the keys in `accepted` may score what they do."""
        kept = tuple(finding for finding in self.findings if finding.key not in accepted)
        n_more = len(self.findings) - len(kept)
        return replace(self, findings=kept, n_accepted=self.n_accepted + n_more)


def check_files(
    files: Sequence[str] = (),
    *,
    accept: Sequence[str] = (),
    no_model: bool = False,
    device: str = "auto",
    rescore: bool = False,
    prune: bool = False,
    progress: Progress = no_progress,
) -> Verdict:
    """Hold `files` against the policy above them; without any, the files that it lists.

    A pattern or a folder stands for all files of rows that match it or lie in it.

    With `no_model` nothing is scored; `device` is where the model runs otherwise. `accept`:
    places such as `data.jsonl:17` of rows that are refused for their score and may pass from
    now on, all or none; none where the lock does not fit. `rescore` and `prune` as in `check`.

    Raises `PolicyError` where there is no policy or no file, `DataError` for a place where no
    row is refused, and what `check` raises.
    """
    named = list(dict.fromkeys([*each_file(files), *map(file_of, accept)]))
    policy = read_policy(named)
    chosen = named or policy.listed()
    if not chosen:
        raise PolicyError(
            f"{escape(str(policy.path), None)}: lists no files; "
            "name a FILE, or add files to [tool.geofilter]"
        )
    load = None if no_model else partial(_load, policy, device)
    verdict = check(chosen, policy, load=load, rescore=rescore, prune=prune, progress=progress)
    if not accept or not verdict.judged:
        return verdict
    found = [refused_at(place, verdict.findings) for place in accept]
    add_accepted(policy.accepted_path, found)
    return verdict.without({finding.key for finding in found})


def _load(policy: Policy, device: str, rows: RowFile) -> RowScorer:
    from geofilter.gate.scorer import load_scorer

    return load_scorer(policy, rows, device=device)


def check(
    files: Sequence[str],
    policy: Policy,
    *,
    load: Load | None = None,
    rescore: bool = False,
    prune: bool = False,
    progress: Progress = no_progress,
) -> Verdict:
    """Hold every row of `files` against `policy` and bring its lock up to date.

    `load` is called once, when there is something to score; without it nothing is scored,
    and a file with rows that the lock does not know has a finding. `rescore` scores all rows
    again and replaces what the lock says of them, naming rows whose locked score was another
    one; a lock of other settings is thrown away. `prune` leaves only rows of `files` in it.

    A lock that does not fit the policy, the model or its own checks is a finding, and then
    nothing is written. Rows whose keys are in the policy's file of accepted ones are not
    refused for their score.

    Raises `PolicyError` for such a file with anything else in it, `DataError` for a file of
    rows that cannot be read, `LockError` for a lock that cannot be, `OutputError` for one that
    could not be written, and what `load` raises.
    """
    accepted = read_accepted(policy.accepted_path)
    gate = _Gate(policy, tuple(files), progress)
    return gate.check(load, rescore=rescore, prune=prune).without(accepted)


@dataclass
class _Seen:
    """What one pass over the files found."""

    findings: list[Finding] = field(default_factory=list)
    n_rows: int = 0
    locked: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    # Per file with rows that are not locked, or that have no score: the first and their number.
    first_missing: dict[str, tuple[Row, int]] = field(default_factory=dict)
    readings: dict[str, Reading] = field(default_factory=dict)
    first_unscored: dict[str, tuple[Row, Entry, int]] = field(default_factory=dict)

    @property
    def keys(self) -> set[str]:
        return self.locked | self.missing


_Scored = tuple[RowFile, Row, str, Entry]


class _Gate:
    """The files of one check, opened, and the policy that they are held against."""

    def __init__(self, policy: Policy, files: tuple[str, ...], progress: Progress) -> None:
        self.policy = policy
        self.verdict = Verdict(policy, files)
        self.sources = [
            open_rows(file, layout=policy.layout, columns=policy.columns) for file in files
        ]
        self._progress = progress

    def check(self, load: Load | None, *, rescore: bool, prune: bool) -> Verdict:
        """The verdict before any row is accepted; arguments and errors as of `check`."""
        path = self.policy.lock_path
        old = read_replaceable(path) if rescore else read_lock(path)
        if old is not None and not rescore and (against := objections(self.policy, old)):
            return self.unjudged(against)
        seen = self.judge({} if rescore or old is None else old.entries)
        self.verdict = replace(self.verdict, readings=seen.readings)
        if self.policy.unscored == "pass":
            # Else each of those rows is a finding.
            for file, reading in seen.readings.items():
                reading.refuse_above(self.policy.unread_limit, escape(file, None), "unread-limit")
        if load is None or not seen.missing:
            changed = old is not None and prune and self.prune(old.header, seen.keys)
            return replace(self.judged(seen), lock_changed=changed)
        # Before hours of scoring: is there a place for what comes out of it?
        check_output(path, overwrite=True)
        scorer = load(self.sources[0])
        self.verdict = replace(self.verdict, n_rows=seen.n_rows, notes=tuple(scorer.notes))
        return self.score(scorer, old, seen, rescore=rescore, prune=prune)

    def unjudged(self, findings: Iterable[Finding]) -> Verdict:
        """The verdict where the lock does not fit."""
        return replace(self.verdict, findings=tuple(findings), judged=False)

    def judged(self, seen: _Seen, others: Iterable[Finding] = ()) -> Verdict:
        """The verdict on the rows that were seen."""
        findings = (*others, *seen.findings, *not_locked(seen.first_missing, self.policy))
        return replace(
            self.verdict,
            findings=findings,
            n_rows=seen.n_rows,
            n_unscored=sum(count for *_, count in seen.first_unscored.values()),
            passed=tuple(passed_unscored(seen.first_unscored, self.policy)),
        )

    def judge(self, known: Mapping[str, Entry]) -> _Seen:
        """Look at every row: is it known, and is it refused?"""
        seen = _Seen()
        refused = partial(refusal, self.policy, cut_of(self.policy))
        for source in self.sources:
            tally = source.tally()
            for row in source:
                seen.n_rows += 1
                tally.add(row.record, row.where, row.problem)
                key = _key(row, source)
                entry = known.get(key)
                if entry is None:
                    seen.missing.add(key)
                    first, count = seen.first_missing.get(source.source, (row, 0))
                    seen.first_missing[source.source] = first, count + 1
                    continue
                seen.locked.add(key)
                if entry.score is None:
                    one, its, count = seen.first_unscored.get(source.source, (row, entry, 0))
                    seen.first_unscored[source.source] = one, its, count + 1
                if (finding := refused(source.source, row, key, entry)) is not None:
                    seen.findings.append(finding)
            reading = tally.reading()
            advice = reading.first_unread and as_policy(reading.first_unread)
            seen.readings[source.source] = replace(reading, first_unread=advice)
        return seen

    def prune(self, header: Header, keys: Collection[str]) -> bool:
        return update_lock(self.policy.lock_path, header, {}, keep_only=keys)

    def score(
        self, scorer: RowScorer, old: Lock | None, seen: _Seen, *, rescore: bool, prune: bool
    ) -> Verdict:
        """Score what is missing, keep it in the lock, and judge again."""
        comparable = old
        if old is not None and (changed := difference(old.header.manifest, scorer.header.manifest)):
            if not rescore:
                return self.unjudged([stale(self.policy, changed)])
            comparable = None
        if comparable is not None and not rescore:
            n_audited = min(AUDITED, len(seen.locked))
            audited = random.SystemRandom().sample(sorted(seen.locked), n_audited)
            self.verdict = replace(self.verdict, n_audited=n_audited)
            if others := list(self._others(comparable, self._scored(audited, scorer))):
                return self.unjudged(others)
        fresh: dict[str, Entry] = {}
        others = []
        saver = _Saver(self.policy, scorer.header, replace=rescore)
        try:
            for source, row, key, entry in self._scored(seen.missing, scorer, self._progress):
                fresh[key] = saver.entries[key] = entry
                saver.save_now_and_then()
                if comparable is not None and rescore:
                    others += self._others(comparable, [(source, row, key, entry)])
        finally:
            saver.save()
        if prune:
            saver.changed |= self.prune(scorer.header, seen.keys)
        known = {} if rescore or comparable is None else comparable.entries
        # A row that changed under our hands has no score yet.
        verdict = self.judged(self.judge({**known, **fresh}), others)
        return replace(verdict, n_scored=len(fresh), lock_changed=saver.changed)

    def _scored(
        self, wanted: Collection[str], scorer: RowScorer, progress: Progress = no_progress
    ) -> Iterator[_Scored]:
        """The first row of each wanted key, with its score."""
        left, total = set(wanted), len(wanted)
        for source in self.sources:
            for job in _jobs(source, left):
                entries = scorer.score([row for row, _ in job], source.layouts)
                for (row, key), entry in zip(job, entries, strict=True):
                    yield source, row, key, entry
                progress("score", total - len(left), total)
            if not left:
                return

    def _others(self, lock: Lock, scored: Iterable[_Scored]) -> Iterator[Finding]:
        """Findings for rows whose locked score is another one than the model gives."""
        dtype = str(lock.header.decides.get("dtype"))
        tolerance = TOLERANCE.get(dtype, max(TOLERANCE.values()))
        for source, row, key, entry in scored:
            locked = lock.entries.get(key)
            if locked is None or _agree(locked, entry, tolerance, self.policy.threshold):
                continue
            yield other_score(self.policy, source.source, row, locked, entry)


class _Saver:
    """Keeps what is scored in the lock, now and then."""

    def __init__(self, policy: Policy, header: Header, *, replace: bool) -> None:
        self.entries: dict[str, Entry] = {}
        self.changed = False
        self._policy = policy
        self._header = header
        self._replace = replace
        self._saved = time.monotonic()

    def save_now_and_then(self) -> None:
        if time.monotonic() - self._saved > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        if not self.entries:
            return
        self.changed |= update_lock(
            self._policy.lock_path, self._header, self.entries, replace=self._replace
        )
        self.entries.clear()
        self._saved = time.monotonic()


def _key(row: Row, source: RowFile) -> str:
    # The bytes of an unreadable row may spell another row's record, whose hash they then have.
    content = row.row_hash if row.problem is None else f"unreadable:{row.row_hash}"
    return row_key(content, source.layouts.name, source.layouts.columns)


def _jobs(source: RowFile, left: set[str]) -> Iterator[list[tuple[Row, str]]]:
    """Rows whose key is in `left`, which loses it, in jobs of bounded size."""
    job: list[tuple[Row, str]] = []
    size = 0
    for row in source:
        if not left:
            break
        key = _key(row, source)
        if key in left:
            left.discard(key)
            job.append((row, key))
            size += len(row.raw or b"")
        if len(job) == _JOB_ROWS or size > _JOB_BYTES:
            yield job
            job, size = [], 0
    if job:
        yield job


def _agree(locked: Entry, entry: Entry, tolerance: float, threshold: float) -> bool:
    if locked.score is None or entry.score is None:
        return (locked.score is None) == (entry.score is None)
    scale = max(abs(locked.score), abs(entry.score), abs(threshold))
    return abs(locked.score - entry.score) <= tolerance * scale
