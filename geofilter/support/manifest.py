"""What ran: the arguments that decide a table's scores, and other facts about the run.

Two runs with equal `decides` give the same scores; a table is refused when its
own differ from those of the run that reads it, and `difference` says in what.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from geofilter.support.display import escape

_ABSENT = object()
_SHOWN = 48


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Mapping[str, object]) -> dict[str, object]:
    """The value as JSON gives it back, so that a saved manifest equals a fresh one."""
    plain: dict[str, object] = json.loads(_canonical(dict(value)))
    return plain


@dataclass(frozen=True)
class Manifest:
    """The record of one run, kept with the table that it made.

    `decides`: every argument that decides the numbers: fingerprints of the data,
    model, SAE and pack, the scorer, the encoder's settings, versions. Nested
    mappings of JSON values; anything else, NaN included, raises `TypeError` or
    `ValueError`.
    `facts`: what does not decide them: when it started, the command, paths.
    """

    decides: Mapping[str, object]
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "decides", _plain(self.decides))
        object.__setattr__(self, "facts", _plain(self.facts))

    @cached_property
    def hash(self) -> str:
        """64 hexadecimal digits over `decides` alone: equal hash, equal scores."""
        return hashlib.sha256(_canonical(self.decides).encode("ascii")).hexdigest()

    def to_json(self) -> str:
        """One line of ASCII; `from_json` gives the manifest back."""
        whole = {"decides": self.decides, "facts": self.facts, "hash": self.hash}
        return _canonical(whole)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read `to_json`'s line. Raises `ValueError` when it is damaged or foreign."""
        try:
            whole = json.loads(text)
        except RecursionError:
            raise ValueError("not a manifest") from None
        if not isinstance(whole, dict) or not {"decides", "facts", "hash"} <= whole.keys():
            raise ValueError("not a manifest")
        if not isinstance(whole["decides"], dict) or not isinstance(whole["facts"], dict):
            raise ValueError("not a manifest")
        manifest = cls(decides=whole["decides"], facts=whole["facts"])
        if manifest.hash != whole["hash"]:
            raise ValueError("the manifest does not fit its own hash")
        return manifest


def at_path(value: Any, *path: str) -> Any:
    """What is at `path` in a manifest's record, which may be foreign; None where nothing is."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def library_versions(names: Iterable[str]) -> dict[str, str | None]:
    """The installed version of each distribution in `names`; None where it is missing."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


_Path = tuple[str, ...]


def _leaves(value: Mapping[str, object], path: _Path = ()) -> Iterator[tuple[_Path, object]]:
    for key, below in value.items():
        if isinstance(below, dict) and below:
            yield from _leaves(below, (*path, key))
        else:
            yield (*path, key), below


def _shorten(text: str, start: int) -> str:
    """The part of `text` from `start`, with an ellipsis for what is left out."""
    return ("…" if start else "") + escape(text[start:], limit=_SHOWN)


def _show(values: tuple[object, object]) -> tuple[str, str]:
    """Both values, short, and cut so that the place where they differ is seen."""
    texts = ["absent" if v is _ABSENT else json.dumps(v, ensure_ascii=False) for v in values]
    start = 0
    if max(map(len, texts)) > _SHOWN:
        same = 0
        for left, right in zip(*texts, strict=False):
            if left != right:
                break
            same += 1
        start = max(0, same - _SHOWN // 4) if same >= _SHOWN // 2 else 0
    return _shorten(texts[0], start), _shorten(texts[1], start)


def difference(before: Manifest, now: Manifest, *, limit: int = 3) -> list[str]:
    """Name what `decides` differently, at most `limit` keys, in the order of the keys.

    Each entry reads `scorer.name: "nearest" before, "activation" now`; a last
    entry counts the keys that are not named. Empty when the runs are equal.
    Every entry is one line, shortened, and escaped for a terminal.
    """
    old, new = dict(_leaves(before.decides)), dict(_leaves(now.decides))
    entries = []
    for key in sorted(old.keys() | new.keys()):
        pair = old.get(key, _ABSENT), new.get(key, _ABSENT)
        # By their JSON, since 1 == True == 1.0 in Python.
        if _ABSENT not in pair and _canonical(pair[0]) == _canonical(pair[1]):
            continue
        left, right = _show(pair)
        entries.append(f"{escape('.'.join(key))}: {left} before, {right} now")
    hidden = len(entries) - limit
    return entries if hidden <= 0 else [*entries[:limit], f"and {hidden} more"]
