"""The gate's policy: `[tool.geofilter]` of the nearest pyproject.toml.

It names what scores are made with and which of them are refused. It is data that may come
from anywhere: an unknown key or value is an error, and no path leads out of the folder that
the pyproject.toml is in.
"""

import difflib
import hashlib
import math
import os
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from geofilter.data.reading import UNREAD_LIMIT
from geofilter.errors import PolicyError
from geofilter.runs.defaults import scorer_of
from geofilter.scoring.scorers import SCORERS
from geofilter.scoring.scorers.base import Scorer
from geofilter.settings import Settings, fits, wanted
from geofilter.support.display import escape, shown
from geofilter.support.pointers import refuse_pointer

_FILE = "pyproject.toml"
# How a folder begins. Everything else is a name, of the catalogue or of the hub.
FOLDER = (".", "/", "~")
_REQUIRED = ("model", "pack", "threshold")
_NOT_STATED = {"device", "trust_remote_code", "contrast"}
# The fields of `Settings` that a policy states. Where the model runs, and whether it may run
# code of its own, is for the person who runs the check. A policy names a pack that is made.
_STATED = tuple(one.name for one in fields(Settings) if one.name not in _NOT_STATED)
# Those of them that decide nothing for other scorers.
_OF_SCORERS = {name for scorer in SCORERS.values() for name in scorer.settings}


@dataclass(frozen=True)
class Policy:
    """What the gate refuses, and what scores are made with.

    `root`: the folder of the pyproject.toml; all paths are relative to it, those of `settings`
    too. `threshold`: a row is refused when its score is this or more (higher = nearer to
    harm). `unscored`: whether a row without a score is refused. `files`: globs of the files
    that are checked when none is named. `lock`: the lock file. `accepted`: the file of rows
    that may score what they do. `layout`, `columns`: how rows are read, as in `rows.open_rows`.
    `unread_limit`: the share of a file's rows that may be unreadable or malformed where
    `unscored` lets such rows pass.
    """

    root: Path
    settings: Settings
    threshold: float
    unscored: Literal["fail", "pass"] = "fail"
    files: tuple[str, ...] = ()
    lock: str = "geofilter.lock"
    accepted: str = "geofilter.accepted"
    layout: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unread_limit: float = UNREAD_LIMIT

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
        return self.root / str(self.settings.pack)

    @property
    def scorer(self) -> Scorer:
        """The scorer that `settings` name or leave open, wherever the current folder is.

        Raises `PackError` for an unknown name, `ModelError` for a damaged adapter.
        """
        model = self.settings.model
        if model.startswith(FOLDER):
            model = str(self.root / os.path.expanduser(model))
        return scorer_of(replace(self.settings, model=model))

    def wrong(self, key: str, what: str) -> PolicyError:
        """An error that quotes the setting `key`; `what` says what is wrong with it."""
        return _wrong(self.path, key, getattr(self.settings, key), what)

    def asked(self) -> dict[str, object]:
        """What decides a score and can be known without the model.

        The pack counts by its bytes. Raises `PolicyError` when it cannot be read.
        """
        scorer = self.scorer
        asked: dict[str, object] = {
            name: None
            if name in _OF_SCORERS and name not in scorer.settings
            else getattr(self.settings, name)
            for name in _STATED
            if name != "pack"
        }
        asked["scorer"] = scorer.name
        if self.settings.load_in is None:
            del asked["load_in"]  # locks that are older do not say it
        return {**asked, "pack_sha256": _sha256(self.pack_path, self.path)}

    def listed(self) -> list[str]:
        """The files that `files` matches, as paths from the current folder, sorted.

        Raises `PolicyError` for a glob that matches nothing: a gate over no file at all would
        say yes to everything.
        """
        found: set[Path] = set()
        for pattern in self.files:
            try:
                matches = [path for path in self.root.glob(pattern) if path.is_file()]
            except (ValueError, OSError) as error:
                raise _wrong(self.path, "files", pattern, f"is not a glob: {error}") from error
            if not matches:
                raise _wrong(self.path, "files", pattern, "matches no file; correct it")
            for path in matches:
                _check_inside(self.path, "files", str(path.relative_to(self.root)))
            found.update(matches)
        return sorted(os.path.relpath(path) for path in found)

    def unknown_to_git(self) -> list[str]:
        """The files of the gate that a commit would lack: git's index does not know them.

        A hook meets such a file at its second try, when it does not change any more.
        """
        places = [path for path in (self.lock_path, self.accepted_path) if path.exists()]
        return [place for place in map(os.path.relpath, places) if _is_unknown_to_git(place)]


