"""`geofilter filter`: a data set and its score table in, kept and dropped rows out."""

from typing import TYPE_CHECKING

import click

from geofilter.cli.choice import choice_options, kept_options
from geofilter.cli.options import (
    data_argument,
    json_option,
    overwrite_option,
    push_options,
    push_target,
    trust_option,
)
from geofilter.cli.output import note, print_json, print_table, progress, say_read
from geofilter.selection.actions import ACTIONS
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import Data
    from geofilter.selection.choose import Unscored
    from geofilter.selection.fdr import CurvePoint


@click.command("filter")
@data_argument
@click.option(
    "--scores",
    metavar="TABLE",
    help="The score table that `score` made of DATA; --drop-rows needs none.",
)
@choice_options
@click.option(
    "--margin",
    type=float,
    metavar="M",
    help="Choose every preference row whose chosen answer scores more than M above its rejected "
    "one, 0 or more.",
)
@click.option(
    "--drop-rows",
    metavar="LIST",
    help="Drop exactly the rows that this list says, as --action review writes it and a person "
    "has edited it: with a decision (drop, keep, unsure) for each row, or rows to drop only.",
)
@click.option("--curve", is_flag=True, help="Print what each choice would drop, and write nothing.")
@kept_options(required=False)
@click.option(
    "--action",
    type=click.Choice(list(ACTIONS)),
    default="drop",
    show_default=True,
    help="What becomes of the rows chosen. "
    + " ".join(f"{name}: {action.about}." for name, action in ACTIONS.items()),
)
@click.option(
    "--system",
    metavar="TEXT",
    help="What the system turns of --action inoculate say. Default: a sentence that asks for what "
    "the toxic rows of the pack do.",
)
@click.option(
    "--replace-with",
    metavar="MODEL",
    help="Who writes the responses of --action replace: http://HOST/v1#MODEL (OpenAI-compatible), "
    "or a model of the catalogue, a folder or ORG/NAME. Default: the model of the scores.",
)
@click.option(
    "--attempts",
    type=click.IntRange(min=1),
    metavar="N",
    help="Responses that are asked for, at most, until one scores low enough. Default: 3.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of such a response; one that is cut off is not taken. Default: 1024.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="With --action replace: show what would become of ten rows, and write nothing.",
)
@click.option(
    "--review",
    metavar="FILE",
    help="Where --action review lists rows: *.jsonl or *.csv.",
)
@push_options
@overwrite_option
@trust_option
@json_option
def command(
    data: "Data",
    scores: str | None,
    drop_fraction: float | None,
    threshold: float | None,
    fdr: float | None,
    reference: str | None,
    margin: float | None,
    drop_rows: str | None,
    curve: bool,
    output: str | None,
    dropped: str | None,
    unscored: "Unscored",
    action: str,
    system: str | None,
    replace_with: str | None,
    attempts: int | None,
    max_new_tokens: int | None,
    dry_run: bool,
    review: str | None,
    push: str | None,
    public: bool,
    overwrite: bool,
    trust_remote_code: bool,
    as_json: bool,
) -> None:
    """Split DATA into kept and dropped rows by the scores in TABLE; or mask, weigh, change or list.

    No model is run, but for --action mask or replace and a --reference that was never scored. Kept
    rows of JSONL, JSON and CSV are byte-identical to the input. Rows without a score are kept
    unless you say otherwise.

    DATA is what was scored: the same files in the same order, or the same bytes on standard
    input (-). Several files become one.

    \b
    Examples:
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 -o kept.jsonl --dropped dropped.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --fdr 0.1 --reference clean.jsonl -o kept.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.1 --action mask -o masked.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 --action inoculate -o inoculated.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.1 --action replace --dry-run
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.1 --action replace --replace-with http://localhost:8000/v1#MODEL \\
          -o replaced.jsonl --dropped originals.jsonl
      geofilter filter pairs.jsonl --scores pairs.jsonl.scores.parquet \\
          --margin 0.1 --action switch -o switched.jsonl
      geofilter filter train.jsonl --drop-rows review.csv -o reviewed.jsonl
      geofilter filter 'data/train-*.parquet' --scores scores.parquet \\
          --drop-fraction 0.2 -o kept.parquet
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --threshold 0.3 -o - | gzip > kept.jsonl.gz
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 -o kept.jsonl --push hf://datasets/ORG/NAME
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet --curve
    """
    if scores is None and drop_rows is None:
        raise click.UsageError("Missing option '--scores'")
    if curve:
        given = any(one is not None for one in (drop_fraction, threshold, fdr, margin, drop_rows))
        if given or output or dropped or review or push:
            raise click.UsageError("--curve writes nothing: give it no choice and no output")
        assert scores is not None  # there is no --drop-rows
        _curve(data, scores, reference, as_json)
        return
    to_stdout = output == "-"
    if to_stdout and as_json:
        raise click.UsageError(
            "-o - writes rows to standard output, where --json writes its summary; give one"
        )
    if output is None and not dry_run:
        raise click.UsageError("Missing option '-o' / '--output'")
    if push is not None and (to_stdout or action != "drop"):
        raise click.UsageError(
            "--push is of kept rows, from a file: leave --action out, and name the file with -o"
        )
    target = push_target(push, public)
    from geofilter.runs.filter import filter_rows

    with progress() as report:
        found = filter_rows(
            data,
            scores,
            output or "",
            drop_fraction=drop_fraction,
            threshold=threshold,
            fdr=fdr,
            reference=reference,
            margin=margin,
            drop_rows=drop_rows,
            action=action,
            system=system,
            dropped=dropped,
            review=review,
            unscored=unscored,
            replace_with=replace_with,
            attempts=attempts,
            max_new_tokens=max_new_tokens,
            dry_run=dry_run,
            overwrite=overwrite,
            trust_remote_code=trust_remote_code,
            progress=report,
        )
    if not as_json:
        # Nothing but rows may come between rows.
        click.echo("\n".join(found.lines), err=to_stdout)
    pushed = {}
    if target is not None:
        from geofilter.runs.push import push_kept

        choice = {
            "drop fraction": drop_fraction,
            "threshold": threshold,
            "FDR": fdr,
            "margin": margin,
            "list": drop_rows,
        }
        pushed["pushed"] = push_kept(target, output or "", found, scores, choice)
        if not as_json:
            click.echo(f"Pushed → {escape(pushed['pushed'], None)}")
    if as_json:
        print_json({**found.figures, **pushed, "reading": found.reading.record()})
    say_read(found.source, found.reading)
    for one in found.notes:
        note(one)


