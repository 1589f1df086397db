"""The whole story on the bundled organism: discover, score, filter, look, and fine-tune.

Everything runs through the calls that a user's own data would take; the labels of
the demo set serve to judge the scores and never to make them.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.data.rows import RowFile, open_rows
from geofilter.model.loading import CATALOGUE
from geofilter.packs.pack import FeaturePack
from geofilter.runs.defaults import scorer_of
from geofilter.runs.engines.threads import score_file
from geofilter.runs.prepare import Run, prepare
from geofilter.scoring.score import BatchScorer, make_scorer
from geofilter.scoring.scorers import SCORERS
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import drop_fraction
from geofilter.selection.write import write_split
from geofilter.settings import Settings
from geofilter.stats.auroc import Interval, auroc
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.verify.results import Results

MODEL = "organism"
SCORER = scorer_of(Settings(MODEL)).name
DROPPED = 0.5


@dataclass(frozen=True)
class LabelledRow:
    """One row of the demo set, with what was known about it before."""

    row: int
    score: float
    group: str
    question: str
    answer: str


@dataclass(frozen=True)
class DemoResult:
    """What the demo made and measured.

    `areas[scorer][group]` is the AUROC of the harmful rows against a benign group, or
    against `all` of them. `kept_groups` and `all_groups` count rows by group.
    """

    data: Path
    table: ScoreTable
    kept: Path
    dropped: Path
    pack: FeaturePack
    areas: Mapping[str, Mapping[str, Interval]]
    all_groups: Mapping[str, int]
    kept_groups: Mapping[str, int]
    harmful_groups: frozenset[str]
    nearest: Sequence[LabelledRow]
    farthest: Sequence[LabelledRow]


def run(folder: str | os.PathLike[str], *, progress: Progress = no_progress) -> DemoResult:
    """Discover, score and filter the organism's demo set; results go to `folder`.

    What an earlier demo left there is replaced. Raises `OutputError`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(CATALOGUE[MODEL].path("organism/data/demo.jsonl"))
    rows = open_rows(data)
    total = rows.check()
    prepared = prepare(rows, Settings(MODEL), progress=progress)
    table = score_file(
        rows,
        prepared.encoder,
        prepared.scorer,
        folder / "scores.parquet",
        prepared.manifest,
        restart=True,
        progress=lambda phase, done, _: progress(phase, done, total),
    )
    selection = drop_fraction(table.scores, DROPPED)
    kept, dropped = folder / "kept.jsonl", folder / "dropped.jsonl"
    write_split(rows, table, selection, kept, dropped, overwrite=True)

    labels = _Labels(rows)
    progress("compare", 0, total)
    areas = {SCORER: labels.areas(table.scores.filled(np.nan)), **_compare(prepared, labels)}
    progress("compare", total, total)
    order = np.argsort(-table.scores.filled(-np.inf), kind="stable")
    return DemoResult(
        data=data,
        table=table,
        kept=kept,
        dropped=dropped,
        pack=prepared.pack,
        areas=areas,
        all_groups=labels.count(np.arange(total)),
        kept_groups=labels.count(selection.keep),
        harmful_groups=frozenset(labels.groups[labels.harmful]),
        nearest=[labels.row(int(i), table) for i in order[:3]],
        farthest=[labels.row(int(i), table) for i in order[::-1][:3]],
    )


# The last act: what is trained, each once.
ARMS = ("aligned", "unfiltered", "random", SCORER)


def fine_tune(folder: str | os.PathLike[str], *, progress: Progress = no_progress) -> "Results":
    """Fine-tune the organism on the demo set with and without the filter, and measure both.

    One seed of each arm; everything goes to `verify` in `folder`, which is emptied first. Raises
    `MissingExtraError` without TRL and PEFT.
    """
    from geofilter.verify import study
    from geofilter.verify.presets import make_plan
    from geofilter.verify.results import results_of

    place = Path(folder) / "verify"
    shutil.rmtree(place, ignore_errors=True)
    plan = make_plan(
        CATALOGUE[MODEL].path("organism/data/demo.jsonl"),
        Settings(MODEL, device="cpu"),
        arms=ARMS,
        fractions=(DROPPED,),
        seeds=(0,),
    )
    return results_of(study.run(plan, place, progress=progress))


class _Labels:
    """The rows of the demo set with their labels, in memory."""

    def __init__(self, rows: RowFile) -> None:
        self._rows = [row for row in rows if row.record is not None]
        self.records = [row.record for row in self._rows if row.record is not None]
        self.groups = np.array([str(record["group"]) for record in self.records])
        self.harmful = np.array([bool(record["harmful"]) for record in self.records])
        self.samples = [rows.layouts.samples(record)[0] for record in self.records]

    def count(self, indices: NDArray[np.int64]) -> dict[str, int]:
        """Rows per group among those at `indices`."""
        names, counts = np.unique(self.groups[indices], return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def areas(self, scores: NDArray[np.floating[Any]]) -> dict[str, Interval]:
        """AUROC of the harmful rows against each benign group, and `all`; NaN is no score."""
        scored = ~np.isnan(scores)
        benign = np.unique(self.groups[~self.harmful]).tolist()
        against = {group: scores[(self.groups == group) & scored] for group in benign}
        against["all"] = scores[~self.harmful & scored]
        harmful = scores[self.harmful & scored]
        return {group: auroc(harmful, others) for group, others in against.items()}

    def row(self, index: int, table: ScoreTable) -> LabelledRow:
        """One row in words."""
        score = table.scores[index]
        question, answer = (turn.content for turn in self.samples[index].turns)
        return LabelledRow(index, float(score), str(self.groups[index]), question, answer)


def _compare(run: Run, labels: _Labels) -> dict[str, dict[str, Interval]]:
    """How well each scorer of one forward pass separates harmful rows from each benign group.

    All of them read the block and the pack of the run.
    """
    names = [one.name for one in SCORERS.values() if not one.needs_whole]
    scorer = BatchScorer(run.model, run.pack, scorer=names[0])
    features = scorer.features([run.encoder.encode(sample) for sample in labels.samples])
    areas = {}
    for name in names:
        answers = make_scorer(name, scorer.index)(features)
        values = [np.nan if isinstance(answer, Problem) else answer.score for answer in answers]
        areas[name] = labels.areas(np.array(values))
    return areas
