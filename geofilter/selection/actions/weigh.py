"""Weigh rows: the loss of a row is multiplied by a number that falls with its rank."""

import os

import numpy as np
from numpy.typing import NDArray

from geofilter.data.rows import RowFile
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions.base import Action, Done, Job, whole
from geofilter.selection.choose import Selection
from geofilter.selection.loss_note import RowLoss
from geofilter.selection.write import check_match, write_losses

Floats = NDArray[np.float32]


def weights(scores: "np.ma.MaskedArray[tuple[int], np.dtype[np.floating]]", k: int) -> Floats:
    """A weight in [0, 1] for each row, (rows,); 1 for a row without a score.

    It rises with the rank in a straight line whose middle is the cut after the k rows nearest
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
    check_match(rows, table)
    scores = table.scores
    dropped = np.setdiff1d(selection.drop, selection.unscored)
    found = weights(scores, len(dropped))
    losses = (RowLoss(weight=round(float(weight), 6)) for weight in found)
    write_losses(rows, table, path, losses, overwrite=overwrite)
    return found


def _weigh(job: Job) -> Done:
    found = write_weighted(job.rows, job.table, job.selection, job.output, overwrite=job.overwrite)
    taken = round(float((1 - found).sum()), 3)
    line = f"{taken:,} rows' weight was taken away."
    return whole(job, "weight", {"weight_taken": taken}, line, loss=True)


WEIGH = Action(about="the loss falls with the rank", act=_weigh, counts=True)
