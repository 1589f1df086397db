"""JSON that holds a whole data set in one value: named, with how to write its rows alone.

A list of rows under a key, and what pandas' `to_json` and `Dataset.to_dict` give, would else be
read as one row, whose columns fit no layout, or fit one by chance.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from geofilter.data.exchanges import exchange_names
from geofilter.data.formats.json_files import JsonElements, begins_with_turn
from geofilter.data.formats.source import ROW_LIMIT
from geofilter.data.formats.streams import open_stream, shown, skip_bom, skip_space
from geofilter.data.formats.strict_json import decode, parse_object
from geofilter.errors import DataError
from geofilter.support.display import escape

# What is read as a conversation, however many columns of a row its turns have.
_CHATS = frozenset({"messages", "conversations", "conversation", "contents", "history"})
_TURN = frozenset({"role", "from", "author", "speaker", "human", "user", "assistant", "bot"})
_MESSAGE = ({"role", "content"}, {"from", "value"})
_USUAL = frozenset({"data", "rows", "train", "items", "records", "examples", "samples"})
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
_PANDAS = 'df.to_json("rows.jsonl", orient="records", lines=True)'
_DEPTH = 3  # levels of objects in which a list of rows is looked for
_Path = tuple[str, ...]
_HEAD = 2**16  # bytes of an object too large to be parsed that say what it holds


def refuse_whole_set(path: Path, kind: str, known: Collection[str]) -> None:
    """Raise `DataError` where the only value of a JSON file is a data set by itself.

    `kind`: json, or jsonl, of which no more than a line is parsed. `known`: the column names
    that tell a row.
    """
    reason = None
    with open_stream(path) as stream:
        skip_bom(stream)
        start = skip_space(stream)[:1]
        if kind == "json" and start == b"[":
            reason = _list(JsonElements(stream), known)
        elif kind == "json" and start == b"{":
            reason = _object(stream.read(ROW_LIMIT + 1), known)
        elif kind == "jsonl" and start == b"{":
            line = stream.readline(ROW_LIMIT + 1)
            if len(line) <= ROW_LIMIT and not skip_space(stream):
                reason = _object(line, known)
    if reason is not None:
        raise DataError(f"{shown(path)}: {reason}")


def _object(data: bytes, known: Collection[str]) -> str | None:
    if len(data) > ROW_LIMIT:
        return _too_large(decode(data[:_HEAD])[0])
    value, fault = parse_object(data)
    if value is not None:
        return whole_set(value, known)
    extra = _EXTRA.match(fault or "")
    if extra and decode(data)[0][int(extra[1]) - 1 :].startswith("{"):
        return (
            "holds several objects, over several lines each: write each on a line of its own, "
            "as in jq -c . OLD.json > NEW.jsonl"
        )
    return None


def whole_set(value: Mapping[str, object], known: Collection[str]) -> str | None:
    """What the only object of a file holds, and what to do, where that is more than a row."""
    return _pandas(value) or _columns(value, known) or _keyed(value, known) or _listed(value, known)


def _list(rows: JsonElements, known: Collection[str]) -> str | None:
    """What a list holds whose first elements are lists, or turns."""
    first = list(islice(rows, 3))
    if first and all(_turns(row.raw) for row in first):
        return (
            "is a list of conversations, which have no name: name each, as in "
            "jq -c '.[] | {messages: .}' OLD.json > NEW.jsonl"
        )
    if len(first) > 1 and all(_is_turn(row.record, known) for row in first):
        return (
            "is one conversation, whose turns are not rows: give it a name, as in "
            "jq -c '{messages: .}' OLD.json > NEW.jsonl"
        )
    if not first or not all((row.raw or b"").startswith(b"[") for row in first):
        return None
    return (
        "is a list of lists, which do not name their columns; "
        f'pandas: orient="records" names them, as in {_PANDAS}'
    )


def _turns(raw: bytes | None) -> bool:
    return raw is not None and begins_with_turn(raw)


def _is_turn(record: object, known: Collection[str]) -> bool:
    return (
        isinstance(record, dict)
        and any(pair <= record.keys() for pair in _MESSAGE)
        and not _count(record, known)
    )


def _pandas(value: Mapping[str, object]) -> str | None:
    """The forms that pandas calls split and table."""
    data, columns, schema = (value.get(key) for key in ("data", "columns", "schema"))
    rows = isinstance(data, list)
    if rows and isinstance(columns, list) and value.keys() <= {"columns", "index", "data"}:
        form = "split"
    elif rows and isinstance(schema, dict) and "fields" in schema and len(value) == 2:
        form = "table"
    else:
        return None
    return (
        f'is one object that holds a table (pandas\' orient="{form}"), not rows; '
        f'pandas: orient="records" writes rows, as in {_PANDAS}'
    )


def _columns(value: Mapping[str, object], known: Collection[str]) -> str | None:
    """Columns in the place of rows: each an object by row number, or a list."""
    parts = list(value.values())
    if _objects(parts) and not _numbered(value) and _alike(value, known):
        return (
            'is one object that holds columns, not rows; pandas: orient="records" writes rows, '
            f"as in {_PANDAS}"
        )
    lists = [part for part in parts if isinstance(part, list)]
    texts = [value[name] for name in value if name in known]
    if len(lists) < len(parts) or len({len(part) for part in lists}) > 1 or not texts:
        return None
    if lists[0] and all(_cells(part) for part in texts):
        return (
            "is one object that holds columns, not rows (Dataset.to_dict?); write rows, as in "
            'Dataset.from_dict(columns).to_json("rows.jsonl")'
        )
    return None


def _alike(columns: Mapping[str, Any], known: Collection[str]) -> bool:
    """Whether objects have the numbers of rows as their keys, or all the same names of rows."""
    first = next(iter(columns.values()))
    if all(map(_numbered, columns.values())):
        return True
    same = all(part.keys() == first.keys() for part in columns.values())
    # A turn, or the turns of a chat in columns, is a value of a row.
    same = same and len(columns) > 1 and not _TURN & first.keys()
    return same and _count(columns, known) > _count(first, known) == 0


def _keyed(value: Mapping[str, object], known: Collection[str]) -> str | None:
    """Rows under their numbers or names."""
    rows = list(value.values())
    if not _objects(rows):
        return None
    named = len(rows) > 1 and not _count(value, known) and all(_count(row, known) for row in rows)
    if not (named or _numbered(value)):
        return None
    return (
        f"is one object that holds {len(rows)} rows under their keys (pandas' "
        'orient="index"?): write the rows alone into the file, as in '
        "jq -c '.[]' OLD.json > NEW.jsonl"
    )


def _listed(value: Mapping[str, object], known: Collection[str]) -> str | None:
    """One or more lists of rows under keys."""
    outer = _count(value, known)
    chats = _CHATS & value.keys()
    if outer > 1 and not chats:
        return None
    # Columns that must be known in the list: more, the more the object looks like a row itself.
    texts = sum(isinstance(part, str) and len(part.split()) > 1 for part in value.values())
    needed = 1 if chats else 2 if outer else min(texts, 1)
    found = [
        (path, rows)
        for path, rows in _lists(value, _DEPTH)
        if path[0] in chats or not chats
        if path[0] not in chats or not all(map(exchange_names, rows))
        if (path[-1] in _USUAL and not outer)
        or max(_count(row, known) for row in rows[:10]) >= needed
    ]
    if not found:
        return None
    path, rows = found[0]
    if len(found) == 1:
        objects = "1 object" if len(rows) == 1 else f"{len(rows)} objects"
        what = f'is one object; its key "{_shown(path)}" holds a list of {objects}: '
        # As the hub's viewer gives them: {"row_idx": 0, "row": {...}}.
        inner = ".row" if all(isinstance(row.get("row"), dict) for row in rows) else ""
        return f"{what}write that list alone into the file{_recipe(path, inner)}"
    names = ", ".join(f'"{_shown(path)}"' for path, _ in found[:5])
    more = " and more" if len(found) > 5 else ""
    return (
        f"is one object; its keys {names}{more} hold lists of objects: "
        f"write each list into a file of its own{_recipe(path)}"
    )


def _lists(
    value: Mapping[str, object], depth: int, above: _Path = ()
) -> Iterator[tuple[_Path, list[dict[str, object]]]]:
    """The lists of objects that are no turns, with the keys that lead to them."""
    for key, part in value.items():
        if isinstance(part, dict) and depth > 1:
            yield from _lists(part, depth - 1, (*above, key))
        elif isinstance(part, list) and _objects(part) and not _TURN & part[0].keys():
            yield (*above, key), part


def _shown(path: _Path) -> str:
    return escape(".".join(path), limit=60)


def _recipe(path: _Path, inner: str = "") -> str:
    # A key is hostile text: it becomes part of a command only where it is a plain word.
    if not all(map(_PLAIN.fullmatch, path)):
        return ""
    return f", as in jq -c '.{'.'.join(path)}[]{inner}' OLD.json > NEW.jsonl"


def _objects(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, dict) and value for value in values)


def _numbered(value: object) -> bool:
    """Whether the keys are the numbers of rows."""
    return isinstance(value, dict) and all(key.isascii() and key.isdigit() for key in value)


def _cells(values: object) -> bool:
    """Whether a list holds a column's texts or conversations, and not the turns of one."""
    assert isinstance(values, list)
    return all(value is None or isinstance(value, (str, list)) for value in values)


def _count(value: object, known: Collection[str]) -> int:
    return sum(key in known for key in value) if isinstance(value, dict) else 0


_EXTRA = re.compile(r"not JSON: Extra data at character (\d+)")
_SCALAR = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*:\s*(?:"(?:[^"\\]|\\.)*"|[-+.\w]+)\s*,')
_LIST = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*:\s*\[\s*\{')


def _too_large(head: str) -> str:
    """What to do about an object that is longer than a row may be, from how it begins."""
    place = head.find("{") + 1
    while scalar := _SCALAR.match(head, place):
        place = scalar.end()
    found = _LIST.match(head, place)
    reason = "is one object, longer than a row may be"
    if found is None:
        return f"{reason}: write the rows that it holds into the file, one a line"
    try:
        key = str(json.loads(f'"{found[1]}"'))
    except ValueError:
        key = found[1]
    return (
        f'{reason}; its key "{_shown((key,))}" holds a list of objects: '
        f"write that list alone into the file{_recipe((key,))}"
    )
