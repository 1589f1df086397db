"""The gate's policy: `[tool.geofilter]` of the nearest pyproject.toml.

It names what scores are made with and which of them are refused. It is data that may come
from anywhere: a key or value that is not known is an error, and no path leads out of the
folder that the pyproject.toml stands in.

This module knows nothing about models, rows or locks.
"""

import difflib
import hashlib
import math
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from geofilter.errors import PolicyError
from geofilter.scoring.scorers import SCORERS
from geofilter.settings import DTYPES, PROXIMITIES
from geofilter.support.display import escape

_FILE = "pyproject.toml"
_REQUIRED = ("model", "pack", "threshold")


@dataclass(frozen=True)
class Policy:
    """What the gate refuses, and what scores are made with; None stands for the default.

    `root`: the folder of the pyproject.toml; all paths are relative to it. `threshold`: a
    row is refused when its score is this or more (higher = nearer to harm). `pack`: the
    toxic features. `model`, `sae`, `block`, `dtype`, `scorer`, `proximity`, `max_length`,
    `last_turn`: as in `Settings`. `unscored`: whether a row without a score is refused.
    `files`: globs of the files that are checked when none is named. `lock`: the lock file.
    `accepted`: the file of rows that may score what they do.
    `layout`, `columns`: how rows are read, as in `rows.open_rows`.
    """

    root: Path
    model: str
    pack: str
    threshold: float
    sae: str | None = None
    block: int | None = None
    dtype: str | None = None
    scorer: str = "nearest"
    proximity: str = "nearest"
    max_length: int | None = None
    last_turn: bool = False
    unscored: Literal["fail", "pass"] = "fail"
    files: tuple[str, ...] = ()
    lock: str = "geofilter.lock"
    accepted: str = "geofilter.accepted"
    layout: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.root / _FILE

    @property
    def lock_path(self) -> Path:
        return self.root / self.lock

    @property
    def accepted_path(self) -> Path:
        return self.root / self.accepted

    @property
    def pack_path(self) -> Path:
        return self.root / self.pack

    def wrong(self, key: str, what: str) -> PolicyError:
        """An error that quotes the value of `key`; `what` says what is wrong with it."""
        return _wrong(self.path, key, getattr(self, key), what)

    def asked(self) -> dict[str, object]:
        """What decides a score and can be known without the model.

        The pack counts by its bytes. Raises `PolicyError` when it cannot be read.
        """
        return {
            "model": self.model,
            "sae": self.sae,
            "block": self.block,
            "dtype": self.dtype,
            "scorer": self.scorer,
            "proximity": self.proximity if "proximity" in SCORERS[self.scorer].settings else None,
            "max_length": self.max_length,
            "last_turn": self.last_turn,
            "pack_sha256": _sha256(self.pack_path, self.path),
        }

    def listed(self) -> list[str]:
        """The files that `files` stands for, as paths from the current folder, sorted.

        Raises `PolicyError` for a glob that stands for nothing: a gate over no file at all
        would say yes to everything.
        """
        found: set[Path] = set()
        for pattern in self.files:
            try:
                matches = [path for path in self.root.glob(pattern) if path.is_file()]
            except (ValueError, OSError) as error:
                raise _wrong(self.path, "files", pattern, f"is no glob: {error}") from error
            if not matches:
                raise _wrong(self.path, "files", pattern, "stands for no file; correct it")
            for path in matches:
                _check_inside(self.path, "files", str(path.relative_to(self.root)))
            found.update(matches)
        return sorted(os.path.relpath(path) for path in found)


def read_policy(files: Sequence[str | os.PathLike[str]] = ()) -> Policy:
    """The policy for `files`: of the nearest pyproject.toml above them that has one.

    Without files, above the current folder. Raises `PolicyError`, one line, when there is
    none, when the files have different ones, and for whatever is wrong in it.
    """
    starts = [Path(file).parent for file in files] or [Path()]
    places = {start: _find(start) for start in dict.fromkeys(starts)}
    first, *others = dict.fromkeys(places.values())
    if others:
        raise PolicyError(
            f"{_shown(first)} and {_shown(others[0])} each hold a policy for some of the files; "
            "check them one by one"
        )
    return _policy(first, _table(first) or {})


def _find(start: Path) -> Path:
    try:
        folder = start.resolve()
    except _UNRESOLVED as error:
        raise PolicyError(f"{_shown(start)}: cannot be followed: {_why(error)}") from error
    for above in (folder, *folder.parents):
        place = above / _FILE
        if os.path.isfile(place) and _table(place) is not None:
            return place
    led = "" if folder == Path(os.path.abspath(start)) else f" (where {_shown(start)} leads)"
    raise PolicyError(
        f"{_shown(folder)}{led}: neither here nor above is a pyproject.toml with "
        "[tool.geofilter]; add one with model, pack and threshold"
    )


