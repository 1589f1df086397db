"""`geofilter report`: one HTML file about a scored data set, which opens offline."""

from typing import TYPE_CHECKING

import click

from geofilter.cli.choice import choice_options
from geofilter.cli.options import json_option, scores_option, trust_option
from geofilter.cli.output import argument, bytes_text, note, print_json, progress
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.runs.prepare import Run
    from geofilter.scoring.table import ScoreTable


@click.command("report")
@click.argument("data")
@scores_option
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    help="Where the page goes, such as report.html.",
)
@choice_options
@click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Show the drop rate by this column of the rows. May be repeated. Default: source, "
    "dataset, domain, category and language, where the rows have them.",
)
@click.option(
    "--baseline",
    metavar="TABLE",
    help="A score table of the same data by another scorer, such as persona, to stand beside.",
)
@click.option(
    "--explain",
    type=click.IntRange(0, 30),
    default=12,
    show_default=True,
    metavar="N",
    help="Mark the tokens of so many rows, for which the model is loaded.",
)
@click.option(
    "--model",
    metavar="NAME|FOLDER|ORG/NAME",
    help="Where the model that made TABLE is. Needed where it has to be fetched and is not in the "
    "list of `geofilter models`: nothing is fetched because a table says so.",
)
@click.option("--no-model", is_flag=True, help="Do not load the model; mark no tokens.")
@trust_option
@json_option
def command(
    data: str,
    scores: str,
    output: str,
    drop_fraction: float | None,
    threshold: float | None,
    fdr: float | None,
    reference: str | None,
    by: tuple[str, ...],
    baseline: str | None,
    explain: int,
    model: str | None,
    no_model: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Write one HTML file about DATA and its scores: plots first, then rows, then limits.

    It opens offline, holds no script and asks for nothing. Nothing is dropped: a choice is
    shown, and `geofilter filter` makes it. Without a choice the tenth of the rows that is
    nearest to harm is set apart.

    \b
    Examples:
      geofilter report train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 -o report.html
      geofilter report train.jsonl --scores train.jsonl.scores.parquet \\
          --baseline persona.parquet --by topic --no-model -o report.html
    """
    from geofilter import report
    from geofilter.report.contents import gather
    from geofilter.runs.choice import Choice, choose
    from geofilter.runs.provenance import open_scored
    from geofilter.scoring.table import ScoreTable
    from geofilter.support.atomic import check_output

    choice = Choice(drop_fraction, threshold, fdr, reference)
    if choice.given > 1:
        raise click.UsageError("give one of --drop-fraction, --threshold and --fdr, or none")
    choice.check()
    check_output(output)
    table = ScoreTable.read(scores)
    other = ScoreTable.read(baseline) if baseline is not None else None
    rows = open_scored(data, table)
    chosen, promise = None, None
    if choice.given:
        with progress() as follow:
            chosen, bound = choose(table, choice, progress=follow)
        for one in bound.notes if bound else ():
            note(one)
        promise = " ".join(bound.in_words().split()) if bound else None
    run, why = None, "the model was not loaded"
    if explain and not no_model:
        run, why = _load(rows, table, model, trust_remote_code)
    contents = gather(
        rows,
        table,
        chosen=chosen,
        by=by,
        baseline=other,
        run=run,
        explain=explain,
        why_no_tokens=why,
        promise=promise,
    )
    size = report.write(contents, output)
    n_dropped = int(contents.choice.dropped.sum()) if contents.choice.made else None
    if as_json:
        print_json(
            {
                "rows": len(table),
                "scored": int(contents.columns.scored.sum()),
                "dropped": n_dropped,
                "explained": len(contents.explained),
                "bytes": size,
                "file": output,
            }
        )
    else:
        click.echo(f"{len(table):,} rows → {escape(output, None)} ({bytes_text(size)})")
    if contents.warning:
        note(f"warning: {contents.warning}")


def _load(
    rows: "RowFile", table: "ScoreTable", model: str | None, trust_remote_code: bool
) -> "tuple[Run | None, str]":
    """The run that made the table, or why the page has to do without it."""
    from geofilter.errors import GeofilterError, ModelError
    from geofilter.runs.prepare import prepare_again, unasked
    from geofilter.runs.provenance import settings_of

    try:
        settings = settings_of(table)
        if model is None and (away := unasked(settings)):
            raise ModelError(
                f"{escape(', '.join(away), limit=200)} would be fetched because the table says so; "
                f"if you trust it, add --model {escape(argument(settings.model), limit=200)}"
            )
        run = prepare_again(
            rows,
            table,
            purpose="marked token by token",
            model=model,
            trust_remote_code=trust_remote_code,
        )
        return run, ""
    except GeofilterError as error:
        note(f"no tokens are marked: {error}")
        return None, str(error)
