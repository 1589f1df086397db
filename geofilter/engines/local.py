"""Score a file of rows on this machine: rows in, a finished score table out.

Rows pass in windows of one part each; a part's samples are encoded, scored in
batches of like length, and put back in input order. Memory does not grow with
the file, and no line depends on where an earlier run was killed: parts are cut
by row number, and batches are formed inside one part.

This module knows nothing about formats, layouts, tokenizers, models or scorers,
other than what it calls.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from geofilter import atomic
from geofilter.engines.parts import PartsFolder, refuse_other, remove_leftover_parts
from geofilter.engines.seen import SeenRows
from geofilter.errors import DataError, TableError
from geofilter.layouts import Problem, Unscorable
from geofilter.manifest import Manifest
from geofilter.table import (
    MODEL_UNSCORED,
    SCORED,
    FeatureShare,
    ScoreRow,
    ScoreTable,
    from_arrow,
)
from geofilter.terminal import escape

if TYPE_CHECKING:  # Reading a table back must not load a model library.
    from geofilter.conversation import Encoded, Encoder
    from geofilter.rows import Row, RowFile
    from geofilter.scoring import SampleScore

Scorer = Callable[[Sequence["Encoded"]], list["SampleScore | Problem"]]
Progress = Callable[[Literal["check", "score"], int], None]
OnError = Literal["stop", "keep"]


def make_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Places of `lengths` in batches of like length, longest first.

    A batch of n samples, padded to its longest, holds at most `batch_tokens`
    tokens, or one sample that is longer than that. Every place occurs once; equal
    lengths keep their order.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        batch = batches[-1] if batches else []
        if batch and lengths[batch[0]] * (len(batch) + 1) <= batch_tokens:
            batch.append(place)
        else:
            batches.append([place])
    return batches


def check_rows(rows: "RowFile", encoder: "Encoder", *, progress: Progress | None = None) -> None:
    """Look at every row, without any model.

    Raises `DataError` at the first row that cannot be scored: where, what is
    wrong with which value, and what to do.
    """
    for row in rows:
        for _, problem in _encode(row, rows, encoder):
            if problem is not None:
                raise DataError(
                    f"{escape(row.where, limit=200)}: {problem.status}: "
                    f"{escape(problem.reason, limit=300)}; "
                    "repair it, or keep such rows unscored with --on-error keep"
                )
        if progress is not None and (row.index + 1) % 1000 == 0:
            progress("check", row.index + 1)


def score_file(
    rows: "RowFile",
    encoder: "Encoder",
    scorer: Scorer,
    out: str | os.PathLike[str],
    manifest: Manifest,
    *,
    on_error: OnError = "stop",
    restart: bool = False,
    part_rows: int = 512,
    batch_tokens: int = 16384,
    progress: Progress | None = None,
) -> ScoreTable:
    """Score every row of `rows` with `scorer` into a table at `out`, and return it.

    A run that was killed or interrupted continues from its whole parts, which
    stand in the folder `<out>.parts`; a table that is complete is returned as it
    is. `restart` throws both away first. `manifest` must name everything that
    decides the scores. `part_rows` is what an interruption may cost, and
    `batch_tokens` bounds a padded batch; neither decides a score.

    `on_error="stop"` looks at all rows before any scoring and raises `DataError`
    at the first that cannot be scored; `"keep"` keeps such rows unscored, with
    the reason. A row that only the model finds unscorable, such as one whose
    activations are not finite, is kept unscored in both: by then much is done, and
    the row itself may be sound. Identical rows are
    scored once. A chosen/rejected row is scored if its chosen side is.

    `progress(phase, n)` is called now and then, n = rows done in this phase.

    Raises `DataError`; `TableError` when a table or parts at `out` are damaged,
    in use, or made by another run; `OutputError` when nothing can be written
    there. `KeyboardInterrupt` passes through, and the whole parts stay.
    """
    out = Path(out)
    finished = _existing(out, manifest, restart)
    if finished is not None and not restart:
        if on_error == "stop" and _holds_bad_rows(finished):
            check_rows(rows, encoder, progress=progress)
        remove_leftover_parts(out, manifest)
        return finished
    atomic.check_output(out, overwrite=restart)
    with PartsFolder(out, manifest, part_rows=part_rows, restart=restart) as parts:
        checked = on_error == "stop" and not (parts.checked and not restart)
        if checked:
            check_rows(rows, encoder, progress=progress)
        parts.begin()
        if checked:
            parts.mark_checked()
        if finished is not None:
            out.unlink()
        run = _Run(rows, encoder, scorer, batch_tokens, progress)
        with SeenRows(parts.path / "seen.sqlite") as seen:
            run.all_parts(parts, seen)
        return parts.finish()


def _existing(out: Path, manifest: Manifest, restart: bool) -> ScoreTable | None:
    """The table at `out`, if any; raises `TableError` when it may not be taken over.

    Even `restart` replaces nothing but a score table: the file may be the data.
    """
    if not os.path.lexists(out):
        return None
    try:
        table = ScoreTable.read(out)
    except TableError as error:
        raise TableError(
            f"{str(error).rpartition(';')[0]}; remove it or choose another output with -o"
        ) from error
    if not restart:
        refuse_other(escape(str(out), limit=200), table.manifest, manifest)
    return table


def _holds_bad_rows(table: ScoreTable) -> bool:
    statuses = set(table.column("status").tolist())
    return not statuses <= SCORED | MODEL_UNSCORED


_Side = tuple["Encoded | None", "Problem | None"]


def _encode(row: "Row", rows: "RowFile", encoder: "Encoder") -> list[_Side]:
    """The sides of a row, encoded, or the problem of each; the row's own side first."""
    if row.problem is not None or row.record is None:
        return [(None, row.problem or Problem("unreadable", "the row holds no record"))]
    try:
        samples = rows.layout.samples(row.record)
    except Unscorable as unscorable:
        return [(None, unscorable.problem)]
    sides: list[_Side] = []
    for sample in samples:
        try:
            sides.append((encoder.encode(sample), None))
        except Unscorable as unscorable:
            sides.append((None, unscorable.problem))
    return sides