def read_policy(files: Sequence[str | os.PathLike[str]] = ()) -> Policy:
    """The policy for `files`: of the nearest pyproject.toml above them that has one.

    Without files, above the current folder. Raises `PolicyError`, one line, when there is no
    policy, when the files have different ones, and for anything wrong in it.
    """
    starts = [Path(file).parent for file in files] or [Path()]
    places = {start: _find(start) for start in dict.fromkeys(starts)}
    first, *others = dict.fromkeys(places.values())
    if others:
        raise PolicyError(
            f"{shown(first)} and {shown(others[0])} each hold a policy for some of the files; "
            "check them one by one"
        )
    return _policy(first, _table(first) or {})


def _find(start: Path) -> Path:
    try:
        folder = start.resolve()
    except _UNRESOLVED as error:
        raise PolicyError(f"{shown(start)}: cannot be followed: {reason(error)}") from error
    for above in (folder, *folder.parents):
        place = above / _FILE
        if os.path.isfile(place) and _table(place) is not None:
            return place
    led = "" if folder == Path(os.path.abspath(start)) else f" (where {shown(start)} leads)"
    raise PolicyError(
        f"{shown(folder)}{led}: neither here nor above is a pyproject.toml with "
        "[tool.geofilter]; add one with model, pack and threshold"
    )


# Commands whose tables, such as [tool.geofilter.score], stand in the same table and give defaults
# of options: those of `geofilter.cli.main.CONFIGURED`.
COMMANDS = frozenset(
    {"demo", "discover", "score", "filter", "screen", "explain", "report", "check", "verify"}
    | {"alarm", "judge", "geometry"}
)


def _table(place: Path) -> dict[str, Any] | None:
    """The policy's keys of `[tool.geofilter]`; None where there is no such table, or no policy."""
    try:
        with place.open("rb") as handle:
            tool = tomllib.load(handle).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        raise PolicyError(f"{shown(place)}: cannot be read: {reason(error)}") from error
    table = tool.get("geofilter") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise PolicyError(f"{shown(place)}: tool.geofilter is not a table; write [tool.geofilter]")
    if table is None:
        return None
    stated = {k: v for k, v in table.items() if k not in COMMANDS or not isinstance(v, dict)}
    return stated if stated or not table else None


