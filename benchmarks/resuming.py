"""The results file of a study: what it has measured already, and how it is written."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geofilter import organism


def organism_facts(*packages: str) -> dict[str, Any]:
    """A hash over all files that ship with the organism, and versions of packages."""
    files = json.loads((organism.FOLDER / "manifest.json").read_text())["files"]
    spelled = json.dumps(files, sort_keys=True).encode()
    return {
        "organism_sha256": hashlib.sha256(spelled).hexdigest(),
        "versions": {name: version(name) for name in packages},
    }


def kept_results(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a results file holds; nothing where there is no file.

    Stops the study where the file holds figures that were measured otherwise: they are
    neither mixed with new ones nor written over.
    """
    if not path.exists():
        return {}
    kept: dict[str, Any] = json.loads(path.read_text())
    other = [name for name, value in facts.items() if kept.get(name) != value]
    if other:
        raise SystemExit(
            f"{path} holds figures of other {', '.join(other)}; move it away, or write "
            "elsewhere with -o"
        )
    return kept


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Indented, but with each cell on a line of its own, so that a diff can be read."""
    path.write_text(_spelled(results, 0) + "\n", encoding="utf-8")


def _spelled(value: Any, depth: int) -> str:
    if isinstance(value, Mapping) and any(isinstance(v, (Mapping, list)) for v in value.values()):
        pad = " " * (depth + 1)
        lines = [f"{pad}{json.dumps(k)}: {_spelled(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    return json.dumps(value)
