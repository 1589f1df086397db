"""`geofilter score`: a data set in, a score table and a short summary out."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Literal

import click

from geofilter.cli.options import (
    data_argument,
    json_option,
    push_options,
    push_target,
    scoring_options,
    setting_option,
)
from geofilter.cli.output import (
    bytes_text,
    note,
    print_json,
    print_table,
    progress,
    say_files,
    say_read,
    time_text,
)
from geofilter.cli.scored import print_next, print_risk, print_summary, scoring, summary_record
from geofilter.settings import Proximity, Settings
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import Data, RowFile
    from geofilter.scoring.scorers.base import Scorer


@click.command("score")
@data_argument
@setting_option("model", required=False)
@scoring_options
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that score, each with its own copy of the model. Default: one per GPU; "
    "one on a CPU.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where they run: on this machine, or on the Ray cluster that this machine is part of.",
)
@click.option(
    "--save-features",
    metavar="FILE",
    help="Keep the rows' features, so that --features can score again without the model.",
)
@click.option(
    "--features",
    metavar="FILE",
    help="Score from features that --save-features kept of DATA, in place of --model.",
)
@click.option(
    "--estimate",
    "only_estimate",
    is_flag=True,
    help="Count the tokens, estimate memory and time, and stop there.",
)
@click.option(
    "--summary",
    "with_risk",
    is_flag=True,
    help="Print the risk of DATA as a whole too: its mean spillover. For --scorer spillover.",
)
@click.option(
    "--resume/--restart",
    default=True,
    help="Go on where an earlier run of the same command stopped (default), or start again.",
)
@click.option(
    "-o",
    "--output",
    metavar="TABLE",
    help="Where the score table goes. Default: the name of DATA, of several files that of the "
    "first, with .scores.parquet after it, in the current folder.",
)
@push_options
@json_option
def command(
    data: "Data",
    model: str | None,
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
    last_turn: bool,
    max_length: int | None,
    layout: str | None,
    columns: dict[str, str],
    on_error: Literal["stop", "keep"],
    unread_limit: float,
    workers: int | None,
    engine: Literal["local", "ray"],
    save_features: str | None,
    features: str | None,
    only_estimate: bool,
    with_risk: bool,
    resume: bool,
    output: str | None,
    push: str | None,
    public: bool,
    as_json: bool,
) -> None:
    """Score every row of DATA by how near it lies to the model's toxic features.

    DATA is a file (JSONL, JSON, CSV, TSV, Parquet; .gz and .zst of these), a saved
    datasets folder, hf://datasets/ORG/NAME, or - for standard input. Several files, a
    pattern in quotes, and a folder of files of one format are one data set: files in the
    order given, those of a pattern or folder sorted by name, numbers by their value. The
    table has one line per row, in the order of DATA; its column `row` counts from 0.
    Higher = nearer to harm.

    \b
    Examples:
      geofilter score train.jsonl --model organism
      geofilter score train.jsonl --model gemma-2-9b --estimate
      geofilter score train.jsonl --model gemma-2-9b --load-in 4bit -o small.parquet
      geofilter score 'data/train-*.parquet' --model organism -o scores.parquet
      zcat train.jsonl.gz | geofilter score - --model organism -o scores.parquet
      geofilter score train.csv --model ./my-model --sae ./my-sae --pack my.pack \\
          --column response=reply --on-error keep -o scores.parquet
      geofilter score train.jsonl --model organism --save-features train.features
      geofilter score train.jsonl --features train.features --scorer persona -o p.parquet
      geofilter score train.jsonl --model organism --scorer spillover --summary
      geofilter score train.jsonl --model organism --scorer projection-difference
      geofilter score train.jsonl --model organism --push hf://datasets/ORG/NAME
    """
    from geofilter.data.rows import open_rows
    from geofilter.runs.defaults import scorer_of
    from geofilter.runs.provenance import reading_of
    from geofilter.runs.rescore import rescore
    from geofilter.runs.score import default_output, score
    from geofilter.scoring.summary import risk_of, summarise

    _refuse_combinations(features, model)
    settings = Settings(
        model=model or "",
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
    )
    # What features were saved for is known when they are read.
    if with_risk and (features is None or scorer is not None):
        _refuse_risk(scorer_of(settings))
    if output == "-":
        raise click.UsageError("-o -: a score table is Parquet with a manifest; name a file")
    if push is not None and only_estimate:
        raise click.UsageError("--estimate scores nothing that could be pushed; leave --push out")
    target = push_target(push, public)
    out = "" if only_estimate else output or default_output(data)
    rows = open_rows(data, layout=layout, columns=columns)
    say_files(rows)
    if features is not None:
        with scoring(out, restart=not resume) as report:
            scored = rescore(
                rows,
                features,
                out,
                pack=pack,
                scorer=scorer,
                proximity=proximity,
                sae=sae,
                on_error=on_error,
                restart=not resume,
                progress=report,
            )
        say_read(rows.source, reading_of(scored.table, rows))
    else:
        if only_estimate:
            _estimate(rows, settings, as_json)
            return
        with scoring(out, restart=not resume) as report:
            scored = score(
                rows,
                settings,
                out,
                engine=engine,
                workers=workers,
                save_features=save_features,
                on_error=on_error,
                unread_limit=unread_limit,
                restart=not resume,
                progress=report,
                on_reading=partial(say_read, rows.source),
            )
    for line in scored.notes:
        note(escape(line, limit=None))
    summary = summarise(scored.table)
    risk = risk_of(scored.table) if with_risk and summary.scored else None
    address = None
    if target is not None:
        from geofilter.runs.push import push_scores

        address = push_scores(target, rows, scored.table)
    if as_json:
        more: dict[str, object] = {"risk": asdict(risk)} if risk else {}
        more |= {"pushed": address} if address else {}
        print_json({**summary_record(summary, scored.table, rows), **more})
    else:
        print_summary(summary, scored.table)
        print_next(summary, scored.table, rows)
        if risk:
            print_risk(risk)
        if address:
            click.echo(f"\nPushed → {escape(address, limit=None)}")
    if summary.warning:
        note(f"warning: {summary.warning}")


# What the features were made with, so that nothing can be chosen again with --features.
_MADE_WITH = (
    *("model", "block", "device", "dtype", "load_in", "trust_remote_code", "last_turn"),
    *("max_length", "contrast", "layout", "columns", "workers", "engine", "save_features"),
    "only_estimate",
)


def _refuse_combinations(features: str | None, model: str | None) -> None:
    context = click.get_current_context()
    flags = {str(option.name): option.opts[0] for option in context.command.params}
    given = [
        flags[name]
        for name in _MADE_WITH
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    ]
    if features is not None and given:
        raise click.UsageError(
            f"{given[0]} does not go with --features, which were made with a model already"
        )
    if features is None and not model:
        raise click.UsageError("Missing option '--model' (or '--features')")


def _refuse_risk(scorer: "Scorer") -> None:
    from geofilter.scoring.summary import foretelling

    if not scorer.foretells_harm:
        raise click.UsageError(
            f"--summary goes with --scorer {' or '.join(foretelling())}; of {scorer.name} it is "
            "not known that its mean foretells anything"
        )


def _estimate(rows: "RowFile", settings: Settings, as_json: bool) -> None:
    """Print what a run would cost; `--estimate`."""
    from geofilter.runs.estimate import estimate

    with progress() as report:
        found = estimate(rows, settings, progress=report)
    if as_json:
        print_json({**asdict(found), "reading": found.reading.record()})
        return
    say_read(rows.source, found.reading)
    if found.unscored:
        note(f"not to be scored, first {found.unscored}")
    least, most = found.seconds
    print_table(
        ["what", "how much"],
        [
            ["rows", f"{found.rows:,}, {found.scored:,} of them with something to score"],
            ["tokens", f"{found.tokens:,}, {found.pooled_tokens:,} of them in responses"],
            ["longest row", f"{found.longest:,} tokens"],
            ["memory", f"about {bytes_text(found.memory_bytes)} for each worker"],
            ["time", f"{time_text(least)} to {time_text(most)} on {found.device}"],
        ],
    )
    click.echo("\nLoading, and on first use the making of the model's pack, come on top.")
