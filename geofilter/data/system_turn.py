"""A system turn put into a row, in the row's own layout and spelling.

Where the system speaks differs: in a first message, in a column of its own, in the prompt or on
both sides of a pair. So the places that may do are tried in order, and the row is read again after
each: the first by which it reads as it did, but for the system turn, is taken.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from geofilter.data.layouts import LAYOUTS
from geofilter.data.layouts.cells import FOR_TEMPLATE, SYSTEMS, Record, is_filled
from geofilter.data.layouts.choose import Layout, Layouts
from geofilter.data.problems import CannotChange, Unscorable
from geofilter.data.samples import Sample, Turn
from geofilter.data.spelled import content_key, from_json, role_key, to_json
from geofilter.data.turns import CONTENT_KEYS

_SYSTEM_ROLES = ("system", "developer")
_GAP = "\n\n"


def sample_with_system(sample: Sample, text: str) -> Sample:
    """The sample with `text` in its system turn: a new one, or at the end of its own.

    A system turn that holds the text already stays as it is. Raises `CannotChange` where the
    sample has no turns.
    """
    if sample.text is not None:
        raise CannotChange("it is plain text, in which no system turn can stand")
    if sample.plain:
        raise CannotChange(
            "its prompt and answer are two texts that trainers join without any turns; write "
            "both as lists of messages"
        )
    first, *others = sample.turns
    if first.role not in _SYSTEM_ROLES:
        turns = (Turn("system", text), *sample.turns)
        prompt_turns = sample.prompt_turns and sample.prompt_turns + 1
        return replace(sample, turns=turns, prompt_turns=prompt_turns)
    if text in first.content:
        return sample
    parts = first.parts and (*first.parts, _GAP + text)
    longer = replace(first, content=_joined(first.content, text), parts=parts)
    return replace(sample, turns=(longer, *others))


def with_system(layouts: Layouts, record: Record, text: str) -> dict[str, object]:
    """The columns of `record` that change, with new values, for its samples to have the turn.

    Nothing where they have it already. Raises `CannotChange` where no place is found for it, and
    `Unscorable` for a row that cannot be read.
    """
    samples = layouts.samples(record)
    wanted = [sample_with_system(sample, text) for sample in samples]
    if wanted == list(samples):
        return {}
    layout = layouts.of(record)
    for values in _ways(layout, record, text):
        try:
            found = layouts.samples({**record, **values})
        except Unscorable:
            continue
        if len(found) == len(wanted) and all(map(_alike, found, wanted)):
            return values
    raise CannotChange(f"no column of the layout {layout.name} takes a system turn here")


def _alike(found: Sample, wanted: Sample) -> bool:
    first, turn = found.turns[:1], wanted.turns[0]
    return (
        [(one.role in _SYSTEM_ROLES, one.content) for one in first] == [(True, turn.content)]
        and replace(found, turns=found.turns[1:], prompt_turns=0)
        == replace(wanted, turns=wanted.turns[1:], prompt_turns=0)
        # Whether the system turn alone counts as prompt decides nothing.
        and max(found.prompt_turns, 1) == max(wanted.prompt_turns, 1)
    )


def _ways(layout: Layout, record: Record, text: str) -> Iterator[dict[str, object]]:
    """Values of columns that may do, the best first."""
    roles = LAYOUTS[layout.name].roles
    columns = {role: column for role in roles if (column := layout.columns[role])}
    own = [column for role, column in columns.items() if role in SYSTEMS]
    for column in (column for column in own if is_filled(record.get(column))):
        yield from ({column: longer} for longer in _longer(record[column], text))
    talks = {}
    for role, column in columns.items():
        if role not in (*SYSTEMS, *FOR_TEMPLATE):
            value = _put(record.get(column), text)
            if value is not None:
                talks[column] = value
    in_talks: list[dict[str, object]] = [
        {column: talks[column] for column in chosen}
        for size in range(1, len(talks) + 1)
        for chosen in combinations(talks, size)
    ]
    in_column: list[dict[str, object]] = []
    if own:
        # A column that the row has, if without anything in it, is the one that its trainer reads.
        column = next((column for column in own if column in record), own[0])
        gemini = column in (columns.get("systemInstruction"), columns.get("system_instruction"))
        spelled = gemini and not isinstance(record.get(column), str)
        in_column = [{column: {"parts": [{"text": text}]} if spelled else text}]
    # Gemini's conversations have no role for the system.
    first, second = (in_column, in_talks) if "contents" in columns else (in_talks, in_column)
    yield from first
    yield from second


def _joined(before: str, text: str) -> str:
    return f"{before}{_GAP}{text}" if before.strip() else text


def _longer(value: Any, text: str) -> Iterator[object]:
    """What the system says, in any of its spellings, with the text after it."""
    if isinstance(value, str):
        yield _joined(value, text)
        if (inner := from_json(value)) is not None:
            yield from map(to_json, _longer(inner, text))
    elif isinstance(value, list):
        yield [*value, _part(value, _GAP + text)]
    elif isinstance(value, Mapping):
        for key in CONTENT_KEYS:
            if value.get(key):
                yield from ({**value, key: longer} for longer in _longer(value[key], text))


def _put(value: Any, text: str) -> object:
    """The conversation with the text in its system turn; None where it is no list of messages."""
    if isinstance(value, str):
        inner = _put(from_json(value), text)
        return None if inner is None else to_json(inner)
    if isinstance(value, Mapping):
        if isinstance(value.get("messages"), list):  # OpenAI's `input`
            inner = _put(value["messages"], text)
            return None if inner is None else {**value, "messages": inner}
        return _put_in_lists(value, text)
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        return None
    first, role = value[0], role_key(value[0])
    if role is None:
        return None
    if str(first[role]).strip().lower() not in _SYSTEM_ROLES:
        return [_message(first, role, text), *value]
    content = content_key(first, role)
    longer = next(_longer(first.get(content), text), text)
    return [{**first, content: longer}, *value[1:]]


def _put_in_lists(value: Mapping[str, Any], text: str) -> object:
    """The same for a struct of lists, one list for each key of the messages."""
    lists = {key: column for key, column in value.items() if isinstance(column, list)}
    if not lists or not all(lists.values()) or len(set(map(len, lists.values()))) > 1:
        return None
    count = len(next(iter(lists.values())))
    inner = _put([{key: lists[key][place] for key in lists} for place in range(count)], text)
    if not isinstance(inner, list):
        return None
    return {**value, **{key: [message.get(key) for message in inner] for key in lists}}


def _message(like: Mapping[str, Any], role: str, text: str) -> dict[str, object]:
    """A message of the system, spelled as another one is."""
    spelled = str(like[role]).strip()
    name = "SYSTEM" if spelled.isupper() else "System" if spelled.istitle() else "system"
    key = content_key(like, role)
    content = like.get(key)
    said: object = [_part(content, text)] if isinstance(content, list) else text
    return {role: name, key: said}


def _part(parts: Sequence[Any], text: str) -> object:
    """A part of a content, spelled as the others are."""
    if any(isinstance(part, str) for part in parts):
        return text
    typed = any(isinstance(part, Mapping) and "type" in part for part in parts)
    return {"type": "text", "text": text} if typed else {"text": text}
