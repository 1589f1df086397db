"""What `geofilter filter --action` does besides dropping, and what it says about it."""

import os
from typing import TYPE_CHECKING

import click

from geofilter.cli.output import note, print_json, progress
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.scoring.table import ScoreTable
    from geofilter.selection.choose import Selection

ACTIONS = ("drop", "mask", "weight", "review")


def check(action: str, output: str, dropped: str | None, review: str | None, unscored: str) -> None:
    """Refuse options that do not go with `action`."""
    if (review is None) == (action == "review"):
        raise click.UsageError("--review and --action review go together")
    if action != "drop" and dropped is not None:
        raise click.UsageError(f"--action {action} drops no row: leave --dropped out")
    if action != "drop" and unscored == "drop":
        raise click.UsageError(f"--action {action} drops no row: leave --unscored drop out")
    beside = dropped or review
    if beside is not None and os.path.realpath(output) == os.path.realpath(beside):
        raise click.UsageError(f"-o and --{'dropped' if dropped else 'review'} name the same file")


def act(
    action: str,
    rows: "RowFile",
    table: "ScoreTable",
    chosen: "Selection",
    output: str,
    review: str | None,
    trust_remote_code: bool,
) -> dict[str, object]:
    """Write all rows to `output` as `action` says; what was done, for programs."""
    from geofilter.selection.write import check_match

    check_match(rows, table)
    if action == "weight":
        from geofilter.selection.actions import write_weighted

        taken = float((1 - write_weighted(rows, table, chosen, output)).sum())
        return {"weight_taken": round(taken, 3)}
    if action == "mask":
        return _mask(rows, table, chosen, output, trust_remote_code)
    from geofilter.selection.review import write_review

    assert review is not None
    listed = write_review(rows, table, chosen, review)
    rows.write(output, range(chosen.n_rows))
    return {"listed": listed, "review_file": review}


def _mask(
    rows: "RowFile",
    table: "ScoreTable",
    chosen: "Selection",
    output: str,
    trust_remote_code: bool,
) -> dict[str, object]:
    from geofilter.runs.prepare import prepare_again
    from geofilter.scoring.explain import token_scorer
    from geofilter.selection.actions import write_masked

    run = prepare_again(rows, table, purpose="masked", trust_remote_code=trust_remote_code)
    settings = run.settings
    divide = token_scorer(run.model, run.scorer.index, settings.scorer, settings.proximity)
    with progress() as report:
        done = write_masked(
            rows,
            table,
            chosen,
            output,
            run.encoder,
            divide,
            progress=lambda count, total: report("tokens of rows", count, total),
        )
    return {
        "tokens": done.tokens,
        "masked_tokens": done.masked,
        "masked_rows": done.rows,
        "lowest_masked": done.lowest,
    }


def tell(
    action: str,
    table: "ScoreTable",
    chosen: "Selection",
    output: str,
    done: dict[str, object],
    as_json: bool,
) -> None:
    """Say what was done, and how it is trained on."""
    longest = _window(table)
    if as_json:
        whole = {"rows": chosen.n_rows, "unscored": len(chosen.unscored), "output_file": output}
        told = {**done, "threshold": chosen.threshold, "max_length": longest}
        print_json({"action": action, **whole, **told})
        return
    click.echo(f"All {chosen.n_rows:,} rows → {escape(output, None)}")
    if action == "review":
        listed = escape(done["review_file"], None)
        click.echo(f"{done['listed']:,} of them are listed for review → {listed}")
    elif action == "weight":
        click.echo(f"{done['weight_taken']:,} rows' weight was taken away.")
    else:
        click.echo(
            f"{done['masked_tokens']:,} of {done['tokens']:,} response tokens get no loss, in "
            f"{done['masked_rows']:,} rows."
        )
    if action != "review":
        note(
            "train on it with geofilter.integrations.trl.LossCollator, or it changes nothing, "
            f"and with max_length={longest}, as rows were read here"
        )


def _window(table: "ScoreTable") -> int | None:
    """Tokens of a row that were read at most."""
    window = table.manifest.decides.get("window")
    longest = window.get("max_length") if isinstance(window, dict) else None
    return longest if isinstance(longest, int) else None
