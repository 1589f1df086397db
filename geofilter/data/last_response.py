"""A row's last response replaced by another text, in the row's own layout and spelling.

As with a system turn, the places that may do are tried, and the row is read again after each: the
first by which it reads as it did, but for that response, is taken.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from geofilter.data.exchanges import exchange_names
from geofilter.data.layouts import LAYOUTS
from geofilter.data.layouts.cells import Record
from geofilter.data.layouts.choose import Layout, Layouts
from geofilter.data.problems import CannotChange, Unscorable
from geofilter.data.samples import Sample, Turn
from geofilter.data.spelled import content_key, from_json, role_key, to_json


def asked_for(sample: Sample) -> tuple[Turn, ...]:
    """The turns that the sample's last response answers.

    Raises `CannotChange` where a text alone cannot take that response's place.
    """
    if sample.text is not None:
        raise CannotChange("it is plain text, which names no question and no response")
    *before, last = sample.turns
    if last.role != "assistant" or len(before) < sample.prompt_turns:
        raise CannotChange("its conversation goes on after the last response")
    if not last.trained:
        raise CannotChange("it says that its last response is not trained on")
    if sample.tools or any(turn.tool_calls or turn.role == "tool" for turn in sample.turns):
        raise CannotChange("it uses tools, which a response in words would pass over")
    if last.reasoning is not None:
        raise CannotChange("its last response comes with reasoning, which would not fit another")
    if not before or before[-1].role != "user" or not before[-1].content.strip():
        raise CannotChange("no question comes right before its last response")
    return tuple(before)


def sample_with(sample: Sample, text: str) -> Sample:
    """The sample with `text` as its last response. Raises `CannotChange` as `asked_for` does."""
    before, last = asked_for(sample), sample.turns[-1]
    if sample.plain:  # joined as it stands, so that what parts the two has to stay
        text = last.content[: len(last.content) - len(last.content.lstrip())] + text
    parts = last.parts and (text,)
    return replace(sample, turns=(*before, replace(last, content=text, parts=parts)))


def with_response(layouts: Layouts, record: Record, text: str) -> dict[str, object]:
    """The columns of `record` that change, with new values, for its last response to be `text`.

    Raises `CannotChange` where no place is found for it or the row has two answers, and
    `Unscorable` for a row that cannot be read.
    """
    wanted = sample_with(only_sample(layouts, record), text)
    layout = layouts.of(record)
    if layout.name == "prompt-completion" and record.get("label") is False:
        raise CannotChange("its label says that its response is one to avoid")
    for values in _ways(layout, record, wanted.turns[-1].content):
        try:
            found = layouts.samples({**record, **values})
        except Unscorable:
            continue
        if found == (wanted,):
            return values
    raise CannotChange(f"no column of the layout {layout.name} takes another response here")


def only_sample(layouts: Layouts, record: Record) -> Sample:
    """The row's one sample. Raises `CannotChange` where it has two answers."""
    sample, *others = layouts.samples(record)
    if others:
        raise CannotChange("it has a chosen and a rejected answer, and only one can be replaced")
    return sample


def _ways(layout: Layout, record: Record, text: str) -> Iterator[dict[str, object]]:
    # The response's column comes last among those that a layout needs.
    for role in reversed(LAYOUTS[layout.name].required):
        column = layout.columns[role]
        yield from ({column: value} for value in _replaced(record.get(column), text))


def _replaced(value: Any, text: str) -> Iterator[object]:
    """A text, a message or a conversation with another response at its end."""
    if isinstance(value, str):
        if (inner := from_json(value)) is not None:
            yield from map(to_json, _replaced(inner, text))
        yield text
    elif isinstance(value, list) and value and isinstance(value[-1], Mapping):
        yield from ([*value[:-1], message] for message in _in_message(value[-1], text))
    elif isinstance(value, Mapping):
        yield from _in_message(value, text)
        yield from _in_lists(value, text)


def _in_message(message: Mapping[str, Any], text: str) -> Iterator[dict[str, object]]:
    role = role_key(message)
    if role is not None:
        key = content_key(message, role)
        yield from ({**message, key: content} for content in _contents(message.get(key), text))
    elif (names := exchange_names(message)) is not None:
        yield {**message, names[1]: text}


def _contents(content: Any, text: str) -> Iterator[object]:
    if not isinstance(content, list):
        yield text
        return
    for part in content:
        if isinstance(part, str):
            yield [text]
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            yield [{**part, "text": text}]


def _in_lists(value: Mapping[str, Any], text: str) -> Iterator[dict[str, object]]:
    """The same for a struct of lists, one list for each key of the messages."""
    for key, column in value.items():
        if isinstance(column, list) and column:
            yield from ({**value, key: [*column[:-1], one]} for one in _contents(column[-1], text))