def _table(place: Path) -> dict[str, Any] | None:
    """The keys of `[tool.geofilter]`; None where there is no such table."""
    try:
        with place.open("rb") as handle:
            tool = tomllib.load(handle).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        reason = escape(" ".join(str(error).split()), limit=200)
        raise PolicyError(f"{_shown(place)}: cannot be read: {reason}") from error
    table = tool.get("geofilter") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise PolicyError(f"{_shown(place)}: tool.geofilter is no table; write [tool.geofilter]")
    return table


def _policy(place: Path, table: Mapping[str, Any]) -> Policy:
    for key in table:
        if key not in _CHECKS:
            close = difflib.get_close_matches(key, _CHECKS, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise PolicyError(
                f"{_shown(place)}: [tool.geofilter] has no key {escape(key)}{meant} "
                f"(it has {', '.join(_CHECKS)})"
            )
    for key in _REQUIRED:
        if key not in table:
            raise PolicyError(f"{_shown(place)}: [tool.geofilter] needs {key}; {_WHY[key]}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        wanted, is_right = _CHECKS[key]
        if not is_right(value):
            raise _wrong(place, key, value, f"is not {wanted}")
        values[key.replace("-", "_")] = tuple(value) if key == "files" else value
    values["threshold"] = float(values["threshold"])
    policy = Policy(place.parent, **values)
    for key in ("lock", "accepted", "pack"):
        _check_inside(place, key, getattr(policy, key))
    return policy


def _check_inside(place: Path, key: str, path: str) -> None:
    """Refuse a path that a link leads out of the folder: the lock is written to."""
    try:
        target = (place.parent / path).resolve()
    except _UNRESOLVED as error:
        raise _wrong(place, key, path, f"cannot be followed: {_why(error)}") from error
    if not target.is_relative_to(place.parent.resolve()):
        raise _wrong(
            place,
            key,
            path,
            f"is behind a link that leads out of the folder, to {_shown(target)}; move the file "
            "below the folder, or put a pyproject.toml with its policy where the file is",
        )


# A circle of links is a RuntimeError before Python 3.13.
_UNRESOLVED = (OSError, RuntimeError, ValueError)


def _why(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return escape(said or " ".join(str(error).split()), limit=200)


def _wrong(place: Path, key: str, value: object, what: str) -> PolicyError:
    return PolicyError(f"{_shown(place)}: {key} = {escape(_spelled(value))}: {what}")


def _spelled(value: object) -> str:
    """A value as TOML spells it, as far as the difference could confuse."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return f'"{value}"' if isinstance(value, str) else str(value)
    except ValueError:  # Python spells no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _shown(path: Path) -> str:
    return escape(str(path), limit=200)


def _sha256(path: Path, place: Path) -> str:
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(
            f"{_shown(path)}: the pack that {_shown(place)} names cannot be read "
            f"({escape(reason or error)}); commit it, or make one with geofilter discover"
        ) from error


# What a value has to be, in words and as a test. TOML tells true from 1.


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(least: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value < 2**31


def _is_number(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _is_below(value: object) -> bool:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    path = PurePosixPath(value)
    # "." has no parts: the folder itself is none of its files.
    usual = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return usual and "\\" not in value


def _is_globs(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_below, value))


def _is_columns(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _one_of(*names: str) -> tuple[str, Callable[[object], bool]]:
    return f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names


_PATH = ("a path below the folder of the pyproject.toml, with / and without ..", _is_below)
_CHECKS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "model": ("the name of a model, its hub id, or a folder such as ./model", _is_text),
    "pack": _PATH,
    "threshold": ("a number, such as 0.4", _is_number),
    "sae": ("RELEASE/ID, or a folder such as ./sae", _is_text),
    "block": ("a whole number from 0", _is_count(0)),
    "dtype": _one_of(*DTYPES),
    "scorer": _one_of(*SCORERS),
    "proximity": _one_of(*PROXIMITIES),
    "max-length": ("a whole number from 1", _is_count(1)),
    "last-turn": ("true or false", lambda value: isinstance(value, bool)),
    "unscored": _one_of("fail", "pass"),
    "files": ("a list of globs below the folder of the pyproject.toml", _is_globs),
    "lock": _PATH,
    "accepted": _PATH,
    "layout": ("the name of a layout", _is_text),
    "columns": ("a table such as {response = 'reply'}", _is_columns),
}
_WHY = {
    "model": "it names the model that is about to be trained",
    "pack": "it names the file of toxic features; make one with geofilter discover and commit it",
    "threshold": "a row with this score or more is refused; "
    "geofilter score and geofilter filter --fdr help to choose it",
}
assert {key.replace("-", "_") for key in _CHECKS} == {f.name for f in fields(Policy)} - {"root"}