@dataclasses.dataclass(slots=True)
class _Pending:
    """A row of the window whose sides wait for their scores."""

    row: int
    row_hash: str
    sides: list[_Side]
    results: "list[SampleScore | Problem]"


class _Run:
    """One run over the file: what all parts share."""

    def __init__(
        self,
        rows: "RowFile",
        encoder: "Encoder",
        scorer: Scorer,
        batch_tokens: int,
        progress: Progress | None,
    ) -> None:
        self._rows = rows
        self._encoder = encoder
        self._scorer = scorer
        self._batch_tokens = batch_tokens
        self._progress = progress

    def all_parts(self, parts: PartsFolder, seen: SeenRows) -> None:
        """Make every part that is not whole, in order."""
        left = parts.whole
        for number, window in enumerate(_windows(self._rows, parts.part_rows)):
            n_lines = left.pop(number, None)
            if n_lines is None:
                lines = self._part(parts.first_row(number), window, seen)
                parts.write(number, lines)
                n_lines = len(lines)
            elif n_lines == sum(1 for _ in window):
                lines = list(from_arrow(parts.read(number)))
            else:
                raise self._changed()
            seen.add(lines)
            self._report(parts.first_row(number) + n_lines)
        if left:
            raise self._changed()

    def _changed(self) -> DataError:
        return DataError(
            f"{escape(self._rows.source, limit=200)}: has changed since its parts were scored; "
            "score it anew with --restart"
        )

    def _report(self, n_rows: int) -> None:
        if self._progress is not None:
            self._progress("score", n_rows)

    def _part(self, first_row: int, window: "Iterator[Row]", seen: SeenRows) -> list[ScoreRow]:
        """The lines of a window, in order.

        Only encodings are held for all of the window: rows may be megabytes long.
        """
        lines: dict[int, ScoreRow] = {}
        pending: dict[str, _Pending] = {}
        copies: list[tuple[int, str]] = []
        for row in window:
            row_hash = row.row_hash
            if row.problem is not None:
                # Its hash is of bytes, not of a record: it could be that of another
                # row's record, and must not stand for it.
                broken = _Pending(row.index, row_hash, [(None, row.problem)], [row.problem])
                lines[row.index] = _line(broken)
            elif row_hash in pending:
                copies.append((row.index, row_hash))
            elif (known := seen.find(row.index, row_hash)) is not None:
                lines[row.index] = known
            else:
                sides = _encode(row, self._rows, self._encoder)
                pending[row_hash] = _Pending(row.index, row_hash, sides, [])
        self._score(list(pending.values()), first_row + len(lines) + len(copies))
        fresh = {row_hash: _line(entry) for row_hash, entry in pending.items()}
        lines.update((line.row, line) for line in fresh.values())
        lines.update((row, dataclasses.replace(fresh[same], row=row)) for row, same in copies)
        return [lines[row] for row in sorted(lines)]

    def _score(self, pending: list[_Pending], n_done: int) -> None:
        """Fill in the results of every side, in batches over all of them."""
        waiting: list[tuple[_Pending, int, Encoded]] = []
        for entry in pending:
            entry.results = [problem or _NO_RESULT for _, problem in entry.sides]
            for side, (encoded, _) in enumerate(entry.sides):
                if encoded is not None:
                    waiting.append((entry, side, encoded))
        lengths = [len(encoded.ids) for _, _, encoded in waiting]
        n_batched = 0
        for batch in make_batches(lengths, self._batch_tokens):
            results = self._scorer([waiting[place][2] for place in batch])
            if len(results) != len(batch):
                raise ValueError(f"the scorer gave {len(results)} scores for {len(batch)} samples")
            for place, result in zip(batch, results, strict=True):
                entry, side, _ = waiting[place]
                entry.results[side] = _finite(result)
            n_batched += len(batch)
            self._report(n_done + n_batched * len(pending) // len(waiting))


def _windows(rows: "Iterable[Row]", size: int) -> "Iterator[Iterator[Row]]":
    """Consecutive windows of `size` rows; each must be used up before the next."""
    stream = iter(rows)
    for first in stream:
        yield _chain(first, islice(stream, size - 1))


def _chain(first: "Row", rest: "Iterator[Row]") -> "Iterator[Row]":
    yield first
    yield from rest


_LARGEST = float(np.finfo(np.float32).max)
_NO_RESULT = Problem("not_finite", "the scorer was not asked")


def _finite(result: "SampleScore | Problem") -> "SampleScore | Problem":
    """The result, or a problem in place of a score that float32 cannot hold as a number."""
    if not isinstance(result, Problem) and not _is_finite(result.score):
        return Problem("not_finite", f"the score is {result.score}")
    return result


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _LARGEST


def _number(value: float | None) -> float | None:
    """The value as the table's float32 holds it, so that a copy equals its original."""
    if value is None or not _is_finite(value):
        return None
    return float(np.float32(value))


def _window_note(encoded: "Encoded") -> str:
    return f"scored on {len(encoded.ids)} of its {encoded.total_tokens} tokens"


def _reasons(entry: _Pending) -> list[str]:
    """What there is to say about a row, the rejected side's after the row's own."""
    reasons = []
    names = ("", "rejected: ") if len(entry.sides) > 1 else ("",)
    for name, (encoded, _), result in zip(names, entry.sides, entry.results, strict=True):
        if isinstance(result, Problem):
            reasons.append(f"{name}{result.status}: {result.reason}" if name else result.reason)
        elif encoded is not None and encoded.truncated:
            reasons.append(name + _window_note(encoded))
    return reasons


def _line(entry: _Pending) -> ScoreRow:
    """The line of a row whose sides all have their results."""
    (encoded, _), result = entry.sides[0], entry.results[0]
    other = entry.results[1] if len(entry.results) > 1 else None
    reason = escape("; ".join(_reasons(entry)), limit=500) or None
    rejected = None if other is None or isinstance(other, Problem) else _number(other.score)
    unknown = None if encoded is None else _number(encoded.unknown_share)
    if isinstance(result, Problem):
        return ScoreRow(
            row=entry.row,
            row_hash=entry.row_hash,
            score=None,
            status=result.status,
            reason=reason,
            n_tokens=0 if encoded is None else int(encoded.pooled.sum()),
            rejected_score=rejected,
            unknown_share=unknown,
        )
    truncated = any(
        side is not None and side.truncated and not isinstance(scored, Problem)
        for (side, _), scored in zip(entry.sides, entry.results, strict=True)
    )
    return ScoreRow(
        row=entry.row,
        row_hash=entry.row_hash,
        score=_number(result.score),
        status="truncated" if truncated else "scored",
        reason=reason,
        n_tokens=result.n_tokens,
        nearest_feature=result.nearest_feature,
        nearest_similarity=_number(result.nearest_similarity),
        top_features=tuple(
            FeatureShare(top.feature, _required(top.weight), _required(top.proximity))
            for top in result.top_features
        ),
        rejected_score=rejected,
        unknown_share=unknown,
        explained_variance=_number(result.explained_variance),
    )


def _required(value: float) -> float:
    return float(np.float32(value))
