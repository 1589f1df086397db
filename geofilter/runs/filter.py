"""Filter a scored data set: choose rows by their scores, and write what becomes of them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from geofilter.data.formats.standard_output import STDOUT, check_stdout
from geofilter.data.outputs import check_outputs
from geofilter.data.reading import Reading
from geofilter.data.rows import Data, open_rows
from geofilter.errors import GeofilterError
from geofilter.packs.requests import request_for
from geofilter.runs.choice import Bound, Choice, choose
from geofilter.runs.defaults import scorer_of
from geofilter.runs.provenance import open_scored, reading_of, settings_of
from geofilter.scoring.summary import warning_of
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions import ACTIONS
from geofilter.selection.actions.base import Action, Job, TokenModel
from geofilter.selection.actions.drop import drop_listed
from geofilter.selection.choose import Selection, Unscored
from geofilter.selection.decisions import read_decisions
from geofilter.support.progress import Progress, no_progress

Place = str | os.PathLike[str]


@dataclass(frozen=True)
class Filtered:
    """What was done: for programs, for people, and what else people should know.

    `selection` holds the rows chosen; `bound` is what `fdr` promises of them; `reading` what
    was read of the data, which is called `source` and is of the format `format`.
    """

    selection: Selection
    bound: Bound | None
    figures: dict[str, object]
    lines: list[str]
    notes: list[str]
    reading: Reading
    source: str
    format: str


def filter_rows(
    data: Data,
    scores: Place | None,
    output: Place,
    *,
    drop_fraction: float | None = None,
    threshold: float | None = None,
    fdr: float | None = None,
    reference: Place | None = None,
    margin: float | None = None,
    drop_rows: Place | None = None,
    action: str = "drop",
    system: str | None = None,
    dropped: Place | None = None,
    review: Place | None = None,
    unscored: Unscored = "keep",
    replace_with: str | None = None,
    attempts: int | None = None,
    max_new_tokens: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = no_progress,
) -> Filtered:
    """Choose rows of `data` by the score table at `scores`, and write what `action` makes of them.

    Give one of `drop_fraction` (the share of the scored rows nearest to harm), `threshold` (the
    lowest score chosen), `fdr` (the share of clean rows among the chosen, on average; with
    a `reference` of clean rows) and `margin` (how much more than this the chosen answer of a
    preference row scores than the rejected one). Or give `drop_rows`, a list in which a person
    has decided on rows: it needs no `scores`, and notes them where they are given.

    With the action `drop`, `output` takes the kept rows, and `dropped` the others, each with its
    score, rank and reason (`-` for `output` is standard output); `unscored` says where rows
    without a score go. The other actions write all rows; `review` lists those chosen in the
    file `review`, `switch` exchanges their two answers, and `inoculate` gives them a system turn
    that says `system`, by default a sentence that asks for what the toxic rows of the pack do.
    With `replace` the model `replace_with` (`http://HOST/v1#MODEL`, or one here; by default that
    of the scores) writes the last response of the rows chosen, of at most `max_new_tokens`, at
    most `attempts` times each. One that scores lower than all rows chosen stands in `output`,
    other rows go as with `drop`; `dropped` gets all that were chosen, as they were. What is
    replied is kept next to `output`, and is not asked for again. A `dry_run` shows ten rows and
    writes nothing.

    The model runs only for `mask`, `replace` and a reference that was never scored;
    `trust_remote_code` lets it run code that comes with it. `progress` follows that.

    Raises `GeofilterError` for arguments that do not go together, `TableError` where the
    table is not of `data`, `OutputError`, and what the model raises.
    """
    choice = Choice(drop_fraction, threshold, fdr, reference, margin)
    if choice.given + (drop_rows is not None) != 1:
        raise GeofilterError(
            "give one of --drop-fraction, --threshold, --fdr, --margin and --drop-rows, or --curve"
        )
    choice.check()
    if action not in ACTIONS:
        raise GeofilterError(f"action {action!r}: is not known; choose {', '.join(ACTIONS)}")
    kind = ACTIONS[action]
    _check(action, kind, output, dropped, review, unscored, system)
    _check_choice(action, kind, margin)
    given = {
        "replace-with": replace_with,
        "attempts": attempts,
        "max-new-tokens": max_new_tokens,
        "dry-run": dry_run or None,
    }
    _check_replacing(action, kind, given, output)
    if drop_rows is not None and not (action == "drop" and unscored == "keep"):
        raise GeofilterError(
            "--drop-rows drops the rows that its list says, and no others: leave --action and "
            "--unscored out"
        )
    second = dropped or review
    if not dry_run:
        read = (data, scores, reference, drop_rows)
        check_outputs((output, second), read, overwrite=overwrite)
    if drop_rows is not None:
        return _drop_listed(data, scores, output, drop_rows, dropped, overwrite)
    if scores is None:
        raise GeofilterError("give --scores with the table that `geofilter score` made")
    table = ScoreTable.read(scores)
    rows = open_scored(data, table)
    if output == STDOUT:
        check_stdout(rows.format)
    chosen = choose(table, choice, unscored=unscored, progress=progress)

    def load() -> TokenModel:
        # The model's libraries load only where it runs.
        from geofilter.runs.prepare import prepare_again
        from geofilter.scoring.explain import token_scorer

        run = prepare_again(rows, table, purpose="masked", trust_remote_code=trust_remote_code)
        name, proximity = scorer_of(run.settings).name, run.settings.proximity
        return TokenModel(run.encoder, token_scorer(run.model, run.scorer.index, name, proximity))

    replacing = None
    if kind.replaces:
        from geofilter.runs.replacing import replacing_for

        replacing = replacing_for(
            rows,
            table,
            replace_with=replace_with,
            attempts=attempts,
            max_new_tokens=max_new_tokens,
            dry_run=dry_run,
            trust_remote_code=trust_remote_code,
        )
    job = Job(
        rows=rows,
        table=table,
        selection=chosen.selection,
        output=output,
        second=second,
        overwrite=overwrite,
        load=load,
        progress=progress,
        system=_request(table, system) if kind.asks else None,
        replacing=replacing,
    )
    figures, lines, notes = kind.act(job)
    if chosen.bound:
        if kind.drops:
            figures["fdr"] = chosen.bound.as_record()
            lines.append(chosen.bound.in_words())
        notes = [*chosen.bound.notes, *notes]
    notes = [*chosen.notes, *notes]
    if warning := warning_of(table):
        notes.append(f"warning: {warning}")
    reading = reading_of(table, rows)
    named = (rows.source, rows.format)
    return Filtered(chosen.selection, chosen.bound, figures, lines, notes, reading, *named)


def _drop_listed(
    data: Data,
    scores: Place | None,
    output: Place,
    listed: Place,
    dropped: Place | None,
    overwrite: bool,
) -> Filtered:
    """Drop rows of `data` by a list of decisions alone; scores are noted where they are given."""
    decisions = read_decisions(listed)
    table = None if scores is None else ScoreTable.read(scores)
    rows = open_rows(data) if table is None else open_scored(data, table)
    if output == STDOUT:
        check_stdout(rows.format)
    chosen, done = drop_listed(rows, table, decisions, output, dropped, overwrite=overwrite)
    reading = rows.survey(check=False).reading if table is None else reading_of(table, rows)
    return Filtered(chosen, None, *done, reading, rows.source, rows.format)


def _request(table: ScoreTable, system: str | None) -> str:
    """What system turns are to say. Raises `GeofilterError` where nothing says it."""
    found = request_for(settings_of(table)) if system is None else system
    if found is None:
        raise GeofilterError(
            "the scores are by a pack of rows of your own, for which no sentence is known; say "
            'what those rows do, as in --system "You give reckless advice."'
        )
    return found


def _check(
    action: str,
    kind: Action,
    output: Place,
    dropped: Place | None,
    review: Place | None,
    unscored: Unscored,
    system: str | None,
) -> None:
    """Refuse arguments that do not go with the action."""
    if (review is None) == kind.lists:
        raise GeofilterError("--review and --action review go together: give both or neither")
    if not kind.drops and dropped is not None:
        raise GeofilterError(f"--action {action} drops no row: leave --dropped out")
    if not kind.drops and unscored == "drop":
        raise GeofilterError(f"--action {action} drops no row: leave --unscored drop out")
    if system is not None and not kind.asks:
        raise GeofilterError(f"--action {action} writes no system turn: leave --system out")
    if system is not None and not system.strip():
        raise GeofilterError("--system is blank; give a sentence that asks for what the rows do")
    second = dropped or review
    if second == STDOUT:
        raise GeofilterError("only -o can be standard output; name a file for the other rows")
    if second is not None and os.path.realpath(output) == os.path.realpath(second):
        name = "dropped" if dropped else "review"
        raise GeofilterError(f"-o and --{name} name the same file; give each its own")


def _check_replacing(action: str, kind: Action, given: Mapping[str, object], output: Place) -> None:
    """Refuse what is `given` for replacing where the action does not, and what it cannot do."""
    named = [name for name, value in given.items() if value is not None]
    if named and not kind.replaces:
        raise GeofilterError(
            f"--action {action} writes no responses: leave --{named[0]} out, or give --action "
            "replace"
        )
    for name in ("attempts", "max-new-tokens"):
        value = given[name]
        if isinstance(value, int) and value < 1:
            raise GeofilterError(f"--{name} {value}: is not 1 or more")
    if kind.replaces and output == STDOUT:
        raise GeofilterError(
            "--action replace keeps what is replied next to its output: name a file with -o"
        )


def _check_choice(action: str, kind: Action, margin: float | None) -> None:
    """Refuse a choice of rows that the action does nothing with."""
    if kind.pairs and margin is None:
        raise GeofilterError(
            f"--action {action} needs --margin: it is for rows whose chosen answer scores more "
            "than that above their rejected one"
        )
    others = ", ".join(n for n, one in ACTIONS.items() if not (one.counts or one.replaces))
    if kind.replaces and margin is not None:
        raise GeofilterError(
            f"--action {action} writes one response, and --margin is for rows of two answers; take "
            f"{others}"
        )
    if kind.counts and margin is not None:
        raise GeofilterError(
            f"--action {action} goes by how many rows are chosen, not by which, so that --margin "
            f"says nothing to it; take {others}"
        )
