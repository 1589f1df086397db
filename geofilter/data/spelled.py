"""How a row spells its messages: under which keys, and as JSON text or not."""

import json
from collections.abc import Mapping
from typing import Any

from geofilter.data.containers import looks_like_json
from geofilter.data.formats.strict_json import parse_json
from geofilter.data.turns import CONTENT_KEYS, ROLE_KEYS


def role_key(message: Mapping[str, Any]) -> str | None:
    """The key of a message's role; None where it has none."""
    return next((key for key in ROLE_KEYS if isinstance(message.get(key), str)), None)


def content_key(message: Mapping[str, Any], role: str) -> str:
    """The key of what is said, in a message whose role stands under `role`."""
    usual = "value" if role == "from" else "content"
    return next((key for key in (usual, *CONTENT_KEYS) if message.get(key) is not None), usual)


def from_json(value: str) -> object:
    """What a text holds as JSON; None where it is no list or object."""
    if not looks_like_json(value):
        return None
    return parse_json(value.encode("utf-8", "surrogatepass"))[0]


def to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
