"""A list of messages as turns, in the two spellings that data sets use.

`{"role": ..., "content": ...}` (OpenAI, TRL) and `{"from": ..., "value": ...}`
(ShareGPT), each with reasoning and tool calls. What a row lacks or holds too
much of is named by its path (`messages[1].content`), with the value.
"""

import json
from collections.abc import Mapping
from typing import Any

from geofilter.data.formats.strict_json import MAX_DEPTH
from geofilter.data.problems import malformed
from geofilter.data.samples import Turn
from geofilter.support.display import escape, kind_of, quote

_ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
}


def _parts(content: list[object], path: str) -> str:
    """The text of content parts. A part that is not text cannot be scored, so it is refused."""
    texts = []
    for place, part in enumerate(content):
        shown = f"{path}[{place}]"
        if not isinstance(part, dict):
            raise malformed(f"{shown} is {kind_of(part)}, a content part is needed: {quote(part)}")
        if part.get("type") != "text":
            kind = quote(part.get("type"))
            raise malformed(f"{shown} is a part of type {kind}; only text parts can be read")
        text = part.get("text")
        if not isinstance(text, str):
            raise malformed(f"{shown}.text is {kind_of(text)}, text is needed: {quote(text)}")
        texts.append(text)
    return "".join(texts)


def _content(value: object, path: str, *, may_be_null: bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _parts(value, path)
    if value is None and may_be_null:
        return ""
    if value is None:
        raise malformed(f"{path} is null")
    raise malformed(f"{path} is {kind_of(value)}, text is needed: {quote(value)}")


def _reasoning(message: Mapping[str, object], path: str) -> str | None:
    for name in ("reasoning_content", "thinking"):
        value = message.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise malformed(f"{path}.{name} is {kind_of(value)}, text is needed: {quote(value)}")
    return None


def _objects(value: object, path: str) -> tuple[dict[str, object], ...] | None:
    """A list of objects, or None where there is none. An empty list counts as none."""
    if value is None or value == []:
        return None
    given = _without_nulls(value, path)
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise malformed(f"{path} is {kind_of(value)}, a list of objects is needed: {quote(value)}")
    return tuple(given)


def _without_nulls(value: Any, path: str, depth: int = 1) -> Any:
    """The value without keys that hold null, in all objects within it.

    Arrow gives each object of a column the keys of all, so that a null there mostly is a
    key that the row never had; the two look alike. As TRL's `remove_none_values`.
    """
    if not isinstance(value, Mapping | list):
        return value
    if depth > MAX_DEPTH:
        raise malformed(f"{path} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [_without_nulls(inner, path, depth + 1) for inner in value]
    return {
        key: _without_nulls(inner, path, depth + 1)
        for key, inner in value.items()
        if inner is not None
    }


def _optional_text(message: Mapping[str, object], name: str) -> str | None:
    value = message.get(name)
    return value if isinstance(value, str) else None


def _turn(message: object, path: str) -> Turn:
    if not isinstance(message, Mapping):
        raise malformed(f"{path} is {kind_of(message)}, an object is needed: {quote(message)}")
    # Arrow gives each message of a column both spellings as soon as one row has the other.
    spelled_from = "from" in message and (message["from"] is not None or "role" not in message)
    role_key, content_key = ("from", "value") if spelled_from else ("role", "content")
    if role_key not in message:
        raise malformed(f"{path} has no role: {quote(message)}")
    given = message[role_key]
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise malformed(f"{path}.{role_key} is {quote(given)}; known are {', '.join(_ROLES)}")
    tool_calls = _objects(message.get("tool_calls"), f"{path}.tool_calls")
    reasoning = _reasoning(message, path)
    content_path = f"{path}.{content_key}"
    stands_for_content = tool_calls is not None or reasoning is not None
    if content_key not in message and not stands_for_content:
        raise malformed(f"{path} has no {content_key}: {quote(message)}")
    content = _content(message.get(content_key), content_path, may_be_null=stands_for_content)
    return Turn(
        role,
        content,
        reasoning,
        tool_calls,
        _optional_text(message, "name"),
        _optional_text(message, "tool_call_id"),
    )


def read_turns(value: object, path: str) -> tuple[Turn, ...]:
    """Read a list of messages; raises `Unscorable` (malformed) with the path of the fault."""
    shown = escape(path, limit=60)
    if not isinstance(value, list):
        raise malformed(
            f"{shown} is {kind_of(value)}, a list of messages is needed: {quote(value)}"
        )
    return tuple(_turn(message, f"{shown}[{place}]") for place, message in enumerate(value))


def read_tools(value: object) -> tuple[dict[str, object], ...] | None:
    """The row's tool definitions: a list, or the same as JSON text, as TRL takes them."""
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise malformed(f"tools is no JSON: {escape(str(error))}: {quote(value)}") from error
    return _objects(value, "tools")
