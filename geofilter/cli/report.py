"""`geofilter report`: one HTML file about a scored data set, which opens offline."""

from typing import TYPE_CHECKING

import click

from geofilter.cli.choice import choice_options
from geofilter.cli.options import (
    data_argument,
    json_option,
    overwrite_option,
    scores_option,
    trust_option,
)
from geofilter.cli.output import bytes_text, note, print_json, progress, say_read
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import Data


@click.command("report")
@data_argument
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
    help="A score table of the same data by another scorer, such as persona, to compare with.",
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
@overwrite_option
@trust_option
@json_option
def command(
    data: "Data",
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
    overwrite: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Write one HTML file about DATA and its scores: plots first, then rows, then limits.

    DATA is what was scored: the same files in the same order. The page opens offline and asks
    for nothing. Nothing is dropped: a choice is shown, and `geofilter filter` makes it. Without
    a choice the tenth of the rows that is nearest to harm is set apart. In the page the
    threshold can be moved, and rows can be searched and decided on; it saves the decisions as
    the list that `geofilter filter --drop-rows` takes.

    --reference that is a score table is compared with feature by feature: what is in DATA and
    not in that. --fdr is not needed for it.

    \b
    Examples:
      geofilter report train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 -o report.html
      geofilter report train.jsonl --scores train.jsonl.scores.parquet \\
          --baseline persona.parquet --by topic --no-model -o report.html
      geofilter report train.jsonl --scores train.jsonl.scores.parquet \\
          --reference clean.scores.parquet -o report.html
    """
    from geofilter.report.write import write_report

    with progress() as follow:
        written = write_report(
            data,
            scores,
            output,
            drop_fraction=drop_fraction,
            threshold=threshold,
            fdr=fdr,
            reference=reference,
            by=by,
            baseline=baseline,
            explain=0 if no_model else explain,
            model=model,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
            progress=follow,
        )
    if as_json:
        print_json({**written.as_record(), "file": output})
    else:
        n_rows = len(written.contents.table)
        click.echo(f"{n_rows:,} rows → {escape(output, None)} ({bytes_text(written.size)})")
    say_read(written.contents.source, written.contents.reading)
    for one in written.notes:
        note(one)
