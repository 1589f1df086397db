"""The lines of rows that were scored already, so that identical rows are scored once.

An exact index on disk, from a row's hash to its line: memory does not grow with
the number of rows. It is never trusted across a kill, but filled again from the
whole parts.
"""

import dataclasses
import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from geofilter.errors import OutputError
from geofilter.scoring.table import FeatureShare, ScoreRow
from geofilter.support.display import escape

# `row` and `row_hash` are the reader's, `rank` is known only at the end.
_KEPT = tuple(
    field.name
    for field in dataclasses.fields(ScoreRow)
    if field.name not in {"row", "row_hash", "rank"}
)


def _pack(line: ScoreRow) -> str:
    return json.dumps([getattr(line, name) for name in _KEPT])


def _unpack(row: int, row_hash: str, packed: str) -> ScoreRow:
    values = dict(zip(_KEPT, json.loads(packed), strict=True))
    shares = tuple(FeatureShare(*share) for share in values.pop("top_features"))
    return ScoreRow(row=row, row_hash=row_hash, top_features=shares, **values)


class SeenRows:
    """Lines by the hash of their row, in a new SQLite file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        self._base = sqlite3.connect(path, isolation_level=None)
        # No journal and no fsync: after a crash the file is made again.
        self._base.execute("PRAGMA journal_mode=OFF")
        self._base.execute("PRAGMA synchronous=OFF")
        self._base.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._base.execute("PRAGMA cache_size=-4096")  # KiB
        self._base.execute(
            "CREATE TABLE seen (hash BLOB PRIMARY KEY, line TEXT NOT NULL) WITHOUT ROWID"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()

    def find(self, row: int, row_hash: str) -> ScoreRow | None:
        """The line of an identical row, as the line of `row`; None if there was none."""
        found = self._base.execute(
            "SELECT line FROM seen WHERE hash = ?", (bytes.fromhex(row_hash),)
        ).fetchone()
        return None if found is None else _unpack(row, row_hash, found[0])

    def add(self, lines: Iterable[ScoreRow]) -> None:
        """Remember lines; of identical rows the first holds.

        Lines of unreadable rows are left out: their hash is of bytes, which may be
        the canonical form of another row's record. Raises `OutputError` when the
        disk is full.
        """
        packed = (
            (bytes.fromhex(line.row_hash), _pack(line))
            for line in lines
            if line.status != "unreadable"
        )
        try:
            self._base.execute("BEGIN")
            self._base.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", packed)
            self._base.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise OutputError(
                f"{escape(str(self._path), limit=200)}: cannot be written: {error}; "
                "free some space or choose another output with -o"
            ) from error
