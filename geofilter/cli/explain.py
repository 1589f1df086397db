"""`geofilter explain`: for one row, which tokens activate which features, near which toxic ones."""

from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

import click

from geofilter.cli.options import data_argument, json_option, scores_option, trust_option
from geofilter.cli.output import note, print_json, print_table, say_read
from geofilter.cli.terminal import styled
from geofilter.runs.defaults import scorer_of
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.problems import Problem
    from geofilter.data.reading import Reading
    from geofilter.data.rows import Data, Row, RowFile
    from geofilter.runs.prepare import Run
    from geofilter.scoring.explanation import ExplainedToken, Explanation
    from geofilter.scoring.table import ScoreRow, ScoreTable

_TOKENS_SHOWN = 8
_TOKENS_MARKED = 6
_TEXT_SHOWN = 1200


@click.command("explain")
@data_argument
@scores_option
@click.option(
    "--row",
    "number",
    required=True,
    type=int,
    metavar="N",
    help="The row, counted from 0 as in the table's column `row`.",
)
@trust_option
@json_option
def command(data: "Data", scores: str, number: int, trust_remote_code: bool, as_json: bool) -> None:
    """Show which tokens of one row activate which features, near which toxic features.

    DATA is what was scored: the same files in the same order. The model, SAE and pack are
    those that made TABLE. N counts from 0; `train.jsonl:17` in a message is the line, which
    counts from 1, so without blank lines it is row 16.

    \b
    Example:
      geofilter explain train.jsonl --scores train.jsonl.scores.parquet --row 16
    """
    from geofilter.runs.prepare import explain_row, prepare_again
    from geofilter.runs.provenance import open_scored
    from geofilter.scoring.summary import warning_of
    from geofilter.scoring.table import ScoreTable
    from geofilter.selection.write import matched

    table = ScoreTable.read(scores)
    line = table.row(number)
    rows = open_scored(data, table)
    row = next(islice(matched(rows, table), number, None))
    if line.score is None:
        _tell_unscored(row, line, as_json)
        return
    run = prepare_again(rows, table, purpose="explained", trust_remote_code=trust_remote_code)
    explanation = explain_row(run, rows.layouts, row)
    if as_json:
        print_json({**_as_json(row, line, explanation), "reading": _reading(rows, row).record()})
    else:
        say_read(row.where, _reading(rows, row))
        _print_head(row, line, table, run)
        _print(explanation, line, run)
    if warning := warning_of(table):
        note(f"warning: {warning}")


def _reading(rows: "RowFile", row: "Row") -> "Reading":
    """How the one row was read."""
    tally = rows.tally()
    tally.add(row.record, row.where, row.problem)
    return tally.reading()


def _tell_unscored(row: "Row", line: "ScoreRow", as_json: bool) -> None:
    if as_json:
        print_json({"where": row.where, **asdict(line), "tokens": []})
        return
    click.echo(
        f"{escape(row.where, limit=None)} (--row {line.row}) has no score: {line.status}; "
        f"{escape(line.reason, limit=None)}"
    )


def _as_json(
    row: "Row", line: "ScoreRow", explanation: "Explanation | Problem"
) -> dict[str, object]:
    from geofilter.data.problems import Problem

    found = None if isinstance(explanation, Problem) else asdict(explanation)
    return {
        "where": row.where,
        **asdict(line),
        "top_features": [feature._asdict() for feature in line.top_features],
        "divided_score": found and found["score"],
        "divided_base": found and found["base"],
        "tokens": found["tokens"] if found else [],
    }


def _print_head(row: "Row", line: "ScoreRow", table: "ScoreTable", run: "Run") -> None:
    n_scored = table.scores.count()
    side = ", the chosen side" if line.rejected_score is not None else ""
    click.echo(
        f"{escape(row.where, limit=None)} (--row {line.row}){side}: score {line.score:.4g} by "
        f"{scorer_of(run.settings).name}, rank {line.rank} of {n_scored:,} (1 = nearest to harm), "
        f"{line.n_tokens} response tokens"
    )
    if line.reason:
        click.echo(escape(line.reason, limit=None))
    if line.nearest_feature is not None:
        label = _label_of(run, line.nearest_feature)
        click.echo(
            f"As a whole it points nearest to toxic feature {line.nearest_feature}"
            f"{label}, cosine {line.nearest_similarity:.2f}."
        )


