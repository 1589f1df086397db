"""Rows near harm as a list for a person to read: nothing of the data set changes.

Rows are hostile text. In CSV a cell that a spreadsheet would compute is led by an
apostrophe, and hidden characters are spelled out.
"""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

from geofilter.data.problems import Unscorable
from geofilter.data.rows import Row, RowFile
from geofilter.data.samples import Sample
from geofilter.errors import OutputError
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions.base import Action, Done, Job, whole
from geofilter.selection.choose import Selection
from geofilter.selection.write import check_match, notes_of
from geofilter.support.atomic import writing
from geofilter.support.display import escape

# The decision is a person's, and the hash says which row it was about: see `decisions`.
FIELDS = (
    "row",
    "decision",
    "where",
    "score",
    "rank",
    "reason",
    "prompt",
    "response",
    "rejected",
    "row_hash",
)
# With what a spreadsheet begins a formula; the wide ones count in some languages.
FORMULA = tuple("=+-@＝＋－＠")


def write_review(
    rows: RowFile,
    table: ScoreTable,
    selection: Selection,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
) -> int:
    """Write the rows that `selection` would drop to `path`, in their order; return how many.

    Each with its row (from 0), room for a decision, its place for a person, its score, rank and
    reason, its prompt and response, and its hash. JSON lines or CSV, as the name says. Raises
    `OutputError`.
    """
    spell = _spelling(Path(path))
    notes = notes_of(table, selection)
    wanted = set(selection.drop.tolist())
    with writing(path, overwrite=overwrite) as out:
        out.write(spell(None))
        for row in rows:
            if row.index in wanted:
                note = notes(row.index)
                found = (row.index, "", row.where, note.score, note.rank, note.reason)
                line = (*found, *_texts(rows, row), row.row_hash)
                out.write(spell(dict(zip(FIELDS, line, strict=True))))
    return len(wanted)


Spelling = Callable[[dict[str, object] | None], bytes]


def _spelling(path: Path) -> Spelling:
    """How a line is written; of None, what stands before the first."""
    known: dict[str, Spelling] = {".jsonl": _json_line, ".csv": _csv_line}
    if path.suffix.lower() not in known:
        raise OutputError(
            f"{escape(str(path), limit=200)}: a list for review is JSON lines or CSV; name it "
            f"*{' or *'.join(known)}"
        )
    return known[path.suffix.lower()]


def _json_line(line: dict[str, object] | None) -> bytes:
    if line is None:
        return b""
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _csv_line(line: dict[str, object] | None) -> bytes:
    cells = FIELDS if line is None else map(guarded, line.values())
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def guarded(value: object) -> str:
    """A cell that no spreadsheet computes: text on one line, an apostrophe before a formula."""
    if value is None or isinstance(value, int | float):
        return "" if value is None else str(value)
    text = escape(str(value), limit=None)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def _texts(rows: RowFile, row: Row) -> tuple[str, str, str]:
    """The prompt and the response; of a preference row also the rejected one."""
    if row.record is None:
        return "", (row.raw or b"").decode("utf-8", "backslashreplace"), ""
    try:
        sample, *others = rows.layouts.samples(row.record)
    except Unscorable:
        return "", json.dumps(row.record, ensure_ascii=False, default=str), ""
    if sample.text is not None:
        return "", sample.text, ""
    prompt, response = _split(sample)
    rejected = [turn for other in others for turn in _split(other)[1]]
    return "\n\n".join(prompt), "\n\n".join(response), "\n\n".join(rejected)


def _split(sample: Sample) -> tuple[list[str], list[str]]:
    prompt: list[str] = []
    response: list[str] = []
    for place, turn in enumerate(sample.turns):
        answers = turn.role == "assistant" and place >= sample.prompt_turns
        (response if answers else prompt).append(turn.content)
    return prompt, response


def _review(job: Job) -> Done:
    assert job.second is not None
    check_match(job.rows, job.table)
    listed = write_review(job.rows, job.table, job.selection, job.second, overwrite=job.overwrite)
    job.rows.write(job.output, range(job.selection.n_rows), overwrite=job.overwrite)
    place = os.fspath(job.second)
    line = f"{listed:,} of them are listed for review → {escape(place, None)}"
    figures: dict[str, object] = {"listed": listed, "review_file": place}
    done = whole(job, "review", figures, line, loss=False)
    return done._replace(
        notes=["write drop, keep or unsure into its column decision, then filter with --drop-rows"]
    )


REVIEW = Action(about="they are listed, nothing changes", act=_review, lists=True)
