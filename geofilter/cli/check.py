"""`geofilter check`: files of rows in, findings out; exit 1 when there are any."""

import os
import sys
from typing import TYPE_CHECKING

import click

from geofilter.cli.options import device_option, json_option
from geofilter.cli.output import note, print_json, progress
from geofilter.support.display import inert

if TYPE_CHECKING:
    from geofilter.gate.check import Verdict
    from geofilter.gate.output import Format
    from geofilter.gate.policy import Policy


@click.command("check")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option(
    "--no-model",
    is_flag=True,
    help="Never load the model: a row that the lock does not know is a finding.",
)
@click.option(
    "--rescore",
    is_flag=True,
    help="Score all rows again, compare with the lock, and put the new scores into it.",
)
@click.option(
    "--accept",
    "places",
    multiple=True,
    metavar="FILE:LINE",
    help="Let a row pass that is refused for its score: someone has read it. Repeatable.",
)
@click.option("--prune", is_flag=True, help="Leave out of the lock what is in none of the files.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "github", "sarif", "junit"]),
    default="text",
    show_default=True,
    help="How findings are written to standard output.",
)
@click.option(
    "--exit-non-zero-on-update",
    is_flag=True,
    help="Exit with 1 when the lock was written, or git does not know it yet, so that a commit "
    "waits for it.",
)
@device_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    files: tuple[str, ...],
    no_model: bool,
    rescore: bool,
    places: tuple[str, ...],
    prune: bool,
    style: "Format",
    exit_non_zero_on_update: bool,
    device: str,
    as_json: bool,
) -> None:
    """Refuse rows that lie at or above the threshold of the policy.

    The policy is [tool.geofilter] in the nearest pyproject.toml; without FILE, all files are
    checked that it lists. FILE may be a pattern in quotes, or a folder: all files of rows
    that match it or lie in it. Scores are kept in geofilter.lock, to be committed with the
    data: a row is scored once. Findings go to standard output, and the exit code is then 1.

    \b
    Example:
      geofilter check data/train.jsonl                 # scores new rows with the model
      geofilter check --no-model --format github       # in CI, without it
      geofilter check --accept data/train.jsonl:17     # keeps a row that someone has read
    """
    if no_model and rescore:
        raise click.UsageError("--rescore needs the model; leave --no-model out")
    if rescore and places:
        raise click.UsageError("--accept goes by the scores in the lock; leave --rescore out")
    if prune and (files or places):
        raise click.UsageError("--prune looks at all files of the policy; name none")
    if as_json and style != "text":
        raise click.UsageError(f"--json is a format of its own; leave --format {style} out")
    from geofilter.gate.check import check_files
    from geofilter.gate.output import for_server, render, summary
    from geofilter.gate.sarif import fitting, limit_notes

    with progress() as follow:
        verdict = check_files(
            files,
            accept=places,
            no_model=no_model,
            device=device,
            rescore=rescore,
            prune=prune,
            progress=follow,
        )
    policy = verdict.policy
    findings, passed = (for_server(of, style) for of in (verdict.findings, verdict.passed))
    if as_json:
        print_json(summary(verdict))
    else:
        _print(render(findings, verdict.files, style, judged=verdict.judged, passed=passed))
    for file, reading in verdict.readings.items():
        _note(f"{file}: {reading}")
    cut = limit_notes(len(findings), len(fitting(findings))) if style == "sarif" else []
    for message in (*verdict.notes, *cut, *(passed.text for passed in verdict.passed)):
        _note(message)
    if places:
        _note(_accepted(policy) if verdict.judged else _NOT_ACCEPTED)
    _summarise(verdict)
    waits = exit_non_zero_on_update and verdict.lock_changed
    if exit_non_zero_on_update and not waits:
        for name in policy.unknown_to_git():
            _note(f"git does not know {name}, and a commit would lack it; git add {name}")
            waits = True
    if verdict.findings or waits:
        ctx.exit(1)


def _print(text: str) -> None:
    """Write results, escaped where the encoding of standard output lacks a character."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=False)


_NOT_ACCEPTED = "nothing was accepted: the lock has to fit first"


def _accepted(policy: "Policy") -> str:
    name = os.path.relpath(policy.accepted_path)
    return f"{name} was updated; have it reviewed, and commit it with the data (git add {name})"


def _note(message: str) -> None:
    """Say something on standard error, which a build server reads as well."""
    note(inert(message))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _summarise(verdict: "Verdict") -> None:
    known = f", {verdict.n_audited} locked ones compared" if verdict.n_audited else ""
    unscored = f"; {verdict.n_unscored:,} without a score" if verdict.n_unscored else ""
    accepted = f", {verdict.n_accepted:,} accepted" if verdict.n_accepted else ""
    _note(
        f"{_count(verdict.n_rows, 'row')} of {_count(len(verdict.files), 'file')}: "
        f"{verdict.n_scored:,} scored now{known}{unscored}; "
        f"{_count(len(verdict.findings), 'finding')}{accepted}"
    )
    if verdict.lock_changed:
        lock = os.path.relpath(verdict.policy.lock_path)
        _note(f"{lock} was updated; commit it with the data (git add {lock})")
