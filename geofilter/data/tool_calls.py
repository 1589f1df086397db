"""Tools, and calls of them, as the spellings of trainers and vendors give them.

Definitions and calls are kept as the row spells them. Calls that stand elsewhere than in
`tool_calls` (in a content part, in a text, in `function_call`) become calls as OpenAI spells them,
which chat templates take.
"""

import json
from collections.abc import Mapping
from typing import Any

from geofilter.data.containers import as_rows, looks_like_json, unpacked, without_nulls
from geofilter.data.formats.strict_json import parse_json
from geofilter.data.problems import malformed
from geofilter.support.display import kind_of, quote

Objects = tuple[dict[str, Any], ...]

_KEYS = ("type", "function", "name", "toolSpec")  # of a definition or call; for a struct of lists


def read_objects(value: object, path: str) -> Objects | None:
    """A list of objects, or None where there is none; JSON text of it, also item by item.

    An empty list stays one: some templates write something for it.
    """
    if value is None or (isinstance(value, str) and value.strip() in ("", "null")):
        return None
    given = without_nulls(as_rows(unpacked(value, path), path, _KEYS), path)
    if isinstance(given, list):
        given = [unpacked(item, f"{path}[{place}]") for place, item in enumerate(given)]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise malformed(f"{path} is {kind_of(given)}, a list of objects is needed: {quote(value)}")
    return tuple(given)


def read_tools(value: object) -> Objects | None:
    """The row's tool definitions: a list, JSON text of it, or a list of JSON texts.

    They stay as the row spells them. `[]` gives an empty tuple, null and blank text give None.
    """
    return read_objects(value, "tools")


def function_call(
    name: object, arguments: object, path: str, place: object = None
) -> dict[str, Any]:
    """One call as OpenAI spells it. `place`: its id, if it has one."""
    if not isinstance(name, str):
        raise malformed(f"{path}.name is {kind_of(name)}, text is needed: {quote(name)}")
    call: dict[str, Any] = {"type": "function"}
    if isinstance(place, str):
        call["id"] = place
    call["function"] = {"name": name, "arguments": {} if arguments is None else arguments}
    return call


def calls_in(value: object, path: str) -> Objects | None:
    """The calls that a value is, as messages of the role `function_call` hold them.

    `{"name": ..., "arguments": ...}`, a list of these, or JSON text of either. None for
    anything else: such a message is text.
    """
    if isinstance(value, str):
        if not looks_like_json(value):
            return None
        value, fault = parse_json(value.encode("utf-8", "surrogatepass"))
        if fault is not None:
            return None
    found = without_nulls(value if isinstance(value, list) else [value], path)
    calls: list[dict[str, Any]] = []
    for call in found:
        inner = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
            return None
        if not {"arguments", "parameters"} & inner.keys():
            return None
        arguments = inner.get("arguments", inner.get("parameters"))
        calls.append(function_call(inner["name"], arguments, path, call.get("id")))
    return tuple(calls) or None


def legacy_call(value: object, path: str) -> Objects | None:
    """The call in `function_call`, where OpenAI's messages had one before `tool_calls`."""
    if value is None or value == "":
        return None
    calls = calls_in(value, path)
    if calls is None:
        raise malformed(f"{path} is no call (name and arguments): {quote(value)}")
    return calls


def as_text(value: object) -> str:
    """A tool's answer as text: itself, or its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
