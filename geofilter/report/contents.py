"""All that a report says, gathered: columns of the table, one pass over the rows, the facts."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Problem
from geofilter.data.reading import Reading
from geofilter.errors import PackError, TableError
from geofilter.model.catalogue import NO_SAE
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.report import numbers, row_texts
from geofilter.report.clusters import clusters
from geofilter.report.differences import Compared, compare
from geofilter.report.explained import explain_rows, strongest
from geofilter.report.places import named, without_folders
from geofilter.scoring.explanation import Explanation
from geofilter.scoring.scorers import BASELINE, SCORERS
from geofilter.scoring.summary import warning_of
from geofilter.scoring.table import ScoreRow, ScoreTable, from_arrow
from geofilter.selection.short import short_note
from geofilter.stats.auroc import Range
from geofilter.stats.correlation import spearman
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.runs.prepare import Run
    from geofilter.selection.choose import Selection

# Rows shown of each kind: nearest, at the cut, at random; and of those without a score.
_MOST_SHOWN = 100
# Rows nearest to harm that the page holds for a person to decide on.
_MOST_LISTED = 2000


@dataclass(frozen=True)
class Baseline:
    """The scores that another scorer gave the same rows, and how far the two agree."""

    name: str
    columns: numbers.Columns
    overlap: numbers.Overlap


@dataclass(frozen=True)
class Topic:
    """Rows that share words, the most typical first; `name` is those words, raw."""

    name: str
    rows: Sequence[int]


@dataclass(frozen=True)
class Contents:
    """What the page is made of.

    `why_no_tokens` says why no row is explained, `promise` what the choice of rows
    guarantees and under what condition. `reading`: what was read of all rows. `listed`: the
    rows whose texts are here, those `shown` among them. `compared`: features that set the data
    apart from a reference.
    """

    source: str
    table: ScoreTable
    columns: numbers.Columns
    choice: numbers.Choice
    shown: numbers.Shown
    listed: Sequence[int]
    lines: Mapping[int, ScoreRow]
    read: row_texts.Read
    reading: Reading
    explained: Mapping[int, Explanation | Problem]
    labels: Mapping[int, Sequence[str]]
    length: Range | None
    baseline: Baseline | None
    warning: str | None
    why_no_tokens: str | None
    promise: str | None
    compared: Compared | None = None

    @property
    def scorer(self) -> str:
        return scorer_of(self.table)

    @property
    def name(self) -> str:
        """The data's, without the folders of the machine that it lies on."""
        return named(self.source)

    @property
    def is_baseline(self) -> bool:
        """Whether the scores are those that others are compared with, and stand alone."""
        return self.baseline is None and self.scorer == BASELINE

    @cached_property
    def strongest(self) -> float:
        """The strength from which a token is marked as strongly as any, in every row."""
        return strongest(self.explained.values())

    @cached_property
    def set_apart(self) -> Sequence[int]:
        """The rows that would go and whose texts are here, nearest to harm first."""
        ranks = self.columns.ranks
        gone = [row for row in self.listed if self.choice.dropped[row]]
        return sorted(gone, key=lambda row: int(ranks[row]))

    @cached_property
    def topics(self) -> Sequence[Topic]:
        """What the rows that are set apart are about, the largest topic first."""
        rows = self.set_apart
        found = clusters([_answer(self.read.texts[row]) for row in rows])
        return [
            Topic(", ".join(one.terms), [rows[place] for place in one.members]) for one in found
        ]

    @property
    def short(self) -> str | None:
        """A warning where the rows that are set apart are very short more often than all."""
        columns = self.columns
        lengths, dropped = columns.n_tokens[columns.scored], self.choice.dropped[columns.scored]
        return short_note(lengths, dropped)

    @property
    def is_dense(self) -> bool:
        """Whether the table was made without an SAE: by one direction, and no features."""
        model = self.table.manifest.decides.get("model")
        return isinstance(model, dict) and model.get("sae") == NO_SAE

    @property
    def by_direction(self) -> bool:
        """Whether no SAE feature entered a score, even where the table names features."""
        known = SCORERS.get(self.scorer)
        return self.is_dense or (known is not None and not known.needs_sae)


