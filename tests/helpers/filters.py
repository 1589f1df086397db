"""A GeoFilter of the folder of `cli_folder` and the rows of its data, for tests of GeoFilter."""

import json
from pathlib import Path
from typing import Any

from geofilter import GeoFilter


def make(**settings: Any) -> GeoFilter:
    return GeoFilter("model", **({"sae": "sae", "pack": "my.pack"} | settings))


def records(path: str = "data.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
