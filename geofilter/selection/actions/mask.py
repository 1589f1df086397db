"""Mask tokens: as many response tokens as the rows chosen hold get no loss, the nearest of all.

Where they stand does not matter. Which they are takes a pass of the model over all rows.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from geofilter.data.rows import Row, RowFile
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions.base import Action, Done, Job, TokenModel, whole
from geofilter.selection.choose import Selection
from geofilter.selection.loss_note import RowLoss, name_of
from geofilter.selection.write import check_match, write_losses
from geofilter.support.progress import Progress, no_progress

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

_ROWS_AT_ONCE = 256


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
    model: TokenModel,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Masking:
    """Write all rows to `path`, each with the tokens that get no loss.

    `model` is the one that made `table`. Token scores of all rows are held at once, 4 bytes a
    token. Raises `DataError` for a row with two responses, `OutputError`, and what the model
    raises.
    """
    check_match(rows, table)
    read = _read_tokens(rows, table, model, progress)
    dropped = set(selection.drop.tolist())
    count = sum(one.n_loss for place, one in read.items() if place in dropped)
    scores = [one.scores for one in read.values()]
    masks = dict(zip(read, nearest_tokens(scores, count), strict=True))
    taken = np.concatenate([*(s[m] for s, m in zip(scores, masks.values(), strict=True)), []])

    def losses() -> Iterator[RowLoss]:
        for place in range(selection.n_rows):
            known = read.get(place)
            yield RowLoss.masking(known.name, masks[place]) if known else RowLoss()

    write_losses(rows, table, path, losses(), overwrite=overwrite)
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
    model: TokenModel,
    progress: Progress,
) -> dict[int, _Tokens]:
    """The tokens of every row that has a score, by its place."""
    total = int(table.scores.count())
    scores = (score for (score,) in table.records(["score"]))
    scored = (row for row, score in zip(rows, scores, strict=True) if score is not None)
    found: dict[int, _Tokens] = {}
    while part := list(islice(scored, _ROWS_AT_ONCE)):
        samples = [model.encoder.encode(_only_sample(rows, row)) for row in part]
        for row, sample, tokens in zip(part, samples, model.scorer(samples), strict=True):
            loss = sample.response.copy()
            loss[0] = False  # nothing predicts the first token
            own = np.where(loss, tokens, np.float32(np.nan))
            found[row.index] = _Tokens(name_of(sample.ids), own, int(loss.sum()))
        progress("tokens of rows", len(found), total)
    return found


def _only_sample(rows: RowFile, row: Row) -> Sample:
    assert row.record is not None  # it has a score
    first, *others = rows.layouts.samples(row.record)
    if others:
        raise DataError(
            f"{row.where}: has a chosen and a rejected response; tokens are masked where one "
            "response is trained on; use another --action, such as switch or drop"
        )
    return first


def _mask(job: Job) -> Done:
    done = write_masked(
        job.rows,
        job.table,
        job.selection,
        job.output,
        job.load(),
        overwrite=job.overwrite,
        progress=job.progress,
    )
    figures: dict[str, object] = {
        "tokens": done.tokens,
        "masked_tokens": done.masked,
        "masked_rows": done.rows,
        "lowest_masked": done.lowest,
    }
    line = f"{done.masked:,} of {done.tokens:,} response tokens get no loss, in {done.rows:,} rows."
    return whole(job, "mask", figures, line, loss=True)


MASK = Action(
    about="as many response tokens as they hold, the nearest of all rows, get no loss; this "
    "runs the model",
    act=_mask,
    counts=True,
)
