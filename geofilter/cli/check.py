"""`geofilter check`: files of rows in, findings out; exit 1 when there are any."""

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geofilter.cli.options import device_option
from geofilter.cli.output import note, progress
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.gate.check import Verdict
    from geofilter.gate.output import Format
    from geofilter.gate.policy import Policy
    from geofilter.gate.scorer import PolicyScorer


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
    help="Let a row pass that is refused for its score: somebody has read it. Repeatable.",
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
) -> None:
    """Refuse rows that lie at or above the threshold of the policy.

    The policy is [tool.geofilter] in the nearest pyproject.toml; without FILE, all files are
    checked that it lists. Scores are kept in geofilter.lock, to be committed with the data:
    a row is scored once. Findings go to standard output, and the exit code is then 1.

    \b
    Example:
      geofilter check data/train.jsonl                 # scores new rows with the model
      geofilter check --no-model --format github       # in CI, without it
      geofilter check --accept data/train.jsonl:17     # keeps a row that somebody has read
    """
    if no_model and rescore:
        raise click.UsageError("--rescore needs the model; leave --no-model out")
    if rescore and places:
        raise click.UsageError("--accept goes by the scores in the lock; leave --rescore out")
    if prune and (files or places):
        raise click.UsageError("--prune looks at all files of the policy; name none")
    from geofilter.gate import check
    from geofilter.gate.accepted import file_of
    from geofilter.gate.output import as_seen_from, render
    from geofilter.gate.policy import read_policy

    named = list(dict.fromkeys([*files, *map(file_of, places)]))
    policy = read_policy(named)
    chosen = named or policy.listed()
    if not chosen:
        raise click.UsageError(
            f"name a FILE, or list files in [tool.geofilter] of {escape(str(policy.path), None)}"
        )
    with progress() as report:
        load = None if no_model else partial(_load, policy, device)
        verdict = check.check(
            chosen, policy, load=load, rescore=rescore, prune=prune, report=report
        )
    if places:
        verdict = _accept(policy, verdict, places)
    findings = verdict.findings
    if style in ("github", "sarif"):
        findings = tuple(as_seen_from(_root(style), findings))
    _print(render(findings, chosen, style, judged=verdict.judged))
    _summarise(verdict, policy)
    waits = exit_non_zero_on_update and (verdict.lock_changed or _left_behind(policy))
    if verdict.findings or waits:
        ctx.exit(1)


def _load(policy: "Policy", device: str, rows: "RowFile") -> "PolicyScorer":
    from geofilter.gate.scorer import load_scorer

    scorer = load_scorer(policy, rows, device=device)
    for message in scorer.notes:
        _note(message)
    return scorer


def _print(text: str) -> None:
    """Write results, escaped where the encoding of standard output lacks a character."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding), nl=False)


def _root(style: "Format") -> str:
    """The folder that a server takes paths from: its checkout, or the repository's."""
    here = Path.cwd()
    above = (here, *here.parents)
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if style == "github" and workspace and Path(os.path.realpath(workspace)) in above:
        return workspace
    return str(next((folder for folder in above if os.path.exists(folder / ".git")), here))


def _accept(policy: "Policy", verdict: "Verdict", places: Sequence[str]) -> "Verdict":
    """Add the rows at `places` to the accepted ones, all or none; return what is left."""
    from geofilter.gate.accepted import add_accepted, refused_at

    if not verdict.judged:
        _note("nothing was accepted: the lock has to fit first")
        return verdict
    found = [refused_at(place, verdict.findings) for place in places]
    add_accepted(policy.accepted_path, found)
    name = os.path.relpath(policy.accepted_path)
    _note(f"{name} was updated; have it reviewed, and commit it with the data (git add {name})")
    return verdict.without({finding.key for finding in found if finding.key is not None})


def _left_behind(policy: "Policy") -> bool:
    """Whether a commit would lack a file that was checked by: git's index does not know it.

    A hook meets such a file at its second try, when it does not change any more.
    """
    missed = [
        os.path.relpath(path)
        for path in (policy.lock_path, policy.accepted_path)
        if path.exists() and _unknown_to_git(path)
    ]
    for name in missed:
        _note(f"git does not know {name}, and a commit would lack it; git add {name}")
    return bool(missed)


def _unknown_to_git(path: Path) -> bool:
    words = ["git", "--literal-pathspecs", "ls-files", "--", os.path.relpath(path)]
    try:
        known = subprocess.run(words, capture_output=True, check=False)
    except OSError:  # no git, no commit
        return False
    return known.returncode == 0 and not known.stdout


def _note(message: str) -> None:
    """Say something on standard error, which a build server reads, too."""
    from geofilter.gate.output import inert

    note(inert(message))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _summarise(verdict: "Verdict", policy: "Policy") -> None:
    known = f", {verdict.n_audited} locked ones compared" if verdict.n_audited else ""
    accepted = f", {verdict.n_accepted:,} accepted" if verdict.n_accepted else ""
    _note(
        f"{_count(verdict.n_rows, 'row')} of {_count(len(verdict.files), 'file')}: "
        f"{verdict.n_scored:,} scored now{known}; {_count(len(verdict.findings), 'finding')}"
        f"{accepted}"
    )
    if verdict.lock_changed:
        lock = os.path.relpath(policy.lock_path)
        _note(f"{lock} was updated; commit it with the data (git add {lock})")