def _label_of(run: "Run", feature: int) -> str:
    labels = dict(zip(run.pack.ids.tolist(), run.pack.labels, strict=True))
    words = " ".join(escape(token, limit=16) for token in labels.get(feature, ()))
    return f" ({words})" if words else ""


def _print(explanation: "Explanation | Problem", line: "ScoreRow", run: "Run") -> None:
    from geofilter.data.problems import Problem
    from geofilter.scoring.explain import explained_by

    if isinstance(explanation, Problem):
        note(f"no token can be named: {explanation.reason}")
        return
    scorer = scorer_of(run.settings).name
    divided = explained_by(scorer).name
    if divided != scorer:
        click.echo(
            f"\n{scorer} is not a sum over tokens; what follows divides the row's "
            f"`{divided}` score, {explanation.score:.4g}."
        )
    strongest = sorted(explanation.tokens, key=lambda token: -token.contribution)
    marked = {token.position for token in strongest[:_TOKENS_MARKED] if token.contribution > 0}
    pushed = explanation.whole_conversation
    if explanation.base:
        click.echo(
            f"\n{explanation.base:.4g} is where the row starts, the score of "
            f"{explanation.base_of}; the tokens add the rest."
        )
    what = "conversation" if pushed else "response"
    click.echo(f"\nThe {what}, its strongest tokens in [brackets]:\n")
    click.echo(_marked_text(explanation.tokens, marked))
    if not any(token.latents for token in strongest):
        did = "at which a training step pushes" if pushed else "whose activation points"
        click.echo(f"\nThe tokens {did} most towards harm:\n")
        print_table(["token", "part"], [_head_cells(token) for token in strongest[:_TOKENS_SHOWN]])
    else:
        click.echo(
            "\nThe strongest tokens, their part of the score, and the features they activate:\n"
        )
        print_table(
            ["token", "part", "feature", "strength", "near toxic", "cosine", "which is active at"],
            [cells for token in strongest[:_TOKENS_SHOWN] for cells in _token_rows(token)],
        )
    rest = sum(token.contribution for token in strongest[_TOKENS_SHOWN:])
    if strongest[_TOKENS_SHOWN:]:
        click.echo(f"\n{len(strongest) - _TOKENS_SHOWN:,} other tokens: {rest:+.4f} in all.")


def _marked_text(tokens: "tuple[ExplainedToken, ...]", marked: set[int]) -> str:
    shown = []
    for token in tokens:
        text = escape(token.text, limit=40)
        body = text.lstrip(" ")
        blank = text[: len(text) - len(body)]
        shown.append(f"{blank}[{body}]" if token.position in marked else text)
    # Word-level tokenizers decode a token without the blank before it.
    glue = "" if any(text.startswith(" ") for text in shown) else " "
    left = _TEXT_SHOWN
    pieces = []
    for n, (token, text) in enumerate(zip(tokens, shown, strict=True)):
        piece = (glue if n else "") + text
        kept = piece[:left]
        pieces.append(styled(kept, fg="red") if token.position in marked else kept)
        left -= len(piece)
        if left < 0:
            return "".join(pieces) + "…"
    return "".join(pieces)


def _head_cells(token: "ExplainedToken") -> list[str]:
    return [escape(token.text.strip() or token.text, limit=24), f"{token.contribution:+.4f}"]


def _token_rows(token: "ExplainedToken") -> list[list[str]]:
    """One line per latent; the token and its part stand on the first."""
    head = _head_cells(token)
    if not token.latents:
        return [[*head, "none", "", "", "", ""]]
    return [
        [
            *(head if place == 0 else ("", "")),
            str(latent.feature),
            f"{latent.activation:.2f}",
            str(latent.toxic_feature),
            f"{latent.similarity:.2f}",
            " ".join(escape(word, limit=16) for word in latent.label),
        ]
        for place, latent in enumerate(token.latents)
    ]
