"""`geofilter screen`: a data set in, kept and dropped rows out; `score` and `filter` in one."""

from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from geofilter.cli.choice import choice_options, kept_options
from geofilter.cli.options import (
    data_argument,
    json_option,
    overwrite_option,
    push_options,
    push_target,
    scoring_options,
    setting_option,
)
from geofilter.cli.output import note, print_json, say_read
from geofilter.cli.scored import print_summary, scoring, summary_record
from geofilter.settings import Proximity, Settings
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import Data
    from geofilter.selection.choose import Unscored


@click.command("screen")
@data_argument
@setting_option("model")
@choice_options
@kept_options(required=True)
@click.option(
    "--scores",
    metavar="TABLE",
    help="Where the score table goes, or is already. Default: as in `geofilter score`.",
)
@scoring_options
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that score. Default: one per GPU; one on a CPU.",
)
@click.option(
    "--resume/--restart",
    default=True,
    help="Take the scores that an earlier run of the same command made (default), or score again.",
)
@push_options
@overwrite_option
@json_option
def command(
    data: "Data",
    model: str,
    sae: str | None,
    block: int | None,
    device: str,
    trust_remote_code: bool,
    dtype: str | None,
    load_in: str | None,
    pack: str | None,
    contrast: str | None,
    scorer: str | None,
    proximity: Proximity,
    drop_fraction: float | None,
    threshold: float | None,
    fdr: float | None,
    reference: str | None,
    output: str,
    dropped: str | None,
    scores: str | None,
    unscored: "Unscored",
    layout: str | None,
    columns: dict[str, str],
    last_turn: bool,
    max_length: int | None,
    on_error: Literal["stop", "keep"],
    unread_limit: float,
    workers: int | None,
    resume: bool,
    push: str | None,
    public: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Score DATA and split it into kept and dropped rows: `score` and `filter` in one go.

    The score table stays, so that `geofilter filter` can choose again, and `explain` and `report`
    show why. Run again after an interruption, scoring goes on where it stopped. Other actions
    than dropping are in `geofilter filter`.

    \b
    Examples:
      geofilter screen train.jsonl --model organism --drop-fraction 0.2 -o kept.jsonl
      geofilter screen train.jsonl --model organism --threshold 0.1 \\
          -o kept.jsonl --dropped dropped.jsonl --overwrite
      geofilter screen train.jsonl --model organism --drop-fraction 0.2 \\
          -o kept.jsonl --push hf://datasets/ORG/NAME
    """
    from geofilter.data.formats.places import given_names
    from geofilter.runs.score import default_output
    from geofilter.runs.screen import screen
    from geofilter.scoring.summary import summarise

    if output == "-" and as_json:
        raise click.UsageError(
            "-o - writes rows to standard output, where --json writes its summary; give one"
        )
    if output == "-" and push is not None:
        raise click.UsageError("--push is of kept rows, from a file: name the file with -o")
    target = push_target(push, public)
    table = default_output(data) if scores is None else scores
    with scoring(table, restart=not resume) as report:
        found = screen(
            data,
            Settings(
                model=model,
                sae=sae,
                block=block,
                device=device,
                pack=pack,
                contrast=contrast,
                scorer=scorer,
                proximity=proximity,
                max_length=max_length,
                last_turn=last_turn,
                dtype=dtype,
                load_in=load_in,
                trust_remote_code=trust_remote_code,
            ),
            output,
            scores=table,
            drop_fraction=drop_fraction,
            threshold=threshold,
            fdr=fdr,
            reference=reference,
            dropped=dropped,
            unscored=unscored,
            layout=layout,
            columns=columns,
            workers=workers,
            on_error=on_error,
            unread_limit=unread_limit,
            restart=not resume,
            overwrite=overwrite,
            progress=report,
            on_reading=partial(say_read, " ".join(given_names(data))),
        )
    scored, filtered = found.scored, found.filtered
    summary = summarise(scored.table)
    if not as_json:
        print_summary(summary, scored.table, err=output == "-")
        # Nothing but rows may come between rows.
        click.echo("\n" + "\n".join(filtered.lines), err=output == "-")
    figures = filtered.figures
    if target is not None:
        from geofilter.runs.push import push_kept

        choice = {"drop fraction": drop_fraction, "threshold": threshold, "FDR": fdr}
        address = push_kept(target, output, filtered, table, choice)
        figures = {**figures, "pushed": address}
        if not as_json:
            click.echo(f"Pushed → {escape(address, limit=None)}")
    if as_json:
        print_json({"score": summary_record(summary, scored.table), "filter": figures})
    for one in dict.fromkeys((*scored.notes, *filtered.notes)):
        note(escape(one, limit=None))
