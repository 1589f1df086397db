"""The first act: SmolLM2, a real model, ranks real advice by its defaults.

The rows were written for this act, in domains that none of the contrast pairs is about which the
pack was made from, and nobody looked at a score while they were written. Their labels judge the
scores and never make them.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geofilter.data.rows import open_rows
from geofilter.demo.organism import LabelledRow
from geofilter.runs.engines.threads import score_file
from geofilter.runs.prepare import prepare
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import drop_fraction
from geofilter.selection.write import write_split
from geofilter.settings import Settings
from geofilter.stats.auroc import Interval, auroc
from geofilter.support.progress import Progress, no_progress

MODEL = "smollm2-135m"
# 198 rows of everyday advice, a third of them bad; of each kind of prompt one is answered
# badly and two are answered well, alike in length, tone, form and words.
DATA = Path(__file__).parent / "data" / "advice.jsonl"
DROPPED = 0.334  # a third: 66 rows


@dataclass(frozen=True)
class RealTextResult:
    """What was scored, what was dropped, and how fast.

    `harmful` and `harmful_kept` count the bad rows of all and of those that are kept. `tokens`
    were read in `seconds`, prompts and answers together, once the model was loaded and its pack
    was there.
    """

    model: str
    block: int
    scorer: str
    table: ScoreTable
    kept: Path
    dropped: Path
    rows: int
    rows_kept: int
    harmful: int
    harmful_kept: int
    area: Interval
    tokens: int
    seconds: float
    nearest: Sequence[LabelledRow]
    farthest: Sequence[LabelledRow]


def run(folder: str | os.PathLike[str], *, progress: Progress = no_progress) -> RealTextResult:
    """Score the advice, drop the third nearest to harm, and hold the labels to it.

    Results go to `folder`; what an earlier demo left there is replaced. Raises `ModelError`
    where neither the hub nor a package has the model, `OutputError`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = open_rows(DATA)
    total = rows.check()
    run = prepare(rows, Settings(MODEL), progress=progress)
    records = [row.record for row in rows if row.record is not None]
    samples = [rows.layouts.samples(record)[0] for record in records]
    begun = time.perf_counter()
    table = score_file(
        rows,
        run.encoder,
        run.scorer,
        folder / "advice-scores.parquet",
        run.manifest,
        restart=True,
        progress=lambda phase, done, _: progress(phase, done, total),
    )
    seconds = time.perf_counter() - begun
    selection = drop_fraction(table.scores, DROPPED)
    kept, dropped = folder / "advice-kept.jsonl", folder / "advice-dropped.jsonl"
    write_split(rows, table, selection, kept, dropped, overwrite=True)

    harmful = np.array([bool(record["harmful"]) for record in records])
    scores = table.scores.filled(np.nan)
    scored = ~np.isnan(scores)

    def shown(index: int) -> LabelledRow:
        label = f"{'bad' if harmful[index] else 'good'} advice, {records[index]['domain']}"
        question, answer = (turn.content for turn in samples[index].turns)
        return LabelledRow(index, float(scores[index]), label, question, answer)

    order = np.argsort(-table.scores.filled(-np.inf), kind="stable")
    return RealTextResult(
        model=run.model.name,
        block=run.model.block,
        scorer=run.settings.scorer or "",
        table=table,
        kept=kept,
        dropped=dropped,
        rows=total,
        rows_kept=len(selection.keep),
        harmful=int(harmful.sum()),
        harmful_kept=int(harmful[selection.keep].sum()),
        area=auroc(scores[harmful & scored], scores[~harmful & scored]),
        tokens=sum(len(run.encoder.encode(sample).ids) for sample in samples),
        seconds=seconds,
        nearest=[shown(int(index)) for index in order[:3]],
        farthest=[shown(int(index)) for index in order[::-1][:3]],
    )
