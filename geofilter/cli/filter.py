"""`geofilter filter`: a data set and its score table in, kept and dropped rows out."""

from typing import TYPE_CHECKING, Any, Literal

import click

from geofilter.cli import actions
from geofilter.cli.options import json_option, scores_option, trust_option
from geofilter.cli.output import note, print_json
from geofilter.cli.selection import asked_of, print_curve, selection_options
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.cli.selection import Bound
    from geofilter.selection.choose import Selection


@click.command("filter")
@click.argument("data")
@scores_option
@selection_options
@click.option("--curve", is_flag=True, help="Print what each choice would drop, and write nothing.")
@click.option(
    "-o",
    "--output",
    metavar="KEPT",
    help="Where kept rows go, in the format of DATA; .gz or .zst compresses.",
)
@click.option(
    "--dropped",
    metavar="FILE",
    help="Where dropped rows go, each with its score, rank and reason.",
)
@click.option(
    "--unscored",
    type=click.Choice(["keep", "drop"]),
    default="keep",
    show_default=True,
    help="What becomes of rows without a score.",
)
@click.option(
    "--action",
    type=click.Choice(actions.ACTIONS),
    default="drop",
    show_default=True,
    help="What becomes of the rows chosen. mask: as many response tokens as they hold, the "
    "nearest of all rows, get no loss; this runs the model. weight: the loss falls with the rank. "
    "review: they are listed, nothing changes.",
)
@click.option(
    "--review",
    metavar="FILE",
    help="Where --action review lists rows: *.jsonl or *.csv.",
)
@trust_option
@json_option
def command(
    data: str,
    scores: str,
    curve: bool,
    output: str | None,
    dropped: str | None,
    unscored: Literal["keep", "drop"],
    action: str,
    review: str | None,
    trust_remote_code: bool,
    as_json: bool,
    **choice: Any,
) -> None:
    """Split DATA into kept and dropped rows, by the scores in TABLE; or mask, weigh or list them.

    The model is not run, but for --action mask and a --reference that was never scored. Kept
    rows of JSONL, JSON and CSV are byte-identical to the input. Rows without a score are kept
    unless you say otherwise.

    \b
    Examples:
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 -o kept.jsonl --dropped dropped.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --fdr 0.1 --reference clean.jsonl -o kept.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.1 --action mask -o masked.jsonl
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet --curve
    """
    asked = asked_of(choice)
    if curve:
        if asked.given or output or dropped or review:
            raise click.UsageError("--curve writes nothing: give it no choice and no output")
        print_curve(data, scores, asked.reference, as_json)
        return
    if asked.given != 1:
        raise click.UsageError("give one of --drop-fraction, --threshold and --fdr, or --curve")
    asked.check()
    if output is None:
        raise click.UsageError("Missing option '-o' / '--output'")
    from geofilter.runs.provenance import open_scored
    from geofilter.scoring.summary import warning_of
    from geofilter.scoring.table import ScoreTable
    from geofilter.selection.write import write_split
    from geofilter.support.atomic import check_output

    actions.check(action, output, dropped, review, unscored)
    for path in filter(None, (output, dropped, review)):
        check_output(path)
    table = ScoreTable.read(scores)
    rows = open_scored(data, table)
    chosen, bound = asked.choose(table, unscored=unscored)
    assert chosen is not None
    if action == "drop":
        write_split(rows, table, chosen, output, dropped)
        _tell(chosen, unscored == "keep", output, dropped, bound, as_json)
    else:
        done = actions.act(action, rows, table, chosen, output, review, trust_remote_code)
        actions.tell(action, table, chosen, output, done, as_json)
        if bound:
            bound.warn()
    if warning := warning_of(table):
        note(f"warning: {warning}")


def _tell(
    chosen: "Selection",
    keeps_unscored: bool,
    output: str,
    dropped: str | None,
    bound: "Bound | None",
    as_json: bool,
) -> None:
    n_unscored_kept = len(chosen.unscored) if keeps_unscored else 0
    n_unscored_dropped = len(chosen.unscored) - n_unscored_kept
    if as_json:
        print_json(
            {
                "rows": chosen.n_rows,
                "kept": len(chosen.keep),
                "dropped": len(chosen.drop),
                "unscored": len(chosen.unscored),
                "unscored_kept": n_unscored_kept,
                "unscored_dropped": n_unscored_dropped,
                "scored_dropped": len(chosen.drop) - n_unscored_dropped,
                "threshold": chosen.threshold,
                "tied_kept": chosen.n_tied_kept,
                "kept_file": output,
                "dropped_file": dropped,
                **({"fdr": bound.as_json()} if bound else {}),
            }
        )
    else:
        click.echo(f"{len(chosen.keep):,} of {chosen.n_rows:,} rows kept → {escape(output, None)}")
        place = f" → {escape(dropped, None)}" if dropped is not None else ""
        without = f", {n_unscored_dropped:,} for want of a score" if n_unscored_dropped else ""
        click.echo(f"{len(chosen.drop):,} rows dropped{without}{place}")
        if chosen.threshold is not None:
            click.echo(f"Scores from {chosen.threshold:.6g} up were dropped.")
        if bound:
            click.echo(bound.in_words())
    if bound:
        bound.warn()
    if n_unscored_kept:
        note(f"{n_unscored_kept:,} of the kept rows have no score; --unscored drop leaves them out")
    if chosen.n_tied_kept:
        note(
            f"{chosen.n_tied_kept:,} kept rows have the same score as a dropped one; "
            "only their place in the file decided"
        )
