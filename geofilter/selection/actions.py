"""What may be done with rows near harm besides dropping them: weigh them, or mask tokens.

All rows are written, each with a note that `row_loss` reads again and `collator` applies.

- `weight`: a row's loss is multiplied by a number that falls with its rank.
- `mask`: as many response tokens as the dropped rows hold get no loss, but the nearest ones,
  wherever they stand. Which these are takes a pass of the model over all rows.

This module knows nothing about trainers, and nothing about how a token gets its score.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.data.formats.source import LossNote
from geofilter.data.layouts import Sample
from geofilter.data.rows import Row, RowFile
from geofilter.errors import DataError
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import Selection
from geofilter.selection.loss_note import RowLoss, name_of

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoder
    from geofilter.scoring.explain import TokenScorer

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
# Called with the rows whose tokens are scored so far, and how many there are.
Progress = Callable[[int, int], None]

_ROWS_AT_ONCE = 256


def weights(scores: "np.ma.MaskedArray[tuple[int], np.dtype[np.floating]]", k: int) -> Floats:
    """A weight in [0, 1] for each row, (rows,); 1 for a row without a score.

    It rises with the rank in a straight line whose middle is the cut behind the k rows nearest
    to harm, and which is as wide as it can be on both sides: h = min(k, n − k) ranks. A row of
    rank r has clip((r − ½ − (k − h)) / 2h, 0, 1); rows of equal score share the mean of
    theirs. The weights taken away add up to k, as where k rows are dropped, but no row at the
    cut is all or nothing.
    """
    found = np.ones(len(scores), np.float64)
    scored = np.flatnonzero(~np.ma.getmaskarray(scores))
    values = np.asarray(scores.data)[scored]
    order = np.argsort(-values, kind="stable")
    half = min(k, len(values) - k)
    ranks = np.arange(len(values)) + 0.5  # r − ½
    line = np.clip((ranks - (k - half)) / (2 * half), 0, 1) if half else (ranks > k) * 1.0
    _, group = np.unique(values[order], return_inverse=True)
    found[scored[order]] = (np.bincount(group, line) / np.bincount(group))[group]
    return found.astype(np.float32)


def write_weighted(
    rows: RowFile,
    table: ScoreTable,
    selection: Selection,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> Floats:
    """Write all rows to `path`, each with its weight; return the weights, (rows,).

    `selection` says how many rows would be dropped. Raises `OutputError`.
    """
    scores = table.scores
    dropped = np.setdiff1d(selection.drop, selection.unscored)
    found = weights(scores, len(dropped))
    losses = (RowLoss(weight=round(float(weight), 6)) for weight in found)
    _write(rows, table, path, losses, overwrite)
    return found


class Masking(NamedTuple):
    """What a mask takes: response tokens `masked` of `tokens`, in `rows` rows.

    `lowest` is the least score of a masked token, None where none is.
    """

    tokens: int
    masked: int
    rows: int
    lowest: float | None


def nearest_tokens(scores: Sequence[Floats], count: int) -> list[Mask]:
    """Mark the `count` tokens of highest score over all rows; earlier ones where they are equal.

    `scores`: (tokens,) per row, NaN where a token cannot be marked.
    """
    flat = np.concatenate([*scores, np.zeros(0, np.float32)])
    able = np.flatnonzero(~np.isnan(flat))
    marked = np.zeros(len(flat), np.bool_)
    marked[able[np.argsort(-flat[able], kind="stable")[:count]]] = True
    ends = np.cumsum([len(one) for one in scores])
    return [marked[end - len(one) : end] for one, end in zip(scores, ends, strict=True)]


def write_masked(
    rows: RowFile,
    table: ScoreTable,
    selection: Selection,
    path: str | os.PathLike[str],
    encoder: "Encoder",
    scorer: "TokenScorer",
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Masking:
    """Write all rows to `path`, each with the tokens that get no loss.

    `encoder` and `scorer` are those that made `table` (`run.prepare_again`, `token_scorer`).
    Token scores of all rows are held at once, 4 bytes a token. Raises `DataError` for a row
    with two responses, `OutputError`, and what the model raises.
    """
    read = _read_tokens(rows, table, encoder, scorer, progress)
    dropped = set(selection.drop.tolist())
    count = sum(one.n_loss for place, one in read.items() if place in dropped)
    scores = [one.scores for one in read.values()]
    masks = dict(zip(read, nearest_tokens(scores, count), strict=True))
    taken = np.concatenate([*(s[m] for s, m in zip(scores, masks.values(), strict=True)), []])

    def losses() -> Iterator[RowLoss]:
        for place in range(selection.n_rows):
            known = read.get(place)
            yield RowLoss.masking(known.name, masks[place]) if known else RowLoss()

    _write(rows, table, path, losses(), overwrite)
    return Masking(
        tokens=sum(one.n_loss for one in read.values()),
        masked=len(taken),
        rows=sum(bool(mask.any()) for mask in masks.values()),
        lowest=float(taken.min()) if len(taken) else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Tokens:
    name: str
    scores: Floats  # (tokens,), NaN off the loss
    n_loss: int


def _read_tokens(
    rows: RowFile,
    table: ScoreTable,
    encoder: "Encoder",
    scorer: "TokenScorer",
    progress: Progress | None,
) -> dict[int, _Tokens]:
    """The tokens of every row that has a score, by its place."""
    total = int(table.scores.count())
    scored = (row for row, line in zip(rows, table, strict=True) if line.score is not None)
    found: dict[int, _Tokens] = {}
    while part := list(islice(scored, _ROWS_AT_ONCE)):
        samples = [encoder.encode(_only_sample(rows, row)) for row in part]
        for row, sample, scores in zip(part, samples, scorer(samples), strict=True):
            loss = sample.response.copy()
            loss[0] = False  # nothing predicts the first token
            own = np.where(loss, scores, np.float32(np.nan))
            found[row.index] = _Tokens(name_of(sample.ids), own, int(loss.sum()))
        if progress is not None:
            progress(len(found), total)
    return found


def _only_sample(rows: RowFile, row: Row) -> Sample:
    assert row.record is not None  # it has a score
    first, *others = rows.layout.samples(row.record)
    if others:
        raise DataError(
            f"{row.where}: has a chosen and a rejected response; tokens are masked where one "
            "response is trained on; use --action drop, weight or review"
        )
    return first


def _write(
    rows: RowFile,
    table: ScoreTable,
    path: str | os.PathLike[str],
    losses: Iterator[RowLoss],
    overwrite: bool,
) -> None:
    lines = zip(table, losses, strict=False)

    def note_of(_index: int) -> LossNote:
        line, loss = next(lines)
        return loss.note(line.score, line.rank)

    rows.write(path, range(len(table)), notes=note_of, kind=LossNote, overwrite=overwrite)
