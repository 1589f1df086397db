"""Rows that someone has read and keeps, whatever they score: a file of their keys.

Text for review: one key a line, and comments from `#` on, which count for nothing. No score
is read from it. Lines may come in any order, and twice, so that git merges it line by line.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from geofilter.errors import DataError, PolicyError
from geofilter.gate.findings import Finding
from geofilter.gate.lock import only_one
from geofilter.support.atomic import writing
from geofilter.support.display import escape, inert, shown
from geofilter.support.pointers import refuse_pointer

_TITLE = (
    "# Rows that somebody has read and keeps, whatever they score; geofilter check --accept adds "
    "them.\n# A line is a row's key, which is another one as soon as the row changes.\n"
)
_KEY = re.compile(r"[0-9a-f]{32}")
_PLACE = re.compile(r"(.+):((?:row )?\d+(?: \(row \d+\))?)", re.DOTALL)


def read_accepted(path: Path) -> frozenset[str]:
    """The keys in the file at `path`; none where there is no file.

    Raises `PolicyError`, with the number of the line, for anything else in it.
    """
    refuse_pointer(path, PolicyError)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise PolicyError(f"{shown(path)}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{shown(path)}: is not text in UTF-8; save it as such") from error
    keys = set()
    for number, line in enumerate(text.split("\n"), start=1):
        key = line.partition("#")[0].strip()
        if _KEY.fullmatch(key):
            keys.add(key)
        elif key:
            raise PolicyError(
                f"{shown(path)}:{number}: {escape(key)} is not the key of a row (32 hexadecimal "
                "digits, then a comment that begins with #); correct the line or remove it"
            )
    return frozenset(keys)


def add_accepted(path: Path, findings: Iterable[Finding]) -> None:
    """Append the rows of `findings` to the file at `path`, each with its finding as a comment.

    What is in it stays, byte by byte. Raises `PolicyError` as `read_accepted` does, and
    `OutputError` where it cannot be written.
    """
    with only_one(path.parent):
        known = read_accepted(path)
        before = path.read_bytes() if path.exists() else _TITLE.encode()
        if before and not before.endswith(b"\n"):
            before += b"\n"
        lines = {
            finding.key: f"{finding.key}  # {inert(finding.text)}\n"
            for finding in findings
            if finding.key not in known
        }
        with writing(path, overwrite=True) as handle:
            handle.write(before + "".join(lines.values()).encode())


def file_of(place: str) -> str:
    """The file of a row's place: `data.jsonl` of `data.jsonl:17`. Raises `DataError`."""
    return _split(place)[0]


def refused_at(place: str, findings: Sequence[Finding]) -> Finding:
    """The finding about the score of the row at `place`, spelled as findings spell it.

    Raises `DataError` where there is no such finding, or several rows at the place.
    """
    file, where = _split(place)
    found = {
        finding.key: finding
        for finding in findings
        if finding.key is not None and finding.file == file and where in _names(finding)
    }
    if not found:
        raise DataError(
            f"{escape(place, limit=300)}: no row there is refused for its score: it passes, is "
            "accepted already, or has no score in the lock yet; name a row that geofilter check "
            "calls near-harm or unscored"
        )
    if len(found) > 1:
        places = " or ".join(finding.place for finding in found.values())
        raise DataError(f"{escape(place, limit=300)}: is the place of several rows; name {places}")
    return next(iter(found.values()))


def _split(place: str) -> tuple[str, str]:
    parts = _PLACE.fullmatch(place)
    if parts is None:
        raise DataError(
            f"{escape(place, limit=300)}: is not the place of a row; name one as geofilter check "
            "does, such as data.jsonl:17"
        )
    return parts[1], parts[2]


def _names(finding: Finding) -> tuple[str, str]:
    """What may follow the file's name: the row's place in it, or just the line."""
    return finding.place.rpartition(":")[2], str(finding.line)
