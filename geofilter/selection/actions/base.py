"""What an action is: what it is given, what it says of itself, and what it says afterwards."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from geofilter.data.formats.standard_output import output_in_words
from geofilter.data.rows import Row, RowFile
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import Selection
from geofilter.selection.replacing import Scored, Writer
from geofilter.selection.write import Changed
from geofilter.support.manifest import Manifest
from geofilter.support.progress import Progress

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoder
    from geofilter.scoring.explain import TokenScorer


class TokenModel(NamedTuple):
    """What made a table, loaded to score single tokens."""

    encoder: "Encoder"
    scorer: "TokenScorer"


class Replacing(NamedTuple):
    """Who writes other responses, what scores the rows that have them, and how often it is tried.

    `made` says what decides replies and scores. A `dry_run` shows some rows and writes nothing.
    """

    writer: Writer
    score: Callable[[Sequence[Row]], list[Scored]]
    made: Manifest
    attempts: int
    dry_run: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """The rows, the table that was made from them, those chosen, and where to write.

    `second` is the file of what is listed apart: dropped rows, or rows to review. `load`
    loads the model that made the table. `system`: what a system turn is to say, for an action
    that asks for it; `replacing`: for one that replaces responses.
    """

    rows: RowFile
    table: ScoreTable
    selection: Selection
    output: str | os.PathLike[str]
    second: str | os.PathLike[str] | None
    overwrite: bool
    load: Callable[[], TokenModel]
    progress: Progress
    system: str | None = None
    replacing: Replacing | None = None


class Done(NamedTuple):
    """What was done: for programs, for people, and what else people should know."""

    figures: dict[str, object]
    lines: list[str]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Action:
    """What may become of the rows chosen.

    `about` completes a line of help. `drops`: rows leave the data set, and may be kept in a
    second file. `lists`: the second file, which it needs, lists rows to review. `asks`: it
    writes system turns, which say `Job.system`. `counts`: it goes by how many rows are chosen, not
    by which. `pairs`: it is for rows of two answers, which a margin chooses. `replaces`: a model
    writes other responses, by `Job.replacing`.
    """

    about: str
    act: Callable[[Job], Done]
    drops: bool = False
    lists: bool = False
    asks: bool = False
    counts: bool = False
    pairs: bool = False
    replaces: bool = False


def whole(job: Job, action: str, figures: dict[str, object], line: str, *, loss: bool) -> Done:
    """What is said where all rows were written; with `loss`, how to train on them."""
    longest = _window(job.table)
    notes = [
        "train on it with geofilter.integrations.trl.LossCollator, or it changes nothing, "
        f"and with max_length={longest}, as rows were read here"
    ]
    chosen = job.selection
    return Done(
        {
            "action": action,
            "rows": chosen.n_rows,
            "unscored": len(chosen.unscored),
            "output_file": os.fspath(job.output),
            **figures,
            "threshold": chosen.threshold,
            "max_length": longest,
        },
        [f"All {chosen.n_rows:,} rows → {output_in_words(job.output)}", line],
        notes if loss else [],
    )


def left_as_they_are(done: Changed) -> list[str]:
    """A warning of the rows that were chosen and could not be changed, if there are some."""
    if not done.left:
        return []
    return [
        f"warning: {done.left:,} of the rows chosen could not be changed and stay as they are, the "
        f"first of them {done.why}"
    ]


def _window(table: ScoreTable) -> int | None:
    """Tokens of a row that were read at most."""
    window = table.manifest.decides.get("window")
    longest = window.get("max_length") if isinstance(window, dict) else None
    return longest if isinstance(longest, int) else None
