"""What the names of a data set's files say: which shard of how many, and of which split."""

import glob
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import count, takewhile
from typing import NamedTuple

from geofilter.data.formats.streams import shown
from geofilter.errors import DataError
from geofilter.support.display import escape

# `train-00000-of-00003.parquet`, and with a hash after it, as the hub writes both.
_SHARD = re.compile(r"(?P<stem>.+)-(?P<place>[0-9]{1,9})-of-(?P<of>[0-9]{1,9})(?![0-9])")
_WORDS = re.compile(r"[ ._\-0-9]+")
# As `datasets` takes the words in names of files.
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}


class _Shard(NamedTuple):
    stem: str  # with the folder
    place: int
    place_text: str
    of: int
    of_text: str
    suffix: str


def _shard(file: str) -> _Shard | None:
    folder, name = os.path.split(file)
    match = _SHARD.match(name)
    if match is None:
        return None
    stem, place, of = match.group("stem", "place", "of")
    after = name[match.end() :]
    suffix = after if after.startswith(".") else "*"  # a hash, which is the shard's own
    return _Shard(os.path.join(folder, stem), int(place), place, int(of), of, suffix)


def check_complete(files: Sequence[str]) -> None:
    """Raise `DataError` naming the shard that is missing among `files`."""
    sets: dict[str, dict[int, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    shards = [(file, shard) for file in files if (shard := _shard(file)) is not None]
    for file, shard in shards:
        places = sets[shard.stem][shard.of]
        if shard.place in places:
            raise DataError(
                f"{shown(file)}: is the same shard as {shown(places[shard.place])}; name the one "
                "that is meant"
            )
        places[shard.place] = file
    for file, shard in shards:
        counts = sets[shard.stem]
        if len(counts) > 1:
            first, second = sorted(counts)[:2]
            raise DataError(
                f"{shown(file)}: shards of {first} and of {second} lie side by side; name those "
                f"of one set, as in '{shown(shard.stem)}-*-of-{shard.of_text}*'"
            )
        places = counts[shard.of]
        start = 0 if 0 in places else 1
        if (last := max(places)) >= start + shard.of:
            raise DataError(f"{shown(places[last])}: is no shard of {shard.of}; check its name")
        if len(places) < shard.of:
            # From 0, unless the last one's number shows that they count from 1.
            start = 1 if start and shard.of in places else 0
            missing = next(place for place in count(start) if place not in places)
            width = len(shard.place_text)
            name = f"{shard.stem}-{missing:0{width}d}-of-{shard.of_text}{shard.suffix}"
            more = shard.of - len(places) - 1
            raise DataError(
                f"{shown(name)}: this shard is missing"
                + (f", and {more:,} more" if more else "")
                + f"; there are {len(places)} of {shard.of}; fetch all, or name one file alone"
            )


def check_one_split(folder: str, files: Sequence[str]) -> None:
    """Raise `DataError` where the names of a folder's files say that they are several splits."""
    splits: dict[str, list[str]] = defaultdict(list)
    for file in files:
        splits[_split(file)].append(file)
    if len(splits) < 2:
        return
    named = ", ".join(escape(split) for split in splits if split)
    rest = " and files of no split" if "" in splits else ""
    wanted = splits.get("train") or next(files for split, files in splits.items() if split)
    raise DataError(
        f"{shown(folder)}: holds the splits {named}{rest}; name the files of one, as in "
        f"{shown(_pattern(wanted))}"
    )


def _split(file: str) -> str:
    """The split that a file is of by its name; nothing where the name does not say."""
    shard = _shard(file)
    if shard is not None:
        return os.path.basename(shard.stem)
    words = _WORDS.split(os.path.basename(file).lower())
    return next((_SPLIT_OF[word] for word in words if word in _SPLIT_OF), "")


def _pattern(files: Sequence[str]) -> str:
    """What names these files alone: the one, or a pattern of what their names have in common."""
    if len(files) == 1:
        return files[0]
    shard = _shard(files[0])
    start = f"{shard.stem}-" if shard else _common_start(files).rstrip("0123456789")
    ends = {os.path.splitext(file)[1] for file in files}
    return f"'{glob.escape(start)}*{ends.pop() if len(ends) == 1 else ''}'"


def _common_start(names: Sequence[str]) -> str:
    least, greatest = min(names), max(names)
    same = zip(least, greatest, strict=False)
    return least[: sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], same))]
