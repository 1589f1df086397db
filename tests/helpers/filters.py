"""A GeoFilter of the folder of `cli_folder` and the rows of its data, for tests of GeoFilter."""

import json
from pathlib import Path
from typing import Any

from geofilter import GeoFilter, Settings

_OWN = ("threshold", "unscored", "layout", "columns", "unread_limit")


def make(**options: Any) -> GeoFilter:
    own = {name: options.pop(name) for name in _OWN if name in options}
    settings = {"model": "model", "sae": "sae", "pack": "my.pack"} | options
    return GeoFilter(Settings(**settings), **own)


def records(path: str = "data.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
