"""What the commands that score have in common: how far the work is, what is kept, a summary."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import click

from geofilter.cli.output import note, print_table, progress
from geofilter.support.display import argument, escape
from geofilter.support.progress import Progress

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.scoring.summary import Risk, Summary
    from geofilter.scoring.table import ScoreTable

# Names of data that are spelled out in a command to type next.
_TYPED = 4


@contextmanager
def scoring(out: str, *, restart: bool) -> Iterator[Progress]:
    """Show how far scoring into a table at `out` is, from where it goes on, and what is kept."""
    from geofilter.runs.engines.parts import kept_rows, parts_folder

    parts = escape(str(parts_folder(Path(out))), limit=None)
    earlier = 0 if restart else kept_rows(Path(out))
    begun = False
    try:
        with progress() as report:

            def follow(phase: str, done: int, total: int | None) -> None:
                nonlocal begun
                # Only then it is known that the rows kept are those of this run.
                if phase == "score" and not begun:
                    begun = True
                    if earlier:
                        note(f"goes on after {earlier:,} rows, which are scored in {parts}")
                report(phase, done, total)

            yield follow
    except KeyboardInterrupt:
        if kept := kept_rows(Path(out)):
            note(
                f"{kept:,} rows are scored and kept in {parts}; run the same command again to go on"
                + (", without --restart" if restart else ""),
                always=True,
            )
        elif not os.path.exists(out):
            note("nothing is kept yet; the same command begins from the first row", always=True)
        raise


def print_summary(summary: "Summary", table: "ScoreTable", *, err: bool = False) -> None:
    """How many rows have a score, why others have none, and how scores are spread.

    `err`: to standard error, where rows go to standard output.
    """
    where = escape(str(table.path), limit=None)
    click.echo(f"{summary.rows:,} rows, {summary.scored:,} scored → {where}", err=err)
    for status, count in summary.statuses.items():
        example = summary.unscored.get(status)
        if example is not None:
            click.echo(
                f"  {count:,} unscored, {status}; the first is row {example.row + 1:,} "
                f"(--row {example.row}): {escape(example.reason, limit=None)}",
                err=err,
            )
        elif status != "scored":
            click.echo(f"  {count:,} {status}: scored on the window's tokens only", err=err)
    if summary.quantiles is None:
        click.echo("No row has a score, so there is nothing to choose from.", err=err)
        return
    click.echo("\nscores, higher = nearer to harm:", err=err)
    names = ["lowest", "5 %", "25 %", "median", "75 %", "95 %", "highest"]
    print_table(names, [[f"{value:.4g}" for value in summary.quantiles]], err=err)


def print_next(summary: "Summary", table: "ScoreTable", rows: "RowFile") -> None:
    """The commands that come next, to be typed as they are."""
    if summary.quantiles is None:
        return
    typed, scores = _typed(rows), argument(str(table.path))
    click.echo(
        "\nNext:\n"
        f"  geofilter filter {typed} --scores {scores} --drop-fraction 0.2 "
        f"-o {argument(_kept_name(rows))}\n"
        f"  geofilter explain {typed} --scores {scores} --row {nearest_row(table)}"
    )


def print_risk(risk: "Risk") -> None:
    """The risk of the data set as a whole; `--summary`."""
    interval = "" if risk.low is None else f" [{risk.low:+.4f}, {risk.high:+.4f}]"
    click.echo(
        f"\nrisk of the whole: mean spillover {risk.mean:+.4f}{interval}, higher = nearer to harm"
        f"\n{risk.towards_harm:.1%} of {risk.rows:,} scored rows push towards harm."
        "\nThe interval (95 %) is that of the mean over such rows. In the organism this number "
        "put data\nsets in the order of how much harm they held, and so of the misalignment that "
        "followed; among\nsets with equally much it said little (docs/spillover.md). Compare it "
        "with that of other data for\nthe same model, block and pack."
    )


def _typed(rows: "RowFile") -> str:
    """What names the data, as it would be typed again."""
    from geofilter.data.formats.places import given_names

    names = given_names(rows.given)
    return " ".join(map(argument, names)) if len(names) <= _TYPED else "DATA..."


def _kept_name(rows: "RowFile") -> str:
    """A name for kept rows, in the format in which they are written."""
    if not rows.files:  # rows of a hub data set are written as JSON lines
        return f"kept-{PurePath(rows.source.rstrip('/')).name}.jsonl"
    name = PurePath(os.path.abspath(rows.files[0])).name
    alone = rows.files == (rows.given,)
    return f"kept-{name}" if alone else f"kept.{rows.format}"


def nearest_row(table: "ScoreTable") -> int:
    """The row of rank 1, from 0. At least one row has a score."""
    return int(table.scores.filled(-math.inf).argmax())


def summary_record(
    summary: "Summary", table: "ScoreTable", rows: "RowFile | None" = None
) -> dict[str, object]:
    """The same for programs."""
    from geofilter.scoring.summary import QUANTILES

    quantiles = summary.quantiles
    several = {"files": list(rows.files)} if rows and rows.files[1:] else {}
    return {
        "table": str(table.path),
        **several,
        "rows": summary.rows,
        "scored": summary.scored,
        "statuses": dict(summary.statuses),
        "unscored": {status: one._asdict() for status, one in summary.unscored.items()},
        "quantiles": quantiles and dict(zip(map(str, QUANTILES), quantiles, strict=True)),
        "warning": summary.warning,
        "reading": table.manifest.facts.get("reading"),
        "manifest": {"hash": table.manifest.hash, **table.manifest.decides},
    }
