"""Files of JSON lines that survive a kill: what is written stays, half a line goes."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from geofilter.errors import OutputError
from geofilter.support.atomic import writing
from geofilter.support.display import shown

Record = dict[str, Any]


def read_lines(path: Path) -> list[Record]:
    """All whole lines of a file; none where there is no file.

    A last line without its end was being written when the process was killed, and does not
    count. Raises `OutputError` for a line that is no JSON object.
    """
    if not path.exists():
        return []
    content = path.read_bytes()
    return [_record(path, line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def _record(path: Path, line: bytes) -> Record:
    try:
        record = json.loads(line)
        if isinstance(record, dict):
            return record
    except (ValueError, RecursionError):
        pass
    raise OutputError(f"{shown(path)}: is damaged; remove it and run the same command again")


def append_lines(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Write records after the last whole line of a file and see them onto the disk."""
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    with path.open("a+b") as file:
        _cut_half_a_line(file)
        file.write(text.encode("ascii"))
        file.flush()
        os.fsync(file.fileno())


def keep_lines(path: Path, count: int) -> None:
    """Keep the first `count` lines of a file, and nothing after them."""
    kept = read_lines(path)[:count]
    if path.exists():
        path.unlink()
        append_lines(path, kept)


def _cut_half_a_line(file: BinaryIO) -> None:
    if not file.tell():
        return
    file.seek(-1, os.SEEK_END)
    if file.read() != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def read_json(path: Path) -> Record | None:
    """The object in a file that was written whole; None where there is no file."""
    return _record(path, path.read_bytes()) if path.exists() else None


def write_json(path: Path, record: Mapping[str, object]) -> None:
    """Write one object, whole or not at all."""
    with writing(path, overwrite=True) as file:
        file.write(json.dumps(record, allow_nan=False, indent=1).encode("ascii") + b"\n")
