"""Replace responses: those chosen are written by a model, and stay only if they score lower.

By default the model that is to be trained writes them, before its training: what it would say by
itself teaches it least. A row for which it says nothing that scores low enough is dropped.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from geofilter.data.formats.source import Changes
from geofilter.data.formats.standard_output import output_in_words
from geofilter.data.last_response import asked_for, only_sample, with_response
from geofilter.data.problems import CannotChange
from geofilter.data.rows import Row
from geofilter.errors import DataError, OutputError
from geofilter.selection.actions.base import Action, Done, Job
from geofilter.selection.replacing import Candidate, Outcome, ReplyLog, Scored, replace_all
from geofilter.selection.write import matched, notes_of
from geofilter.support.display import escape, shown
from geofilter.support.locking import locked

# Rows of a dry run, and characters of a text that it shows.
SHOWN = 10
# What a score does not say of a response.
_NO_JUDGE = "a lower score does not say that a response is right or well written: read some of them"
_LONG = 400


@dataclass
class _Chosen:
    """The rows chosen, by what may become of them.

    `rows` by their hash: rows of one content get one response. `left` cannot take another: the
    reason, by row. `unscored` rows were chosen for that.
    """

    rows: dict[str, list[Row]]
    candidates: list[Candidate]
    left: dict[int, str]
    where: str  # the first of those left
    unscored: int


def _replace(job: Job) -> Done:
    asked = job.replacing
    assert asked is not None
    chosen = _look(job)
    if chosen.left and not chosen.candidates:
        raise DataError(
            f"{chosen.where}: {next(iter(chosen.left.values()))}; none of the "
            f"{len(chosen.left):,} rows chosen can get another response, so take another action, "
            "such as --action drop"
        )
    if asked.dry_run:
        chosen.candidates = _spread(chosen.candidates)
    first = {rows[0].index: rows for rows in chosen.rows.values()}
    outcomes: dict[int, Outcome] = {}
    place = None if asked.dry_run else Path(f"{os.fspath(job.output)}.replies")
    if chosen.candidates:
        with ExitStack() as held:
            if place is not None:
                place.touch()
                in_use = OutputError(f"{shown(place)}: another process adds replies; wait for it")
                held.enter_context(locked(place, in_use=in_use))

            def score(texts: Sequence[tuple[int, str]]) -> list[Scored]:
                return asked.score([_changed(job, first[row][0], text) for row, text in texts])

            outcomes = replace_all(
                chosen.candidates,
                ReplyLog(place, asked.made),
                asked.writer,
                score,
                below=_bound(job),
                attempts=asked.attempts,
                progress=job.progress,
            )
    if asked.dry_run:
        return _show(job, chosen, outcomes, first)
    every = {row.index: outcomes[place] for place, rows in first.items() for row in rows}
    _write(job, chosen, every)
    return _done(job, chosen, every, place)


def _bound(job: Job) -> float:
    """What a response has to score below: what every row scored that was chosen or more."""
    cut = job.selection.threshold
    if cut is not None:
        return cut
    scores = job.table.scores
    chosen = set(job.selection.drop.tolist()) - set(job.selection.unscored.tolist())
    return min((float(scores[row]) for row in chosen), default=0.0)


def _look(job: Job) -> _Chosen:
    """What may become of each of the rows chosen. Raises `TableError` for another table."""
    wanted = set(job.selection.drop.tolist())
    unscored = wanted & set(job.selection.unscored.tolist())
    found = _Chosen({}, [], {}, "", len(unscored))
    for row in matched(job.rows, job.table):
        if row.index not in wanted or row.index in unscored:
            continue
        assert row.record is not None  # it has a score
        same = found.rows.get(row.row_hash)
        if same is not None:
            same.append(row)
            continue
        try:
            sample = only_sample(job.rows.layouts, row.record)
            turns = asked_for(sample)
            with_response(job.rows.layouts, row.record, "so")  # whether there is a place for it
        except CannotChange as error:
            found.where = found.where or row.where
            found.left[row.index] = error.reason
            continue
        found.rows[row.row_hash] = [row]
        found.candidates.append(Candidate(row.index, turns, sample.turns[-1].content))
    return found


def _changed(job: Job, row: Row, text: str) -> Row:
    assert row.record is not None
    record = {**row.record, **with_response(job.rows.layouts, row.record, text)}
    return replace(row, raw=None, record=record, _digest=None)


def _spread(candidates: list[Candidate]) -> list[Candidate]:
    """Some candidates from all over the file."""
    count = min(SHOWN, len(candidates))
    return [candidates[place * len(candidates) // count] for place in range(count)]


def _write(job: Job, chosen: _Chosen, every: Mapping[int, Outcome]) -> None:
    """The dropped rows first: a kept file without them would look like finished work."""
    rows, selection, overwrite = job.rows, job.selection, job.overwrite
    if job.second is not None:

        def reason(row: int) -> str | None:
            if row in every:
                return every[row].reason
            left = chosen.left.get(row)
            return left and f"cannot get another response: {left}"

        notes = notes_of(job.table, selection, reason)
        rows.write(job.second, selection.drop.tolist(), notes=notes, overwrite=overwrite)
    taken = {row for row, outcome in every.items() if outcome.taken}
    texts = {
        row_hash: every[same[0].index].text or ""
        for row_hash, same in chosen.rows.items()
        if same[0].index in taken
    }

    def change(record: dict[str, object]) -> dict[str, object]:
        text = texts[Row(0, "", None, record, None).row_hash]
        return with_response(rows.layouts, record, text)

    kept = sorted({*selection.keep.tolist(), *taken})
    rows.write(job.output, kept, changes=Changes(taken, change, {}), overwrite=overwrite)


def _done(job: Job, chosen: _Chosen, every: Mapping[int, Outcome], place: Path | None) -> Done:
    selection, asked = job.selection, job.replacing
    assert asked is not None
    taken = sum(outcome.taken for outcome in every.values())
    worse = len(every) - taken
    kept = len(selection.keep) + taken
    second = job.second and os.fspath(job.second)
    bound, dropped = _bound(job), selection.n_rows - kept
    figures: dict[str, object] = {
        "action": "replace",
        "rows": selection.n_rows,
        "kept": kept,
        "replaced": taken,
        "dropped": dropped,
        "none_taken": worse,
        "left": len(chosen.left),
        "unscored": len(selection.unscored),
        "unscored_dropped": chosen.unscored,
        "threshold": selection.threshold,
        "below": bound,
        "attempts": asked.attempts,
        "written_by": asked.writer.name,
        "output_file": os.fspath(job.output),
        "dropped_file": second,
        "replies_file": place and os.fspath(place),
    }
    by = escape(asked.writer.name, limit=200)
    reasons = [
        f"{worse:,} for which no reply of {asked.attempts} was taken" if worse else "",
        f"{len(chosen.left):,} that cannot get another response" if chosen.left else "",
        f"{chosen.unscored:,} without a score" if chosen.unscored else "",
    ]
    why = "; ".join(filter(None, reasons))
    lines = [
        f"{kept:,} of {selection.n_rows:,} rows → {output_in_words(job.output)}",
        f"{taken:,} of them have another response, by {by}, that scores below {bound:.6g}.",
        f"{dropped:,} rows dropped{f': {why}' if why else ''}.",
    ]
    if second:
        lines.append(f"The {len(selection.drop):,} rows as they were → {escape(second, None)}")
    notes = [_NO_JUDGE] if taken else []
    if chosen.left:
        notes.append(
            f"warning: {len(chosen.left):,} of the rows chosen cannot get another response and are "
            f"dropped, the first of them {chosen.where}: {next(iter(chosen.left.values()))}"
        )
    if place is not None and chosen.candidates:
        notes.append(f"what was replied, with its scores, stays in {shown(place)}")
    return Done(figures, lines, notes)


def _show(
    job: Job,
    chosen: _Chosen,
    outcomes: Mapping[int, Outcome],
    first: Mapping[int, Sequence[Row]],
) -> Done:
    """What would become of some rows."""
    scores, found, lines = job.table.scores, [], []
    for one in chosen.candidates:
        outcome, row = outcomes[one.row], first[one.row][0]
        old = float(scores[one.row])
        found.append(
            {
                "row": one.row,
                "where": row.where,
                "asked": one.turns[-1].content,
                "old": one.old,
                "old_score": old,
                "new": outcome.text,
                "new_score": outcome.score,
                "taken": outcome.taken,
                "reason": outcome.reason,
            }
        )
        new = "-" if outcome.score is None else f"{outcome.score:.4g}"
        lines += [
            f"{escape(row.where, limit=200)}: {'taken' if outcome.taken else 'not taken'}",
            f"  asked          {escape(one.turns[-1].content, limit=_LONG)}",
            f"  old, {old:<9.4g} {escape(one.old, limit=_LONG)}",
            f"  new, {new:<9} {escape(outcome.text or '', limit=_LONG) or outcome.reason}",
        ]
    lines.append(
        f"These are {len(found):,} of the {len(job.selection.drop):,} rows chosen; nothing is "
        "written."
    )
    return Done({"action": "replace", "dry_run": True, "rows": found}, lines, [_NO_JUDGE])


REPLACE = Action(
    about="a model writes their response; where it scores no lower, they go",
    act=_replace,
    drops=True,
    replaces=True,
)