def gather(
    rows: "RowFile",
    table: ScoreTable,
    *,
    chosen: "Selection | None" = None,
    by: Sequence[str] = (),
    baseline: ScoreTable | None = None,
    reference: ScoreTable | None = None,
    run: "Run | None" = None,
    explain: int = 0,
    why_no_tokens: str | None = None,
    promise: str | None = None,
    reading: Reading | None = None,
) -> Contents:
    """Gather the report of `rows` and their `table`; `run` explains `explain` of the rows.

    `rows` are those that `table` was made from. Raises `TableError` where there are not as
    many, for a `baseline` of other data and for a `reference` that was scored otherwise;
    `DataError` for a column of `by` that no row has.
    """
    columns = read_columns(table)
    choice = numbers.choice_of(chosen, columns)
    shown = numbers.shown(columns, choice, _MOST_SHOWN)
    listed = numbers.listed(columns, shown, _MOST_LISTED)
    read = row_texts.read(rows, listed, by)
    if read.n_rows != len(table):
        raise TableError(
            f"{escape(str(table.path), limit=200)}: has {len(table):,} lines, but "
            f"{escape(rows.source, limit=200)} has {read.n_rows:,} rows; score the data again"
        )
    scored = columns.scored
    compared = _compare(table, columns, choice, baseline) if baseline is not None else None
    explained: Mapping[int, Explanation | Problem] = {}
    if run is not None and explain:
        n_dropped = int(choice.dropped.sum())
        wanted = numbers.to_explain(shown, explain, columns.ranks, n_dropped)
        explained = explain_rows(rows, run, wanted)
    return Contents(
        source=rows.source,
        table=table,
        columns=columns,
        choice=choice,
        shown=shown,
        listed=listed,
        lines=_lines(table, listed),
        read=read,
        reading=reading or rows.survey(check=False).reading,
        explained=explained,
        labels=_labels(table, run),
        length=spearman(columns.n_tokens[scored].astype(float), columns.scores[scored]),
        baseline=compared,
        warning=warning_of(table),
        why_no_tokens=why_no_tokens and without_folders(why_no_tokens),
        promise=promise and without_folders(promise),
        compared=compare(table, reference) if reference is not None else None,
    )


def read_columns(table: ScoreTable) -> numbers.Columns:
    """The columns of `table` that the report needs, one number per row and column."""
    statuses: Counter[str] = Counter()
    for batch in table.batches(["status"]):
        statuses.update(batch.column("status").to_pylist())
    return numbers.Columns(
        scores=_numbers(table, "score"),
        ranks=np.ma.filled(table.column("rank"), 0),
        n_tokens=np.ma.filled(table.column("n_tokens"), 0).astype(np.int64),
        statuses=dict(statuses.most_common()),
        unknown_share=_numbers(table, "unknown_share"),
        explained_variance=_numbers(table, "explained_variance"),
    )


def _numbers(table: ScoreTable, name: str) -> numbers.Floats64:
    """A column with NaN where it is null, (rows,)."""
    return np.ma.filled(table.column(name).astype(np.float64), np.nan)


def _answer(shown: row_texts.RowText) -> str:
    return "\n".join(turn.text for turn in shown.turns if turn.response)


def scorer_of(table: ScoreTable) -> str:
    """The name of the scorer that made `table`."""
    scorer = table.manifest.decides.get("scorer")
    name = scorer.get("name") if isinstance(scorer, dict) else None
    return name if isinstance(name, str) else "an unnamed scorer"


def _compare(
    table: ScoreTable, columns: numbers.Columns, choice: numbers.Choice, other: ScoreTable
) -> Baseline:
    ours, theirs = (one.manifest.decides.get("data") for one in (table, other))
    if not (isinstance(ours, dict) and isinstance(theirs, dict)) or (
        ours.get("sha256") != theirs.get("sha256") or len(table) != len(other)
    ):
        raise TableError(
            f"{escape(str(other.path), limit=200)}: was made from other data than "
            f"{escape(str(table.path), limit=200)}; score the same data with another scorer"
        )
    found = read_columns(other)
    overlap = numbers.overlap(columns, found, choice.dropped)
    return Baseline(scorer_of(other), found, overlap)


def _lines(table: ScoreTable, wanted: Sequence[int]) -> dict[int, ScoreRow]:
    places = np.array(sorted(wanted), np.int64)
    found: dict[int, ScoreRow] = {}
    start = 0
    for batch in table.batches():
        here = places[(places >= start) & (places < start + batch.num_rows)] - start
        if len(here):
            found.update((line.row, line) for line in from_arrow(batch.take(here)))
        start += batch.num_rows
    return found


def _labels(table: ScoreTable, run: "Run | None") -> dict[int, tuple[str, ...]]:
    """Words for the toxic features: of the run's pack, else of the file that the table names."""
    pack = run.pack if run is not None else _pack_of(table)
    if pack is None or pack.digest != table.manifest.decides.get("pack"):
        return {}
    return {int(feature): label for feature, label in zip(pack.ids, pack.labels, strict=True)}


def _pack_of(table: ScoreTable) -> FeaturePack | None:
    settings = table.manifest.facts.get("settings")
    path = settings.get("pack") if isinstance(settings, dict) else None
    # Nothing is fetched because a table says so.
    if isinstance(path, str) and os.path.isfile(path):
        with suppress(PackError):  # it has changed since: the numbers stay
            return load_pack(path)
    return None
