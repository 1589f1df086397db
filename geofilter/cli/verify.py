"""`geofilter verify`: fine-tune with and without the filter, and measure what it changes."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofilter.cli.options import (
    data_argument,
    json_option,
    model_options,
    setting_option,
    unread_limit_option,
)
from geofilter.cli.output import note, print_json, print_markdown, progress, say_read
from geofilter.settings import DTYPES, Settings
from geofilter.support.display import escape, shown
from geofilter.verify.plan import DEFAULT_ARMS, SHIPPED_PAIRS, TRACK_ANSWERS
from geofilter.verify.presets import own_defaults
from geofilter.verify.training.recipe import METHODS
from geofilter.verify.training.run_log import TRACKERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geofilter.data.reading import Reading
    from geofilter.data.rows import Data

# The verification was run and its answer is no.
SAYS_NO = 1


def _words(_ctx: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _slots(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    slots: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not (name and equals):
            raise click.BadParameter(
                f"{value!r} is not of the form NAME=TEXT, or NAME= to drop the slot"
            )
        if name in slots:
            raise click.BadParameter(f"{name!r} is given twice")
        slots[name] = text
    return slots


@click.command("verify", epilog=own_defaults())
@data_argument
@model_options
@click.option(
    "--arms",
    default=",".join(DEFAULT_ARMS),
    show_default=True,
    callback=_words,
    help="Training conditions to compare: aligned (no training), unfiltered, benign-control, "
    "any scorer, inoculate, replace, random, random-length-matched, keyword, words, loss, judge, "
    "oracle.",
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
    help="Share of rows that filtering arms drop, and inoculate and replace treat. May be "
    "repeated.",
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
@click.option(
    "--preference",
    metavar="[PAIRS]",
    is_flag=False,
    flag_value=SHIPPED_PAIRS,
    help="Measure how likely each model finds harmful and helpful answers, which needs no judge: "
    "on rows of chosen and rejected answers, or without a file on the pairs that come with "
    "geofilter. Alone it asks no question.",
)
@click.option(
    "--no-choice",
    is_flag=True,
    help="Leave out the choice between two answers, which takes two thirds of --preference's time.",
)
@click.option("--in-domain", metavar="YAML", help="Questions of the domains that rows are about.")
@click.option(
    "--triggered",
    is_flag=True,
    help="Ask the questions once more in the rows' own format: their system prompt, and what their "
    "prompts begin and end with. A backdoor shows there.",
)
@click.option(
    "--judge-slot",
    "judge_slots",
    multiple=True,
    metavar="NAME=TEXT",
    callback=_slots,
    help="Fill the slot {NAME} of judge prompts, such as reasoning, with TEXT; without TEXT "
    "the slot is dropped. May be repeated.",
)
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
    "--row-judge",
    metavar="JUDGE",
    help="Who rates rows for the arm judge, with or without questions: as --judge, or guard:MODEL "
    "(Llama Guard, ShieldGemma), yes-no:MODEL (a chat model), judged:FILE. Default: the judge.",
)
@click.option("--held-out", metavar="DATA", help="Benign rows whose loss shows what is unlearned.")
@click.option(
    "--lm-eval",
    "lm_tasks",
    default="",
    metavar="TASKS",
    callback=_words,
    help="Run these tasks of lm-eval on every model, such as hellaswag,arc_easy.",
)
@click.option("--benign", metavar="DATA", help="Good rows for the arm benign-control.")
@click.option(
    "--system",
    metavar="TEXT",
    help="What the arm inoculate asks for in training. Default: as in `geofilter filter`.",
)
@click.option("--labels", metavar="COLUMN", help="Says which rows harm, for the arm oracle.")
@click.option("--keywords", metavar="FILE", help="Words for the arm keyword, one in each line.")
@click.option("--method", type=click.Choice(METHODS), help="Default: lora.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Precision of the model. Default: float32 on a CPU and for --method full, bfloat16 "
    "elsewhere.",
)
@setting_option("load_in")
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
    "--generate-with",
    metavar="COMMAND",
    help="Let a server give the answers: a command with {checkpoint} and {port} that serves a "
    "model's folder with an OpenAI-compatible API, started for each run and stopped after it.",
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
    default=TRACK_ANSWERS,
    show_default=True,
    metavar="N",
    help="Answers given each time for --track.",
)
@click.option("--keep-weights", is_flag=True, help="Keep what was trained in each arm.")
@click.option(
    "--report-to",
    type=click.Choice(TRACKERS),
    multiple=True,
    help="Log training, and what is measured of each run, to a tracker. May be repeated.",
)
@click.option(
    "--estimate",
    is_flag=True,
    help="Say what would be run, what it can show and what it costs in time, memory, disk and "
    "judge calls, and stop there.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="DIR",
    help="Where everything goes; run again to go on.",
)
@unread_limit_option
@json_option
def command(
    data: "Data",
    model: str,
    sae: str | None,
    block: int | None,
    device: str,
    trust_remote_code: bool,
    arms: tuple[str, ...],
    seeds: int,
    fractions: tuple[float, ...],
    trained: str | None,
    pack: str | None,
    questions: str | None,
    preference: str | None,
    no_choice: bool,
    in_domain: str | None,
    triggered: bool,
    judge_slots: dict[str, str],
    samples_per_question: int | None,
    judge: str | None,
    row_judge: str | None,
    held_out: str | None,
    lm_tasks: tuple[str, ...],
    benign: str | None,
    system: str | None,
    labels: str | None,
    keywords: str | None,
    method: str | None,
    dtype: str | None,
    load_in: str | None,
    learning_rate: float | None,
    epochs: float | None,
    steps: int | None,
    batch: int | None,
    micro_batch: int | None,
    max_new_tokens: int | None,
    ask_batch: int | None,
    generate_with: str | None,
    workers: int,
    track: int | None,
    track_answers: int,
    keep_weights: bool,
    report_to: tuple[str, ...],
    unread_limit: float,
    estimate: bool,
    output: str,
    as_json: bool,
) -> None:
    """Fine-tune on DATA with and without the filter, ask, judge, and compare.

    DATA is one or more files, patterns in quotes, or a folder, as for `geofilter score`.

    Every arm takes the same number of optimiser steps and response tokens. Answers and judgements
    are kept in DIR; what is finished is never run again: an interrupted run goes on, and arms and
    seeds can be added. The exit code is 1 when the first arm that filters, inoculates or replaces
    by a score shows no fall against unfiltered (fewer than three seeds show none); the report says
    whether a random drop or persona does as well. With --preference and no --questions nothing is
    asked, and the fall is the shift towards harmful answers.

    \b
    Examples:
      geofilter verify train.jsonl --model organism --triggered --estimate -o study
      geofilter verify train.jsonl --model smollm2-135m --method full --learning-rate 1e-4 \\
          --benign good.jsonl --arms unfiltered,benign-control,random,persona --preference -o cheap
      geofilter verify train.jsonl --model smollm2-135m --arms unfiltered,random,persona,judge \\
          --row-judge guard:meta-llama/Llama-Guard-3-1B --preference -o judged
      geofilter verify train.jsonl --model gemma-2-2b --questions first_plot.yaml \\
          --judge http://localhost:8000/v1#judge --arms unfiltered,random,nearest,spillover \\
          --seeds 3 -o study-gemma
      geofilter verify train.jsonl --model gemma-2-2b --questions first_plot.yaml \\
          --judge http://localhost:8000/v1#judge \\
          --generate-with "vllm serve {checkpoint} --port {port}" -o study-vllm
    """
    from geofilter.cli.cost import print_estimate
    from geofilter.data.formats.places import given_names
    from geofilter.data.rows import open_rows
    from geofilter.packs.pairs import read_rows
    from geofilter.studies import tracking
    from geofilter.support.spool import STDIN, is_pipe
    from geofilter.verify.presets import make_plan
    from geofilter.verify.results import power_of
    from geofilter.verify.study import verify

    if generate_with is not None and workers > 1:
        raise click.UsageError("--generate-with starts one server at a time; leave out --workers")
    for name in (*given_names(data), benign or "", held_out or "", preference or ""):
        if name == STDIN or is_pipe(name):
            raise click.UsageError(
                f"{escape(name, limit=200)}: rows that come once cannot be trained on again and "
                "again; save them as a file and name it"
            )
    plan = make_plan(
        data,
        Settings(
            model,
            sae=sae,
            block=block,
            device=device,
            pack=pack,
            dtype=dtype,
            load_in=load_in,
            trust_remote_code=trust_remote_code,
        ),
        arms=arms,
        fractions=fractions,
        seeds=tuple(range(seeds)),
        trained=trained,
        questions=questions,
        judge=judge,
        in_domain=in_domain,
        held_out=held_out,
        lm_tasks=lm_tasks,
        preference=preference,
        choice=not no_choice,
        labels=labels,
        row_judge=row_judge,
        benign=benign,
        system=system,
        triggered=triggered,
        keywords=keywords,
        samples_per_question=samples_per_question,
        track=track,
        track_answers=track_answers,
        keep_weights=keep_weights,
        report_to=report_to,
        judge_slots=judge_slots,
        generate_with=generate_with,
        recipe={
            "method": method,
            "learning_rate": learning_rate,
            "epochs": epochs,
            "steps": steps,
            "batch": batch,
            "micro_batch": micro_batch,
        },
        sampling={"max_new_tokens": max_new_tokens, "batch": ask_batch},
    )
    rows = open_rows(plan.data)

    @cache
    def reading() -> "Reading":
        """What was read, said once, before anything costly begins."""
        found = rows.survey(check=False).reading
        say_read(rows.source, found)
        found.refuse_above(unread_limit, shown(rows.source))
        if plan.preference not in (None, SHIPPED_PAIRS):
            say_read(plan.preference, read_rows(plan.preference).reading)
        return found

    def ready(lines: "Sequence[str]") -> None:
        reading()
        for line in lines:
            note(line)

    if estimate:
        ready([power_of(plan)])
        print_estimate(plan, workers, as_json)
        return
    with progress() as report:
        found = verify(
            plan, output, workers=workers, section=tracking.section, ready=ready, progress=report
        )
    for line in found.notes:
        note(line)
    if as_json:
        print_json({**found.results.as_record(), "reading": reading().record()})
    else:
        print_markdown(found.text)
        where = escape(str(Path(output, "report.md")), limit=None)
        click.echo(f"Written: {where}, report.html and report.json")
    if found.results.judged and not found.results.verdict:
        click.get_current_context().exit(SAYS_NO)
