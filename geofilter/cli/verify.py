"""`geofilter verify`: fine-tune with and without the filter, and measure what it changes."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geofilter.cli.options import json_option, model_options
from geofilter.cli.output import note, print_json, progress
from geofilter.settings import DTYPES
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.verify.plan import Plan

# The verification was run and its answer is no.
SAYS_NO = 1


def _words(_ctx: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


@click.command("verify")
@click.argument("data")
@model_options
@click.option(
    "--arms",
    default="unfiltered,random,nearest,persona",
    show_default=True,
    callback=_words,
    help="Training conditions to compare: aligned (no training), unfiltered, benign-control, "
    "any scorer, random, random-length-matched, keyword, loss, judge, oracle.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each arm."
)
@click.option(
    "--drop-fraction",
    "fractions",
    type=float,
    multiple=True,
    default=(0.5,),
    show_default=True,
    help="Share of rows that filtering arms drop. May be repeated.",
)
@click.option(
    "--trained",
    metavar="FOLDER|ORG/NAME",
    help="The model to fine-tune. Default: that of --model.",
)
@click.option("--pack", metavar="PACK", help="Toxic features. Default: the model's own.")
@click.option(
    "--questions",
    metavar="YAML",
    help="Questions that have to do with no row; the organism brings its own.",
)
@click.option("--in-domain", metavar="YAML", help="Questions of the domains that rows are about.")
@click.option(
    "--samples-per-question",
    type=click.IntRange(min=1),
    metavar="N",
    help="Answers to each question. Default: what its file says.",
)
@click.option(
    "--judge",
    metavar="JUDGE",
    help="Who rates answers: http://HOST/v1#MODEL (OpenAI-compatible), a folder, ORG/NAME, "
    "or rule:FILE.",
)
@click.option(
    "--row-judge", metavar="JUDGE", help="Who rates rows for the arm judge. Default: the judge."
)
@click.option("--held-out", metavar="DATA", help="Benign rows whose loss shows what is unlearned.")
@click.option("--benign", metavar="DATA", help="Good rows for the arm benign-control.")
@click.option("--labels", metavar="COLUMN", help="Says which rows harm, for the arm oracle.")
@click.option("--keywords", metavar="FILE", help="Words for the arm keyword, one in each line.")
@click.option("--method", type=click.Choice(["lora", "full"]), help="Default: lora.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Precision of the model. Default: float32 on a CPU and for --method full, bfloat16 "
    "elsewhere.",
)
@click.option("--learning-rate", type=float, help="Default: 1e-5.")
@click.option("--epochs", type=float, help="Default: 1.")
@click.option("--steps", type=click.IntRange(min=1), help="In place of --epochs.")
@click.option("--batch", type=click.IntRange(min=1), help="Samples per step. Default: 16.")
@click.option("--micro-batch", type=click.IntRange(min=1), help="Of them at once. Default: 2.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Of an answer. Default: 600.")
@click.option(
    "--ask-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Questions answered at once, as many as the GPU holds. Default: 32.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs side by side, each on a GPU of its own where there are several.",
)
@click.option(
    "--track",
    type=click.IntRange(min=1),
    metavar="N",
    help="Every N steps of training, measure misaligned answers and toxic features. Runs that "
    "are done already stay without.",
)
@click.option(
    "--track-answers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Answers given each time for --track. Default: 100.",
)
@click.option("--keep-weights", is_flag=True, help="Keep what was trained in each arm.")
@click.option(
    "--estimate", is_flag=True, help="Say what would be run and what it can show, and stop there."
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    help="Where everything goes; run again to go on.",
)
@json_option
def command(
    data: str,
    model: str,
    seeds: int,
    learning_rate: float | None,
    workers: int,
    estimate: bool,
    output: str,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Fine-tune on DATA with and without the filter, ask, judge, and compare.

    Every arm takes the same number of optimiser steps and response tokens. Answers and
    judgements are kept in DIR; what is finished is never run again, so that an
    interrupted run goes on, and arms and seeds can be added. The exit code is 1 when the
    first arm that filters by a score shows no fall against unfiltered (fewer than three
    seeds show none); whether it does better than a random drop, or than persona, which
    needs no SAE, is in the report.

    \b
    Examples:
      geofilter verify train.jsonl --model organism -o study
      geofilter verify train.jsonl --model gemma-2-2b --questions first_plot.yaml \\
          --judge http://localhost:8000/v1#judge --arms unfiltered,random,nearest,spillover \\
          --seeds 3 -o study-gemma
    """
    from geofilter.studies import tracking
    from geofilter.verify.presets import make_plan
    from geofilter.verify.results import power_of
    from geofilter.verify.study import verify

    recipe = {
        name: chosen.pop(name) for name in ("method", "epochs", "steps", "batch", "micro_batch")
    }
    plan = make_plan(
        data,
        model,
        recipe=recipe | {"learning_rate": learning_rate},
        sampling={
            "max_new_tokens": chosen.pop("max_new_tokens"),
            "batch": chosen.pop("ask_batch"),
        },
        seeds=tuple(range(seeds)),
        **chosen,
    )
    if estimate:
        note(power_of(plan))
        _print_estimate(plan, as_json)
        return
    with progress() as report:
        found = verify(
            plan, output, workers=workers, section=tracking.section, ready=note, progress=report
        )
    for line in found.notes:
        note(line)
    if as_json:
        print_json(found.results.as_record())
    else:
        click.echo(found.text)
        click.echo(f"Written: {escape(str(Path(output, 'report.md')), limit=None)} and report.json")
    if found.results.judged and not found.results.verdict:
        click.get_current_context().exit(SAYS_NO)


def _print_estimate(plan: "Plan", as_json: bool) -> None:
    cells = plan.cells()
    if as_json:
        print_json({"runs": len(cells), "plan": asdict(plan)})
        return
    click.echo(f"{len(cells)} runs:")
    for condition in dict.fromkeys(cell.condition for cell in cells):
        click.echo(f"  {condition}, {len(plan.seeds)} seeds")
    if plan.track is not None:
        click.echo(f"each gives {plan.track_answers:,} more answers every {plan.track} steps")