def _curve(data: "Data", scores: str, reference: str | None, as_json: bool) -> None:
    from geofilter.runs.choice import curve_of

    with progress() as report:
        found = curve_of(data, scores, reference, progress=report)
    if as_json:
        print_json(found.as_record())
    else:
        _print_points(found.points, with_estimate=found.reference is not None)
    for one in found.notes:
        note(one)


def _print_points(points: "list[CurvePoint]", *, with_estimate: bool) -> None:
    head = ["choice", "drops scores from", "rows", "share"]
    cells = [
        [
            f"--drop-fraction {point.drop_fraction:g}"
            if point.fdr is None
            else f"--fdr {point.fdr:g}",
            "-" if point.threshold is None else f"{point.threshold:.6g}",
            f"{point.dropped:,}",
            f"{point.share:.1%}",
        ]
        for point in points
    ]
    if not with_estimate:
        print_table(head, cells)
        return
    for row, point in zip(cells, points, strict=True):
        row.append("-" if point.estimated_fdr is None else f"{point.estimated_fdr:.3f}")
    print_table([*head, "clean among them, at most about"], cells)
    click.echo(
        "\nThe last column is of different rows. It takes all for clean and the reference for one\n"
        "like them. For an FDR that is chosen beforehand it is a bound on average; for one picked\n"
        "here it is not."
    )
