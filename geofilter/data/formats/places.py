"""Which files a name stands for, in which order.

A name is a file, a pattern (`data/train-*.parquet`), a folder of files of rows, `-` for
standard input, or a pipe. Files of a pattern or folder come sorted by name, numbers in names
by their value; files that are named one by one stay in their order.
"""

import contextlib
import glob
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

from geofilter.data.formats.shards import check_complete, check_one_split
from geofilter.data.formats.streams import PARQUET_SUFFIXES, shown, split_suffix
from geofilter.data.formats.text_files import SUFFIXES
from geofilter.errors import DataError, OutputError
from geofilter.support.spool import STDIN, STDIN_SHOWN, is_pipe, spooled

Name = str | os.PathLike[str]
Data = Name | Sequence[Name]

HUB = "hf://"
# Score tables of ours, which lie next to the data that they are of, and parts of unfinished ones.
_OWN = ".scores.parquet"
_OWN_PARTS = ".parquet.parts"
# What the hub and `datasets` keep next to rows, in suffixes that rows have.
_NO_ROWS = frozenset({"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json"})
_SAVED = ("dataset_dict.json", "state.json")
_DEEPEST = 2  # folders below the one that is named in which rows are looked for
_LISTED = 3
_NUMBER = re.compile(r"([0-9]+)")


class Place(NamedTuple):
    """A file of rows: its `name` for a person, and the `path` where its bytes are."""

    name: str
    path: Path


class Found(NamedTuple):
    """What `find` found: the places in order, and files of a folder that are not read."""

    places: tuple[Place, ...]
    unread: tuple[str, ...] = ()


def given_names(data: Data) -> tuple[str, ...]:
    """The names in `data`, one or several. Raises `DataError` without any."""
    several = (data,) if isinstance(data, str | os.PathLike) else data
    names = tuple(os.fspath(name) for name in several)
    if not all(names) or not names:
        raise DataError("no file of rows is named; name one or more")
    return names


def in_words(names: Sequence[str]) -> str:
    """Several names for a message: all of a few, else the first and how many there are."""
    spoken = [STDIN_SHOWN if name == STDIN else name for name in names]
    if len(spoken) <= _LISTED:
        return ", ".join(spoken)
    return f"{spoken[0]} and {len(spoken) - 1} more"


def named_by(data: Data) -> str:
    """What an output is named by: the file, the first of several, or the folder.

    Raises `OutputError` for standard input and pipes, which have no lasting name.
    """
    first = given_names(data)[0]
    if first == STDIN or is_pipe(first):
        raise OutputError(
            f"{shown(in_words([first]))}: has no name to call the output by; name one with -o"
        )
    if _is_pattern(first) and not os.path.exists(first):
        first = find([first]).places[0].name
    path = first if first.startswith(HUB) else os.path.abspath(first)
    return PurePath(path).name or "data"


def is_local(name: str) -> bool:
    """Whether `name` is a file, a folder or a pattern of files here: no pipe, and not the hub.

    Quick whatever the name is: a pattern of folders, which may be a search through the whole
    disk, is not followed.
    """
    if os.path.isfile(name) or os.path.isdir(name):
        return True
    if not _is_pattern(name) or glob.has_magic(os.path.dirname(name)):
        return False
    with contextlib.suppress(OSError, ValueError):
        return any(map(os.path.isfile, glob.iglob(name)))
    return False


def natural_order(path: str) -> list[list[tuple[str, int]]]:
    """A key that sorts paths by name, numbers in names by their value."""
    return [_natural(part) for part in PurePath(path).parts] + [[(path, 0)]]


def _natural(name: str) -> list[tuple[str, int]]:
    pieces = _NUMBER.split(name)
    # Compared as text where a number is too long to be one.
    numbers = [int(piece) if len(piece) < 1000 else 0 for piece in pieces[1::2]]
    return list(zip(pieces[::2], [*numbers, 0], strict=True))


def find(names: Sequence[str]) -> Found:
    """The files that `names` stand for, in order.

    Raises `DataError` for a name that stands for none, a file given twice, a shard that is
    missing (`train-00001-of-00003.parquet`), and a folder that holds several splits.
    """
    places: list[Place] = []
    unread: list[str] = []
    for name in names:
        found = _expanded(name)
        places.extend(found.places)
        unread.extend(found.unread)
    _refuse_repetition(places)
    if len(places) > 1:
        check_complete([place.name for place in places])
    return Found(tuple(places), tuple(unread))


def each_file(names: Sequence[str]) -> list[str]:
    """Every file of rows that `names` stand for, each a data set of its own, none twice.

    Patterns and folders give all their files of rows, whatever splits or shards these are;
    other names are given back. Raises `DataError` for a pattern without any.
    """
    found: dict[str, None] = {}
    for name in names:
        # What holds none keeps its name, so that opening it says what is wrong.
        found.update(dict.fromkeys(_each_in(name) or [name]))
    return list(found)


def _each_in(name: str, depth: int = 0) -> list[str]:
    if os.path.isdir(name):
        if _is_saved(name):
            return [name]
        files, folders = _listed(name)
        rows = [file for file in files if _holds_rows(file)]
        below = folders if depth < _DEEPEST else []
        return rows + [file for folder in below for file in _each_in(folder, depth + 1)]
    if _is_pattern(name) and not os.path.exists(name):
        return [place.name for place in _of_pattern(name, alone=True).places]
    return [name]


