"""Lists and objects in the ways that files keep them, read as plain lists and objects.

A column may hold JSON text, a struct of lists where `datasets` < 4 was given a sequence of
objects, or Spark's maps: Arrow gives these as a list of (key, value) tuples, JSON writers as a
list of `{"key": ..., "value": ...}`.
"""

from collections.abc import Collection, Mapping
from typing import Any

from geofilter.data.formats.strict_json import MAX_DEPTH, parse_json
from geofilter.data.problems import malformed
from geofilter.support.display import escape, quote

_AS_PYTHON = ("[{'", "{'", "[['", "['", "[(")
# A text without one of these holds no messages.
_ROLE_KEYS = ('"role"', '"from"', "'role'", "'from'")
_CONTENT_KEYS = ("'content'", "'value'")


def from_json(text: str, path: str) -> object:
    """The value of a JSON text; raises `Unscorable` (malformed) for any other text."""
    value, fault = parse_json(text.encode("utf-8", "surrogatepass"))
    if fault is None:
        return value
    if text.lstrip().startswith(_AS_PYTHON):
        fault = "it is written as Python writes it; write it with json.dumps"
    fault = escape(fault.removeprefix("not JSON: "), limit=200)
    raise malformed(f"{path} is no JSON: {fault}: {quote(text)}")


def looks_like_json(text: str) -> bool:
    """Whether a text begins as a JSON list or object does."""
    return text.lstrip().startswith(("[", "{"))


def unpacked(value: object, path: str) -> object:
    """The list or object that a text holds as JSON; any other value as it is.

    Raises `Unscorable` (malformed) for a text that only begins as one.
    """
    return from_json(value, path) if isinstance(value, str) and looks_like_json(value) else value


def messages_in(value: object, path: str) -> object:
    """The message or messages that a text holds as JSON; any other value as it is.

    Raises `Unscorable` (malformed) where Python's spelling of them was written in its place.
    """
    if not isinstance(value, str) or not looks_like_json(value):
        return value
    if not any(key in value for key in _ROLE_KEYS):
        return value
    found, fault = parse_json(value.encode("utf-8", "surrogatepass"))
    if fault is not None:
        if value.lstrip().startswith(_AS_PYTHON) and any(key in value for key in _CONTENT_KEYS):
            return from_json(value, path)  # which says so
        return value
    messages = found if isinstance(found, list) else [found]
    return found if messages and all(map(_is_message, messages)) else value


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(value.get(key), str) for key in ("role", "from")
    )


def as_object(value: object, path: str) -> Mapping[str, Any] | None:
    """A value as an object, a map of Spark's too; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if not isinstance(value, list) or not value:
        return None
    pairs: list[tuple[Any, Any]] = []
    for item in value:
        if isinstance(item, list | tuple) and len(item) == 2:
            pairs.append((item[0], item[1]))
        elif isinstance(item, Mapping) and item.keys() == {"key", "value"}:
            pairs.append((item["key"], item["value"]))
        else:
            return None
    if not all(isinstance(key, str) for key, _ in pairs):
        return None
    return _from_pairs(pairs, path)


def _from_pairs(pairs: Collection[tuple[Any, Any]], path: str) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise malformed(f"{path} is a map in which a key occurs twice: {quote(list(pairs))}")
    return found


def as_rows(value: object, path: str, names: Collection[str]) -> object:
    """The list of objects that a struct of lists stands for; any other value as it is.

    `names`: one of these has to be in it. Raises `Unscorable` (malformed) for lists of
    unequal length.
    """
    if not isinstance(value, Mapping) or not any(name in value for name in names):
        return value
    lists = {key: column for key, column in value.items() if column is not None}
    if not lists or not all(isinstance(column, list) for column in lists.values()):
        return value
    sizes = {key: len(column) for key, column in lists.items()}
    count = next(iter(sizes.values()))
    if any(size != count for size in sizes.values()):
        found = ", ".join(f"{escape(key, limit=40)} {size}" for key, size in sizes.items())
        raise malformed(f"{path} is lists of unequal length, one is needed per key: {found}")
    return [{key: column[place] for key, column in lists.items()} for place in range(count)]


def without_nulls(value: Any, path: str, depth: int = 1) -> Any:
    """The value without keys that hold null, in all objects within it; maps become objects.

    Arrow gives each object of a column the keys of all, so that a null there mostly is a
    key that the row never had; the two look alike. As TRL's `remove_none_values`.
    """
    if not isinstance(value, Mapping | list):
        return value
    if depth > MAX_DEPTH:
        raise malformed(f"{path} is nested deeper than {MAX_DEPTH} levels")
    # Only Arrow's maps hold tuples.
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        value = as_object(value, path) or value
    if isinstance(value, list):
        return [without_nulls(inner, path, depth + 1) for inner in value]
    return {
        key: without_nulls(inner, path, depth + 1)
        for key, inner in value.items()
        if inner is not None
    }