def _policy(place: Path, table: Mapping[str, Any]) -> Policy:
    for key in table:
        if key not in _CHECKS:
            close = difflib.get_close_matches(key, _CHECKS, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise PolicyError(
                f"{shown(place)}: [tool.geofilter] has no key {escape(key)}{meant} "
                f"(it has {', '.join(_CHECKS)})"
            )
    for key in _REQUIRED:
        if key not in table:
            raise PolicyError(f"{shown(place)}: [tool.geofilter] needs {key}; {_WHY[key]}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        right, is_right = _CHECKS[key]
        if not is_right(value):
            raise _wrong(place, key, value, f"is not {right}")
        values[key.replace("-", "_")] = value
    settings = Settings(**{name: values.pop(name) for name in _STATED if name in values})
    values["threshold"] = float(values["threshold"])
    values["files"] = tuple(values.get("files", ()))
    policy = Policy(place.parent, settings, **values)
    paths = {"lock": policy.lock, "accepted": policy.accepted, "pack": str(settings.pack)}
    for key, path in paths.items():
        _check_inside(place, key, path)
    return policy


def _check_inside(place: Path, key: str, path: str) -> None:
    """Refuse a path that a link leads out of the folder: the lock is written to."""
    try:
        target = (place.parent / path).resolve()
    except _UNRESOLVED as error:
        raise _wrong(place, key, path, f"cannot be followed: {reason(error)}") from error
    if not target.is_relative_to(place.parent.resolve()):
        raise _wrong(
            place,
            key,
            path,
            f"follows a link that leads out of the folder, to {shown(target)}; move the file "
            "below the folder, or put a pyproject.toml with its policy where the file is",
        )


# A circle of links is a RuntimeError before Python 3.13.
_UNRESOLVED = (OSError, RuntimeError, ValueError)


def reason(error: Exception) -> str:
    """Why something cannot be read or followed, in one line."""
    said = error.strerror if isinstance(error, OSError) else None
    return escape(said or " ".join(str(error).split()), limit=200)


def _wrong(place: Path, key: str, value: object, what: str) -> PolicyError:
    return PolicyError(f"{shown(place)}: {key} = {escape(_spelled(value))}: {what}")


def _spelled(value: object) -> str:
    """A value as TOML spells it, as far as the difference could confuse."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return f'"{value}"' if isinstance(value, str) else str(value)
    except ValueError:  # Python spells no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _is_unknown_to_git(place: str) -> bool:
    words = ["git", "--literal-pathspecs", "ls-files", "--", place]
    try:
        known = subprocess.run(words, capture_output=True, check=False)
    except OSError:  # no git, no commit
        return False
    return known.returncode == 0 and not known.stdout


def _sha256(path: Path, place: Path) -> str:
    refuse_pointer(path, PolicyError)
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"{shown(path)}: the pack that {shown(place)} names cannot be read "
            f"({reason(error)}); commit it, or make one: geofilter discover, or geofilter "
            "pack default MODEL -o FILE for the model's own"
        ) from error


# What a value has to be, in words and as a test. TOML has true apart from 1.


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_setting(name: str, value: object) -> bool:
    # A whole number of TOML may have any length.
    return fits(name, value) and not (type(value) is int and value >= 2**31)


def _is_number(value: object) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _is_below(value: object) -> bool:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    path = PurePosixPath(value)
    # "." has no parts: the folder itself is not one of its files.
    usual = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return usual and "\\" not in value


def _is_globs(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_below, value))


def _is_columns(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and 0 <= value <= 1


def _one_of(*names: str) -> tuple[str, Callable[[object], bool]]:
    return f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names


_PATH = ("a path below the folder of the pyproject.toml, with / and without ..", _is_below)
_Check = tuple[str, Callable[[object], bool]]
_OF_SETTINGS: dict[str, _Check] = {
    name.replace("_", "-"): (wanted(name), partial(_is_setting, name)) for name in _STATED
}
# What `Settings` alone cannot say: that a text is more than blanks, a path, a scorer's name.
_CHECKS: dict[str, _Check] = _OF_SETTINGS | {
    "model": ("the name of a model, its hub id, or a folder such as ./model", _is_text),
    "sae": ("RELEASE/ID, or a folder such as ./sae", _is_text),
    "pack": _PATH,
    "scorer": _one_of(*SCORERS),
    "threshold": ("a number, such as 0.4", _is_number),
    "unscored": _one_of("fail", "pass"),
    "files": ("a list of globs below the folder of the pyproject.toml", _is_globs),
    "lock": _PATH,
    "accepted": _PATH,
    "layout": ("the name of a layout", _is_text),
    "columns": ("a table such as {response = 'reply'}", _is_columns),
    "unread-limit": ("a share of the rows, 0 to 1", _is_share),
}
_WHY = {
    "model": "it names the model that is about to be trained",
    "pack": "it names the file of toxic features; make one with geofilter discover, or write the "
    "model's own with geofilter pack default MODEL -o toxic.pack, and commit it",
    "threshold": "a row with this score or more is refused; "
    "geofilter score and geofilter filter --fdr help to choose it",
}
