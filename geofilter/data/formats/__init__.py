"""Which format a source has, and a reader and writer for it.

By name: `.jsonl .ndjson .jl`, `.json`, `.csv`, `.tsv .tab`, `.parquet .pq`, each
also with `.gz`, `.zst` or `.zstd` after it; a folder that `save_to_disk` wrote;
`hf://datasets/...`. The first bytes decide on a file with another suffix, and on what comes
through a pipe. A `.json` file of JSON lines, as many hubs hold them, is read as JSON lines.
What is several files (`places` says which) is one data set.
"""

import io
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from geofilter.data.formats.json_files import rest_of_line
from geofilter.data.formats.places import HUB, Data, Place, find, given_names, in_words
from geofilter.data.formats.several import Part, SeveralSource, Shard, named
from geofilter.data.formats.source import ROW_LIMIT, Source
from geofilter.data.formats.streams import (
    PARQUET_SUFFIXES,
    open_stream,
    shown,
    skip_bom,
    skip_space,
    split_suffix,
)
from geofilter.data.formats.strict_json import parse_object
from geofilter.data.formats.text_files import DELIMITED, SUFFIXES, TextSource
from geofilter.data.formats.whole_sets import refuse_whole_set
from geofilter.errors import DataError

__all__ = ["Data", "Opened", "open_source"]


_QUESTIONS = "is YAML, which holds no rows; questions go to geofilter verify --questions"
_WORKBOOK = "is a workbook; save the sheet as CSV"
_PACKED = "is compressed in a way that is not read; unpack it, or pack it with gzip or zstd"
_ARCHIVE = "is an archive; unpack it, and name what it holds"
# What a file of no known format is, by its name, and what to do with it.
_OTHERS = {
    ".yaml": _QUESTIONS,
    ".yml": _QUESTIONS,
    ".xlsx": _WORKBOOK,
    ".xls": _WORKBOOK,
    ".bz2": _PACKED,
    ".xz": _PACKED,
    ".lz4": _PACKED,
    ".zip": _ARCHIVE,
    ".tar": _ARCHIVE,
    ".tgz": _ARCHIVE,
    ".7z": _ARCHIVE,
    ".arrow": "is a part of a saved data set; give the folder that save_to_disk wrote",
}


def _skip_object(stream: io.BufferedReader) -> bool:
    """Pass over a line; whether it is an object, or may be one that is too long to be read."""
    line = stream.readline(ROW_LIMIT + 1)
    if len(line) <= ROW_LIMIT:
        return parse_object(line)[0] is not None
    for _ in rest_of_line(stream, line):
        pass
    return True


def _kind(path: Path) -> str:
    suffix, _ = split_suffix(path)
    if suffix in PARQUET_SUFFIXES:
        return "parquet"
    kind = SUFFIXES.get(suffix)
    if kind not in (None, "json"):
        return str(kind)
    with open_stream(path) as stream:
        skip_bom(stream)
        head = skip_space(stream)
        line_is_object = head[:1] == b"{" and _skip_object(stream)
        another_follows = line_is_object and skip_space(stream)[:1] == b"{"
    if another_follows or (line_is_object and kind is None):
        return "jsonl"
    if kind == "json" or head[:1] == b"[":
        return "json"
    if head.startswith(b"PAR1"):
        return "parquet"
    if suffix in _OTHERS:
        raise DataError(f"{shown(path)}: {_OTHERS[suffix]}")
    known = ", ".join([*SUFFIXES, *PARQUET_SUFFIXES])
    raise DataError(
        f"{shown(path)}: the format is not known by the name or the first bytes; "
        f"save it as a file whose name ends in what it is, one of {known}"
    )


class Opened(NamedTuple):
    """A data set: its `name` for messages, the files it lies in, and its rows.

    `files`: the paths, in order; none of a data set on the hub. `unread`: files of a folder
    that are not read.
    """

    name: str
    files: tuple[str, ...]
    unread: tuple[str, ...]
    source: Source


def open_source(data: Data, known: Collection[str]) -> Opened:
    """Open files, a folder, a pattern, standard input, a pipe, or a hub data set.

    `known`: the column names that tell the header of a CSV file from a row. Raises `DataError`
    when it cannot be done.
    """
    names = given_names(data)
    whole = in_words(names)
    for name in names:
        if name.startswith(HUB):
            if len(names) > 1:
                raise DataError(f"{shown(name)}: is on the hub; name it alone, or download it")
            # Arrow and what reads it take half a second to import, and text needs neither.
            from geofilter.data.formats.hub_sets import HubSource

            return Opened(name, (), (), HubSource(name))
    found = find(names)
    if len(found.places) == 1 and found.places[0].name == names[0]:
        (place,) = found.places
        if str(place.path) == place.name:
            return Opened(whole, (place.name,), (), _open_one(place.path, known))
    parts = [Part(place.name, place.path, _open_part(place, known)) for place in found.places]
    if len({part.source.format for part in parts}) > 1:
        parts = [_as_lines(part, known) for part in parts]
    # The copy of a pipe has no name that means anything to a person.
    files = tuple(
        str(place.path) if Path(place.name) == place.path else place.name for place in found.places
    )
    return Opened(whole, files, found.unread, SeveralSource(whole, parts))


def _open_part(place: Place, known: Collection[str]) -> Shard:
    with named(place.name, place.path):
        source = _open_one(place.path, known)
    if not isinstance(source, Shard):
        raise DataError(f"{shown(place.name)}: is a saved data set; name it alone")
    return source


def _as_lines(part: Part, known: Collection[str]) -> Part:
    """A `.json` file of no or one line as JSON lines: by itself nobody can tell what it is."""
    if part.source.format != "json":
        return part
    with open_stream(part.path) as stream:
        skip_bom(stream)
        head = skip_space(stream)
        one = not head or (head[:1] == b"{" and _skip_object(stream) and not skip_space(stream))
    return part._replace(source=TextSource(part.path, "jsonl", known)) if one else part


def _open_one(path: Path, known: Collection[str]) -> Source:
    if os.path.isdir(path):  # unlike Path.is_dir, false for a name that is too long
        from geofilter.data.formats.columnar import FolderSource

        return FolderSource(path)
    # Opened for its checks: missing, not readable, UTF-16, compression and name differ.
    open_stream(path, utf16=split_suffix(path)[0] in DELIMITED).close()
    kind = _kind(path)
    if kind == "parquet":
        from geofilter.data.formats.columnar import ParquetSource

        return ParquetSource(path)
    if kind in ("json", "jsonl"):
        refuse_whole_set(path, kind, known)
    return TextSource(path, kind, known)
