"""The two answers of a preference row exchanged, in the row's own layout.

As with a system turn, the ways that may do are tried, and the row is read again after each: the
first by which its two samples have changed places, and nothing else has changed, is taken.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from geofilter.data.layouts.cells import Record
from geofilter.data.layouts.choose import Layout, Layouts
from geofilter.data.problems import CannotChange, Unscorable

# The columns of a pair, by the layout's own names for them.
_PAIRS = (
    ("chosen", "rejected"),
    ("preferred_output", "non_preferred_output"),
    ("response", "rejected_response"),
    ("messages", "rejected_messages"),
)


def exchanged(layouts: Layouts, record: Record) -> dict[str, object]:
    """The columns of `record` that change, with new values, for its two samples to change places.

    Columns that are not read but named after the sides, such as `score_chosen` and
    `score_rejected`, change places too. Raises `CannotChange` where the row has one answer, or no
    way is found, and `Unscorable` for a row that cannot be read.
    """
    samples = layouts.samples(record)
    if len(samples) != 2:
        raise CannotChange("it has one answer")
    layout = layouts.of(record)
    for values in _ways(layout, record):
        try:
            found = layouts.samples({**record, **values})
        except Unscorable:
            continue
        if found == samples[::-1]:
            return values
    raise CannotChange(f"the answers of this row of the layout {layout.name} cannot change places")


def _ways(layout: Layout, record: Record) -> Iterator[dict[str, object]]:
    columns = layout.columns
    for pair in _PAIRS:
        if all(columns.get(role) in record for role in pair):
            one, other = (columns[role] for role in pair)
            sides: dict[str, object] = {one: record[other], other: record[one]}
            yield {**sides, **_named_after_sides(record, columns)}
    if columns.get("completions") in record:
        column = columns["completions"]
        yield {column: _with_scores_exchanged(record[column])}
    for role in ("rejected_response", "rejected_messages"):
        if columns.get(role) in record and "messages" in columns:
            talk, rejected = columns["messages"], columns[role]
            yield from _last_answer(talk, record[talk], rejected, record[rejected])


def _named_after_sides(record: Record, columns: Mapping[str, str]) -> dict[str, object]:
    """What is said of each side, with the side that it is of."""
    found: dict[str, object] = {}
    for name in record:
        other = name.replace("chosen", "rejected")
        if other != name and other in record and not {name, other} & set(columns.values()):
            found |= {name: record[other], other: record[name]}
    return found


def _with_scores_exchanged(completions: Any) -> object:
    """Gemini's two completions: the one of the higher score is the chosen one."""
    one, other = completions
    if one["score"] == other["score"]:  # then the first is
        return [other, one]
    return [{**one, "score": other["score"]}, {**other, "score": one["score"]}]


def _last_answer(
    talk: str, messages: Any, rejected: str, answer: Any
) -> Iterator[dict[str, object]]:
    """The answer at the end of a conversation, and one that stands next to it alone."""
    if not isinstance(messages, list) or not isinstance(messages[-1], dict):
        return
    last = messages[-1]
    for key in ("content", "value"):
        if key in last:
            yield {talk: [*messages[:-1], {**last, key: answer}], rejected: last[key]}
    yield {talk: [*messages[:-1], answer], rejected: last}
    if isinstance(answer, list):
        yield {talk: [*messages[: -len(answer)], *answer], rejected: messages[-len(answer) :]}
