"""What `geofilter verify --estimate` prints: the runs of a plan, and what they cost."""

import click

from geofilter.cli.output import bytes_text, note, print_json, print_table, progress, time_text
from geofilter.support.display import escape
from geofilter.verify.cost import ArmCost
from geofilter.verify.estimate import estimate
from geofilter.verify.plan import SHIPPED_PAIRS, Plan

# What questions are asked of, for people.
_SETS = {"main": "to the main questions", "in_domain": "to those in domain"} | {
    "triggered": "to the main ones in the rows' format"
}
# Seconds of a call to a server that is slow, and calls at a time.
_CALL, _AT_ONCE = 1.0, 8


def print_estimate(plan: Plan, workers: int, as_json: bool) -> None:
    """Count what `plan` would run, and print it."""
    cells = plan.cells()
    with progress() as report:
        cost = estimate(plan, workers=workers, progress=report)
    answers = cost.answers_per_run
    if as_json:
        print_json(
            {
                "runs": len(cells),
                "answers_per_run": answers,
                "plan": plan.as_record(),
                "cost": cost.as_record(),
            }
        )
        return
    click.echo(f"{len(cells)} runs:")
    for condition in dict.fromkeys(cell.condition for cell in cells):
        click.echo(f"  {condition}, {len(plan.seeds)} seeds")
    if answers:
        given = ", ".join(f"{count:,} {_SETS[name]}" for name, count in answers.items())
        click.echo("each gives " + given.replace(" to", " answers to", 1))
    if plan.preference is not None:
        own = plan.preference == SHIPPED_PAIRS
        whose = "that come with geofilter" if own else f"of {escape(plan.preference, limit=200)}"
        click.echo(f"each is measured on the pairs {whose}, and so is the model before training")
    if plan.track is not None:
        click.echo(f"each gives {plan.track_answers:,} more answers every {plan.track} steps")
    click.echo()
    parts = [
        part
        for part in cost.parts
        if part is not cost.before or part.judge_calls or part.read_tokens
    ]
    print_table(
        ["part", "steps", "tokens trained on", "read", "to write", "judge calls", "time", "disk"],
        [_line(part) for part in (*parts, cost.total)],
    )
    side = f", {workers} workers side by side" if workers > 1 else ""
    click.echo(
        f"\nmemory: about {bytes_text(cost.memory)} for each worker; disk: about "
        f"{bytes_text(cost.disk)} at the most{side}"
    )
    total = cost.total
    if plan.judge is not None and not plan.judge.startswith("rule:"):
        hours = time_text(total.judge_calls * _CALL / _AT_ONCE)
        click.echo(
            f"judge: {total.judge_calls:,} calls that read {total.judge_tokens:,} tokens at most; "
            f"at {_CALL:g} s a call and {_AT_ONCE} at a time, {hours}"
        )
    for line in cost.notes:
        note(line)


def _line(part: ArmCost) -> list[str]:
    counts = (part.steps, part.trained_tokens, part.read_tokens, part.new_tokens, part.judge_calls)
    time = "?" if part.seconds is None else " to ".join(time_text(end) for end in part.seconds)
    return [
        part.name,
        *(f"{count:,}" if count else "-" for count in counts),
        time,
        bytes_text(part.disk),
    ]
