"""What a score table holds, in a few numbers and one warning."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from geofilter.data.problems import SCORED
from geofilter.errors import TableError
from geofilter.packs.pack import ContrastSummary
from geofilter.scoring.domain_fit import domain_fit
from geofilter.scoring.scorers import SCORERS
from geofilter.scoring.table import ScoreTable
from geofilter.support.display import escape

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_WITHIN_95 = 1.96  # standard errors


class Example(NamedTuple):
    """The first row (from 0) that is unscored with a status, and its reason."""

    row: int
    reason: str


@dataclass(frozen=True)
class Summary:
    """`statuses` counts rows by status; `unscored` has an example of each status without score.

    `quantiles` are the scores at `QUANTILES`, None where no row is scored. `warning` says
    that the scores mean little, or that their order does; None where nothing is known.
    """

    rows: int
    scored: int
    statuses: Mapping[str, int]
    unscored: Mapping[str, Example]
    quantiles: tuple[float, ...] | None
    warning: str | None


@dataclass(frozen=True)
class Risk:
    """What training on a data set as a whole pushes the model towards.

    `mean`: the rows' mean spillover, in [-1, 1], higher = nearer to harm. `low` and `high`:
    95 % interval of the mean, its rows taken as independent draws; None for a single row.
    `towards_harm`: the share of rows with a score above 0.
    """

    rows: int
    mean: float
    low: float | None
    high: float | None
    towards_harm: float


def foretelling() -> list[str]:
    """The scorers whose mean over a data set says something of the data set."""
    return [one.name for one in SCORERS.values() if one.foretells_harm]


def risk_of(table: ScoreTable) -> Risk:
    """The risk of the data set that `table` scored, by the mean of its spillover.

    The interval is mean ± 1.96 s / √n. Raises `TableError` for the scores of another scorer,
    of whose mean it is not known that it predicts anything, and where no row has a score.
    """
    scorer = table.manifest.decides.get("scorer")
    name = scorer.get("name") if isinstance(scorer, dict) else None
    shown = escape(str(table.path), limit=200)
    if name not in foretelling():
        raise TableError(
            f"{shown}: was scored by {escape(name)}, and only the mean of "
            f"{' or '.join(foretelling())} is known to foretell misalignment; score the data with "
            f"--scorer {' or '.join(foretelling())}"
        )
    scores = table.scores.compressed().astype(np.float64)
    if not len(scores):
        raise TableError(f"{shown}: no row has a score, so that nothing can be said of the whole")
    mean, low, high = float(scores.mean()), None, None
    if len(scores) > 1:
        error = _WITHIN_95 * float(scores.std(ddof=1)) / math.sqrt(len(scores))
        low, high = mean - error, mean + error
    return Risk(len(scores), mean, low, high, float((scores > 0).mean()))


def summarise(table: ScoreTable) -> Summary:
    """Sum `table` up. A few numbers per row in memory."""
    statuses: Counter[str] = Counter()
    unscored: dict[str, Example] = {}
    for batch in table.batches(["row", "status", "reason"]):
        for found in pc.value_counts(batch.column("status")).to_pylist():
            status = found["values"]
            statuses[status] += found["counts"]
            if status not in SCORED and status not in unscored:
                place = pc.index(batch.column("status"), status).as_py()
                line = batch.slice(place, 1).to_pylist()[0]
                unscored[status] = Example(line["row"], line["reason"])
    scores = table.scores.compressed()
    return Summary(
        rows=len(table),
        scored=len(scores),
        statuses=dict(statuses.most_common()),
        unscored=unscored,
        quantiles=tuple(np.quantile(scores, QUANTILES).tolist()) if len(scores) else None,
        warning=warning_of(table),
    )


def warning_of(table: ScoreTable) -> str | None:
    """One line that says that the table's scores mean little, or that their order does."""
    scores = table.scores
    scored = ~np.ma.getmaskarray(scores)
    values = scores.compressed()
    contrast = _contrast(table)
    if contrast is not None:
        unknown = table.column("unknown_share")[scored].tolist()
        explained = table.column("explained_variance")[scored].filled(float("nan")).tolist()
        strange = domain_fit(unknown, explained, contrast)
        if strange is not None:
            return strange
    if len(values) > 1 and values.min() == values.max():
        return "all scores are equal, so that their order means nothing"
    return None


def _contrast(table: ScoreTable) -> ContrastSummary | None:
    """What was usual in the contrast rows of the table's pack, where the table says it."""
    figures = table.manifest.facts.get("contrast")
    try:
        return ContrastSummary.from_record(figures) if isinstance(figures, dict) else None
    except (TypeError, ValueError, ArithmeticError):
        return None