def _expanded(name: str) -> Found:
    if name == STDIN or is_pipe(name):
        return Found((Place(STDIN_SHOWN if name == STDIN else name, spooled(name)),))
    try:
        kind = os.stat(name).st_mode
    except (OSError, ValueError):
        if _is_pattern(name):
            return _of_pattern(name)
        return Found((Place(name, Path(name)),))  # opening it says what is wrong
    if stat.S_ISDIR(kind):
        return _of_folder(name)
    if not stat.S_ISREG(kind):
        what = "a socket" if stat.S_ISSOCK(kind) else "a device"
        raise DataError(f"{shown(name)}: is {what}; name a file, or pipe rows in and name them -")
    return Found((Place(name, Path(name)),))


def _is_pattern(name: str) -> bool:
    return not name.startswith(HUB) and glob.has_magic(name)


def _of_pattern(pattern: str, *, alone: bool = False) -> Found:
    """The files of rows that match; `alone` if each is a data set of its own."""
    try:
        # The shell leaves a ~ in quotes to us as well.
        found_by = glob.iglob(os.path.expanduser(pattern), recursive=True)
        matches = sorted(found_by, key=natural_order)
    except (OSError, ValueError, re.error):  # a name that is too long, a range turned round
        matches = []
    files = [match for match in matches if os.path.isfile(match)]
    found = [file for file in files if _holds_rows(file)]
    if not found:
        why = f"; what it matches holds no rows ({in_words(matches)})" if matches else ""
        raise DataError(
            f"{shown(pattern)}: no such file, and the pattern matches no file of rows{shown(why)}; "
            "check it"
        )
    if not alone:
        check_complete(found)
        _refuse_packed_twice(found)
    return Found(_places(found), _others(files))


def _of_folder(folder: str) -> Found:
    if _is_saved(folder):
        return Found((Place(folder, Path(folder)),))
    files, folders = _listed(folder)
    found = [file for file in files if _holds_rows(file)]
    below = [one for one in folders if _rows_below(one)]
    if not found:
        if len(below) == 1:
            return _of_folder(below[0])
        if below:
            raise DataError(
                f"{shown(folder)}: holds {len(below)} folders of rows "
                f"({shown(', '.join(map(os.path.basename, below)))}); name one, as in "
                f"{shown(below[0])}"
            )
        return Found((Place(folder, Path(folder)),))  # opening it says what is wrong
    check_one_split(folder, found)
    check_complete(found)
    _refuse_packed_twice(found)
    return Found(_places(found), (*_others(files), *(os.path.join(one, "") for one in below)))


def _is_saved(folder: str) -> bool:
    """Whether `datasets` saved the folder, so that it reads it."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in _SAVED)


def _places(files: Iterable[str]) -> tuple[Place, ...]:
    return tuple(Place(file, Path(file)) for file in files)


def _listed(folder: str) -> tuple[list[str], list[str]]:
    """The files and the folders in a folder, hidden ones left out, each in natural order."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be opened: {error.strerror}") from error
    paths = sorted((os.path.join(folder, name) for name in names), key=natural_order)
    return [path for path in paths if os.path.isfile(path)], [
        path for path in paths if os.path.isdir(path) and not path.endswith(_OWN_PARTS)
    ]


def _rows_below(folder: str, depth: int = 1) -> bool:
    """Whether a folder, or one in it, holds files of rows."""
    try:
        files, folders = _listed(folder)
    except DataError:
        return False
    if any(map(_holds_rows, files)) or os.path.join(folder, "state.json") in files:
        return True
    return depth < _DEEPEST and any(_rows_below(one, depth + 1) for one in folders)


def _holds_rows(file: str) -> bool:
    name = os.path.basename(file)
    if name.endswith(_OWN) or name in _NO_ROWS:
        return False
    return split_suffix(Path(file))[0] in {*SUFFIXES, *PARQUET_SUFFIXES}


def _others(files: Iterable[str]) -> tuple[str, ...]:
    """Files that could be meant to be read and are not; a README is not one of them."""
    return tuple(
        file
        for file in files
        if not _holds_rows(file)
        and os.path.basename(file) not in _NO_ROWS
        and not file.endswith(_OWN)
        and not os.path.basename(file).upper().startswith(("README", "LICENSE", "LICENCE"))
    )


def _refuse_packed_twice(files: Sequence[str]) -> None:
    """Refuse `train.jsonl` next to `train.jsonl.gz`: hardly two parts of one data set."""
    seen: dict[str, str] = {}
    for file in files:
        plain = file if split_suffix(Path(file))[1] is None else os.path.splitext(file)[0]
        if plain in seen:
            raise DataError(
                f"{shown(file)}: may hold the rows of {shown(seen[plain])} once more; name the "
                "files that are meant"
            )
        seen[plain] = file


def _refuse_repetition(places: Sequence[Place]) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for place in places:
        for identity in _identity(place.path):
            seen[identity] += 1
            if seen[identity] > 1:
                raise DataError(f"{shown(place.name)}: is given twice; name each file once")


def _identity(path: Path) -> Iterator[tuple[int, int]]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return
    yield found.st_dev, found.st_ino
