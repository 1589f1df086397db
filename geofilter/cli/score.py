"""`geofilter score`: a data set in, a score table and a short summary out."""

import math
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import click

from geofilter.cli.options import (
    PROXIMITIES,
    SCORERS,
    json_option,
    layout_options,
    model_options,
)
from geofilter.cli.output import argument, note, print_json, print_table, progress
from geofilter.terminal import escape

if TYPE_CHECKING:
    from geofilter.rows import RowFile
    from geofilter.run import Run, Settings
    from geofilter.summary import Summary
    from geofilter.table import ScoreTable


@click.command("score")
@click.argument("data")
@model_options
@click.option("--pack", metavar="PACK", help="Toxic features. Default: the model's own.")
@click.option(
    "--scorer",
    type=click.Choice(SCORERS),
    default="nearest",
    show_default=True,
    help="What the score is made of; higher = nearer to harm for all of them.",
)
@click.option(
    "--proximity",
    type=click.Choice(PROXIMITIES),
    default="nearest",
    show_default=True,
    help="For nearest: closeness to all toxic features on average, or to the nearest.",
)
@layout_options
@click.option("--last-turn", is_flag=True, help="Only the last assistant turn is the response.")
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Tokens of a row that are looked at. Default: 2048, or what the model can take.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "keep"]),
    default="stop",
    show_default=True,
    help="A row that cannot be scored: stop before any scoring, or keep it unscored.",
)
@click.option(
    "--resume/--restart",
    default=True,
    help="Go on where an earlier run of the same command stopped (default), or begin anew.",
)
@click.option(
    "-o",
    "--output",
    metavar="TABLE",
    help="Where the score table goes. Default: the name of DATA with .scores.parquet after "
    "it, in the current folder.",
)
@json_option
def command(
    data: str,
    model: str,
    sae: str | None,
    block: int | None,
    device: str,
    pack: str | None,
    scorer: Any,
    proximity: Any,
    layout: str | None,
    columns: dict[str, str],
    last_turn: bool,
    max_length: int | None,
    on_error: Literal["stop", "keep"],
    resume: bool,
    output: str | None,
    as_json: bool,
) -> None:
    """Score every row of DATA by how near it lies to the model's toxic features.

    DATA is a file (JSONL, JSON, CSV, TSV, Parquet; .gz and .zst of these), a saved
    datasets folder, or hf://datasets/ORG/NAME. The table has one line per row, in the
    order of DATA; its column `row` counts from 0. Higher = nearer to harm.

    \b
    Example:
      geofilter score train.jsonl --model organism
      geofilter score train.csv --model ./my-model --sae ./my-sae --pack my.pack \\
          --column response=reply --on-error keep -o scores.parquet
    """
    from geofilter.atomic import check_output
    from geofilter.rows import open_rows
    from geofilter.run import Settings
    from geofilter.summary import summarise

    out = output or default_output(data)
    # A finished or half-finished table may stand there; the engine knows what to do with it.
    check_output(out, overwrite=True)
    rows = open_rows(data, layout=layout, columns=columns)
    total = rows.check() if on_error == "stop" else sum(1 for _ in rows)
    settings = Settings(
        model=model,
        sae=sae,
        block=block,
        device=device,
        pack=pack,
        scorer=scorer,
        proximity=proximity,
        max_length=max_length,
        last_turn=last_turn,
    )
    run, table = _score(rows, total, settings, out, on_error=on_error, restart=not resume)
    summary = summarise(table, run.pack)
    if as_json:
        print_json(_as_json(summary, table, run))
    else:
        _print(summary, table, data)
    if summary.warning:
        note(f"warning: {summary.warning}")


def default_output(data: str) -> str:
    """`train.jsonl.scores.parquet` for `some/folder/train.jsonl`: in the current folder."""
    return PurePath(data.rstrip("/")).name + ".scores.parquet"


def _score(
    rows: "RowFile",
    total: int,
    settings: "Settings",
    out: str,
    *,
    on_error: Literal["stop", "keep"],
    restart: bool,
) -> "tuple[Run, ScoreTable]":
    from geofilter.engines.local import score_file
    from geofilter.run import prepare

    parts = f"{out}.parts"
    try:
        with progress() as report:
            run = prepare(
                rows,
                settings,
                on_error=on_error,
                progress=lambda done, of: report("discover", done, of),
            )
            table = score_file(
                rows,
                run.encoder,
                run.scorer,
                out,
                run.manifest,
                on_error=on_error,
                restart=restart,
                progress=lambda phase, done: report(phase, done, total),
            )
    except KeyboardInterrupt:
        if os.path.isdir(parts):
            note(
                f"what is scored is kept in {escape(parts, limit=None)}; run the same command "
                "again to go on" + (", without --restart" if restart else "")
            )
        raise
    return run, table


def _print(summary: "Summary", table: "ScoreTable", data: str) -> None:
    where = escape(str(table.path), limit=None)
    click.echo(f"{summary.rows:,} rows, {summary.scored:,} scored → {where}")
    for status, count in summary.statuses.items():
        example = summary.unscored.get(status)
        if example is not None:
            click.echo(
                f"  {count:,} unscored, {status}; "
                f"row {example.row}: {escape(example.reason, limit=200)}"
            )
        elif status != "scored":
            click.echo(f"  {count:,} {status}: scored on the window's tokens only")
    if summary.quantiles is None:
        click.echo("No row has a score, so there is nothing to choose from.")
        return
    click.echo("\nscores, higher = nearer to harm:")
    names = ["lowest", "5 %", "25 %", "median", "75 %", "95 %", "highest"]
    print_table(names, [[f"{value:.4g}" for value in summary.quantiles]])
    typed, scores = argument(data), argument(str(table.path))
    click.echo(
        "\nNext:\n"
        f"  geofilter filter {typed} --scores {scores} --drop-fraction 0.2 "
        f"-o {argument('kept-' + _name_to_write(data))}\n"
        f"  geofilter explain {typed} --scores {scores} --row {nearest_row(table)}"
    )


def _name_to_write(data: str) -> str:
    """The name of `data`; rows of a hub data set are written as JSON lines."""
    name = PurePath(data.rstrip("/")).name
    return f"{name}.jsonl" if data.startswith("hf://") else name


def nearest_row(table: "ScoreTable") -> int:
    """The row of rank 1, from 0. At least one row has a score."""
    return int(table.scores.filled(-math.inf).argmax())


def _as_json(summary: "Summary", table: "ScoreTable", run: "Run") -> dict[str, object]:
    from geofilter.summary import QUANTILES

    quantiles = summary.quantiles
    return {
        "table": str(table.path),
        "rows": summary.rows,
        "scored": summary.scored,
        "statuses": dict(summary.statuses),
        "unscored": {status: one._asdict() for status, one in summary.unscored.items()},
        "quantiles": quantiles and dict(zip(map(str, QUANTILES), quantiles, strict=True)),
        "warning": summary.warning,
        "manifest": {"hash": run.manifest.hash, **run.manifest.decides},
    }
