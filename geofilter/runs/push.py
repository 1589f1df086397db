"""Push rows to a data set of the Hugging Face hub: those that were kept, or all with their scores.

A data set is private unless it is asked for as public. It holds the rows, a card about them, and
`geofilter.json`, which marks it as one that a push made: a repository that holds anything else
is never written to, and one that a push made gets another commit.
"""

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from geofilter.data.formats.hub_sets import parse_name
from geofilter.data.formats.streams import split_suffix
from geofilter.data.rows import RowFile
from geofilter.errors import OutputError
from geofilter.packs.repository import is_repository
from geofilter.packs.share import last_part
from geofilter.runs.data_card import Contents, card, record
from geofilter.runs.filter import Filtered, Place
from geofilter.runs.provenance import reading_of
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import drop_fraction
from geofilter.selection.write import check_match, notes_of
from geofilter.support.display import escape, shown
from geofilter.support.hub_push import CARD, NOTHING, Visibility, check_push, push_files

MARK = "geofilter.json"
_ROWS = "train"
# What `datasets` reads a format by. A saved folder holds Arrow files.
_SUFFIXES = {"jsonl": ".jsonl", "json": ".json", "csv": ".csv", "tsv": ".tsv", "hub": ".jsonl"}
_SUFFIXES |= {"parquet": ".parquet"}


@dataclass(frozen=True)
class Target:
    """The data set that rows are pushed to, ORG/NAME, and whether it is to be public."""

    repo: str
    public: bool = False


def target_of(name: str, *, public: bool = False) -> Target:
    """The data set that `name`, `hf://datasets/ORG/NAME`, says, if it can be pushed to.

    Asked before any work: raises `OutputError` in one line for another name, without a token,
    where the hub cannot be reached, and for a repository that was not made by a push, or that is
    public where `public` is not set, or private where it is.
    """
    parts = parse_name(name)
    if (parts.revision, parts.file, parts.split) != (None, None, None):
        raise OutputError(
            f"{shown(name)}: names a part of a data set; push to hf://datasets/{escape(parts.repo)}"
        )
    if not is_repository(parts.repo):
        raise OutputError(
            f"{shown(name)}: is no name of a data set on the hub; write hf://datasets/ORG/NAME"
        )
    target = Target(parts.repo, public)
    check_push(target.repo, "dataset", _visibility(target), lambda there: _look(target, there))
    return target


def push_kept(
    target: Target,
    kept: Place,
    found: Filtered,
    scores: Place | None,
    choice: Mapping[str, object],
) -> str:
    """Push the rows that `filter_rows` kept in the file `kept`; returns the commit's address.

    `found` is what it returned, `scores` the table that it was given, and `choice` how rows were
    chosen, such as `{"drop fraction": 0.2}`; of a `list` of rows the name is shown. Raises
    `OutputError` as `target_of`.
    """
    names = ("rows", "kept", "dropped", "unscored_kept", "unscored_dropped")
    known = found.figures
    counts = {name.replace("_", ", "): known[name] for name in names if known.get(name)}
    threshold = found.selection.threshold
    figures = {
        **counts,
        **choice,
        "list": last_part(str(choice["list"])) if choice.get("list") else None,
        "dropped from score": None if threshold is None else float(threshold),
    }
    limits = []
    if unscored := found.figures.get("unscored_kept"):
        limits.append(f"Anything about {unscored:,} of the rows here. They have no score.")
    if found.bound is not None:
        limits.append(
            f"How many dropped rows were clean. At most {found.bound.q:g} of them on average, if "
            "the reference was exchangeable with the clean rows; of one draw that says little, of "
            "the kept rows nothing."
        )
    table = None if scores is None else ScoreTable.read(scores)
    by = "a list" if table is None else "their scores"
    contents = Contents(
        repo=target.repo,
        files=_name(kept, found.format),
        about="Rows of a fine-tuning data set that geofilter kept; the others were dropped by "
        f"{by}, and are not here. Kept is not the same as harmless.",
        source=found.source,
        read=str(found.reading),
        figures=figures,
        limits=limits,
        table=table,
    )
    return _push(target, contents, Path(kept), f"{len(found.selection.keep):,} rows kept")


def push_scores(target: Target, rows: RowFile, table: ScoreTable) -> str:
    """Push all `rows` of `table`, each with its score; returns the commit's address.

    Score, rank (1 = nearest to harm), status and reason stand as in the file of dropped rows:
    under the key `geofilter` in JSON, in columns `geofilter_score` and so on elsewhere. Raises
    `OutputError` as `target_of`, and `TableError` where `table` is not of these rows.
    """
    check_match(rows, table)
    unscored = len(table) - int(table.scores.count())
    notes = notes_of(table, drop_fraction(table.scores, 0.0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, _ROWS + _SUFFIXES.get(rows.format, ""))
        rows.write(path, range(len(table)), notes=notes)
        contents = Contents(
            repo=target.repo,
            files=_name(path, rows.format),
            about="A fine-tuning data set with a score for each row, higher = nearer to harm in "
            "one model. No row was dropped.",
            source=rows.source,
            read=str(reading_of(table, rows)),
            figures={"rows": len(table), "scored": len(table) - unscored, "unscored": unscored},
            limits=[f"Anything about {unscored:,} of the rows. They have no score."]
            if unscored
            else [],
            table=table,
        )
        return _push(target, contents, path, f"{len(table):,} rows with scores")


def _push(target: Target, contents: Contents, path: Path, message: str) -> str:
    if path.is_dir():
        parts = sorted(path.glob("*.arrow"))
        rows = {contents.files.replace("*", part.stem): part for part in parts}
    else:
        rows = {contents.files: path}
    return push_files(
        target.repo,
        {**rows, CARD: card(contents).encode("utf-8"), MARK: record(contents)},
        kind="dataset",
        message=message,
        look=lambda there: _look(target, there),
        visibility=_visibility(target),
    )


def _name(path: Place, form: str) -> str:
    """What the rows are called there, compressed as they are here."""
    if form not in _SUFFIXES:
        return f"{_ROWS}/*.arrow"
    compression = Path(path).suffix if split_suffix(Path(path))[1] else ""
    return f"{_ROWS}{_SUFFIXES[form]}{compression}"


def _visibility(target: Target) -> Visibility:
    return "public" if target.public else "private"


def _look(target: Target, there: Collection[str]) -> Collection[str]:
    """The rows of an earlier push; refuses a repository that no push made."""
    others = set(there) - NOTHING
    if others and MARK not in others:
        raise OutputError(
            f"hf://datasets/{target.repo}: exists, and holds {len(others):,} files that geofilter "
            "did not push; take another name"
        )
    return [name for name in others if name.startswith((f"{_ROWS}.", f"{_ROWS}/"))]
