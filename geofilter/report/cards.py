"""One row as it is shown: its place, its score, what it says, and what it activated."""

import math
from collections.abc import Sequence

from geofilter.data.problems import Problem
from geofilter.report.contents import Contents
from geofilter.report.explained import Activated, activated, strengths
from geofilter.report.html import EMPTY, Html, bdi, join, note, prose, table, tag, text
from geofilter.report.row_texts import RowText, TurnText
from geofilter.report.svg import number
from geofilter.scoring.explanation import ExplainedToken, Explanation
from geofilter.scoring.table import ScoreRow

_TOKENS_SHOWN = 400
_SHADES = 4
_FAINT = 0.12  # of the strongest; what is less is not marked
_SNIPPET = 90
_WORD = 24
WOULD_GO, WOULD_STAY = "would be dropped", "would be kept"


def open_card(contents: Contents, row: int) -> Html:
    """The whole row."""
    return tag(
        "article",
        tag("header", _head(contents, row)),
        _body(contents, row),
        class_="card",
        id=f"row-{row}",
    )


def folded_card(contents: Contents, row: int) -> Html:
    """One line that opens to the whole row."""
    return tag(
        "details",
        tag("summary", _head(contents, row), tag("span", snippet(contents, row), class_="snippet")),
        _body(contents, row),
        class_="row",
    )


def _head(contents: Contents, row: int) -> Html:
    line = contents.lines[row]
    place = contents.read.texts[row].where
    if line.score is None:
        first = tag("strong", line.status.replace("_", " "))
        return join(first, " ", tag("span", place, class_="place"))
    return join(
        tag("strong", f"rank {line.rank:,}"),
        " ",
        tag("span", number(line.score, 4), class_="score"),
        " ",
        _fate(contents, row),
        " ",
        tag("span", place, class_="place"),
    )


def _fate(contents: Contents, row: int) -> Html:
    """What would become of the row; the page's script says it of another threshold."""
    is_dropped = bool(contents.choice.dropped[row])
    name = "dropped" if is_dropped else "kept"
    return tag(
        "span",
        WOULD_GO if is_dropped else WOULD_STAY,
        class_=f"fate {name}" if contents.choice.made else f"fate {name} unchosen",
        data_row=row,
    )


def snippet(contents: Contents, row: int) -> Html:
    """The start of what the row's response says, on one line."""
    turns = contents.read.texts[row].turns
    said = next((turn.text for turn in reversed(turns) if turn.response), "")
    return bdi(" ".join(said.split()), _SNIPPET)


def _body(contents: Contents, row: int) -> Html:
    line = contents.lines[row]
    explained = contents.explained.get(row)
    shown = contents.read.texts[row]
    parts = [_facts(line)]
    if isinstance(explained, Explanation):
        parts.append(_conversation(shown, _marked(explained, contents.strongest)))
        if features := activated(explained.tokens):
            parts.append(_activated(features))
    else:
        parts.append(_conversation(shown, None))
        if isinstance(explained, Problem):
            parts.append(note(f"No token can be named: {explained.reason}."))
        if line.top_features:
            parts.append(_features(contents, line))
    return tag("div", *parts, class_="body")


def _facts(line: ScoreRow) -> Html:
    said = [f"--row {line.row} of explain"]
    if line.score is not None:
        said.append(f"{line.n_tokens:,} response tokens")
    if line.rejected_score is not None:
        said.append(f"the rejected side scores {number(line.rejected_score, 4)}")
    return join(note(" · ".join(said)), note(text(line.reason)) if line.reason else None)


def _conversation(row: RowText, marked: Html | None) -> Html:
    """The turns; `marked`, where it is given, replaces all that is response."""
    turns: list[Html] = []
    is_shown = False
    for turn in row.turns:
        if marked is None or not turn.response:
            turns.append(_turn(turn.role, prose(turn.text), turn, turn.cut))
        elif not is_shown:
            turns.append(_turn("response, by tokens", marked, turn, False))
            is_shown = True
    if marked is not None and not is_shown:
        turns.append(tag("div", marked, class_="said", dir="auto"))
    if row.left_out_turns:
        turns.append(note(f"{row.left_out_turns:,} more turns are not shown."))
    return join(*turns)


def _turn(role: str, said: Html, turn: TurnText, cut: bool) -> Html:
    more = tag("span", " … cut here", class_="cut") if cut else EMPTY
    return tag(
        "div",
        tag("span", role, class_="role"),
        tag("div", said, more, class_="said", dir="auto"),
        class_="turn response" if turn.response else "turn",
    )


def _marked(explained: Explanation, strongest: float) -> Html:
    """The tokens in their order, each shaded by how strongly it pulls the score up."""
    tokens = explained.tokens
    shown: list[object] = []
    after = None
    for token, strength in zip(tokens[:_TOKENS_SHOWN], strengths(explained), strict=False):
        if after is not None and token.position != after:
            shown.append(" ⋯ ")
        shown.append(_token(token, strength / strongest if strongest > 0 else 0.0))
        after = token.position + 1
    if len(tokens) > _TOKENS_SHOWN:
        left = len(tokens) - _TOKENS_SHOWN
        shown.append(tag("span", f" … {left:,} more tokens", class_="cut"))
    return join(*shown)


def _token(token: ExplainedToken, share: float) -> Html:
    if share < _FAINT:
        return prose(token.text)
    body = token.text.lstrip()
    blank = token.text[: len(token.text) - len(body)]
    shade = min(_SHADES, max(1, math.ceil(share * _SHADES)))
    return join(prose(blank), tag("mark", prose(body), class_=f"h{shade}"))


def words(label: Sequence[str]) -> Html:
    """The words of a feature's label."""
    return join(*(part for word in label for part in (bdi(word, _WORD), " ")))


def _activated(features: Sequence[Activated]) -> Html:
    rows = [
        (
            str(one.feature),
            words(one.label) or "no words",
            words(one.tokens),
            number(one.part),
            f"{one.similarity:.2f}",
        )
        for one in features
    ]
    caption = "The toxic features that this row's strongest latents lie nearest to"
    head = ("toxic feature", "usually activated by", "here by", "part", "cosine")
    return table(caption, head, rows, figures=2)


def _features(contents: Contents, line: ScoreRow) -> Html:
    labels = contents.labels
    rows = [
        (
            str(one.feature),
            *((words(labels.get(one.feature, ())),) if labels else ()),
            number(one.weight),
            number(one.proximity),
        )
        for one in line.top_features
    ]
    said = ("words, if toxic",) if labels else ()
    head = ("feature", *said, "above benign by", "proximity to harm")
    raised = "The features that raised this row's score most"
    caption = "Features that were active" if contents.by_direction else raised
    return table(caption, head, rows, figures=2)
