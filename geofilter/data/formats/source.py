"""What every format gives: the rows of a file with their bytes, before any layout.

This module knows nothing about any one format.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from geofilter.errors import DataError

# A longer line, CSV record or JSON element is not held in memory: it becomes an
# unreadable row whose bytes are still copied when it is kept.
ROW_LIMIT = 64 * 2**20  # bytes
TOO_LONG = f"longer than {ROW_LIMIT // 2**20} MiB"
PIECE = 2**20  # bytes read at once where a row is passed through unread


@dataclass(slots=True)
class RawRow:
    """One row as it stands in the file.

    `record`: the parsed object, or None with the reason in `fault`.
    `raw`: the row's own bytes, None where the format has none or the row is too long.
    `lead`: bytes before it that belong to no row (commas of a JSON list).
    `pieces`: only for a row that is too long: all its bytes, to be read before
    the next row is asked for; what is left unread is passed over.
    `closes`: nothing may be written after this row: the file broke off in it.
    """

    record: dict[str, object] | None
    fault: str | None = None
    line: int | None = None  # 1-based line it starts on
    raw: bytes | None = None
    lead: bytes = b""
    pieces: Iterator[bytes] | None = None
    closes: bool = False


class RowNote(NamedTuple):
    """What geofilter decided about a row, written beside it.

    `score`: higher = nearer to harm; None for an unscored row. `rank`: 1 is the
    nearest to harm; None for an unscored row.
    """

    score: float | None
    rank: int | None
    status: str
    reason: str | None


class LossNote(NamedTuple):
    """How a trainer is to learn from a row, written beside it; `row_loss` makes and reads it.

    `score` and `rank` as in `RowNote`. `weight`: 0 to 1. `tokens`: which tokens the places
    in `masked` count; both are text, empty where no token is masked, so that every format
    holds them alike.
    """

    score: float | None
    rank: int | None
    weight: float
    tokens: str
    masked: str


Note = RowNote | LossNote
# From the index of a row to what is written beside it.
Notes = Callable[[int], Note]
# In a format of columns, each field is one; those of an earlier run are replaced.
NOTE_COLUMNS = tuple(
    dict.fromkeys(f"geofilter_{name}" for kind in (RowNote, LossNote) for name in kind._fields)
)


def columns_of(kind: type[Note]) -> tuple[str, ...]:
    """The columns that hold a note of this kind, in the order of its fields."""
    return tuple(f"geofilter_{name}" for name in kind._fields)


class Source(Protocol):
    """A file, folder or hub data set that can be read again and again."""

    format: str

    def rows(self) -> Generator[RawRow, None, None]:
        """All rows in order; raises `DataError` when the source itself is damaged."""
        ...

    def columns(self) -> list[str] | None:
        """The column names where the format states them, else None."""
        ...

    def has_header(self) -> bool:
        """False only for a CSV or TSV file without a header line."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content, 64 hex digits."""
        ...

    def write(
        self,
        path: str,
        indices: Iterable[int],
        notes: Notes | None,
        overwrite: bool,
        kind: type[Note] = RowNote,
    ) -> int:
        """Write the rows at `indices` (ascending) to `path`; return their number.

        `kind` is what `notes` gives: a header is written before the first note.
        """
        ...


def ascending(indices: Iterable[int]) -> Iterator[int]:
    """Pass ascending indices on; any other order is a mistake of the caller."""
    last = -1
    for index in indices:
        if index <= last:
            raise ValueError(f"row indices must ascend: {index} follows {last}")
        last = index
        yield index


class Wanted:
    """Walks through ascending indices beside the rows of a file."""

    def __init__(self, source: str, indices: Iterable[int]) -> None:
        self._source = source
        self._rest = ascending(indices)
        self._next = next(self._rest, None)
        self.taken = 0

    def take(self, index: int) -> bool:
        """Whether the row at `index` is wanted; to be asked once for each row, in order."""
        if index != self._next:
            return False
        self._next = next(self._rest, None)
        self.taken += 1
        return True

    def finish(self, count: int) -> int:
        """Return how many were taken; raises `DataError` when the file has fewer rows."""
        if self._next is not None:
            raise DataError(
                f"{self._source}: has {count} rows, but row {self._next + 1} is wanted; "
                "the file has changed since it was scored: score it again"
            )
        return self.taken


def annotated(record: Mapping[str, object], note: Note) -> dict[str, object]:
    """The record with the note under `geofilter`; a note of an earlier run is replaced."""
    return {**record, "geofilter": note._asdict()}
