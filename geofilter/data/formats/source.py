"""What every format gives: the rows of a file with their bytes, before any layout."""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
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
    `pieces`: only for a row that is too long: all its bytes, to be read before
    the next row is asked for; what is left unread is passed over.
    `part`: in a data set of several files the name of the row's own, and its place there, from 0.
    """

    record: dict[str, object] | None
    fault: str | None = None
    line: int | None = None  # 1-based line it starts on
    raw: bytes | None = None
    pieces: Iterator[bytes] | None = None
    part: tuple[str, int] | None = None

    def bytes(self) -> Iterable[bytes]:
        """All bytes of a row of a text file, in pieces."""
        if self.pieces is not None:
            return self.pieces
        assert self.raw is not None  # every row of a text file has bytes
        return (self.raw,)


class RowNote(NamedTuple):
    """What geofilter decided about a row, written with it.

    `score`: higher = nearer to harm; None for an unscored row. `rank`: 1 is the
    nearest to harm; None for an unscored row.
    """

    score: float | None
    rank: int | None
    status: str
    reason: str | None


class LossNote(NamedTuple):
    """How a trainer is to learn from a row, written with it; `loss_note` makes and reads it.

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
# In a format of columns, each field is one; those of an earlier run are replaced.
NOTE_COLUMNS = tuple(
    dict.fromkeys(f"geofilter_{name}" for kind in (RowNote, LossNote) for name in kind._fields)
)


class Notes(NamedTuple):
    """What is written with the rows: `of` gives the note for a row's index, of this `kind`."""

    of: Callable[[int], Note]
    kind: type[Note]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that hold these notes, in the order of their fields."""
        return tuple(f"geofilter_{name}" for name in self.kind._fields)


class Changes(NamedTuple):
    """Some rows get other values; all others are written as they stand.

    `rows`: the indices of those that change. `of` gives, for the record of one, the columns that
    change and their new values. `new` has a value of every such column that some of these rows
    lack, or have null in: what is kept in columns has to make room for it.
    """

    rows: Collection[int]
    of: Callable[[dict[str, object]], Mapping[str, object]]
    new: Mapping[str, object]

    def applied(self, record: dict[str, object] | None) -> dict[str, object]:
        """The record of a row that changes, as it is written."""
        assert record is not None  # it was looked at before
        return {**record, **self.of(record)}


# What is done with rows while they are written.
Edits = Notes | Changes


class Source(Protocol):
    """A file, folder or hub data set that can be read again and again.

    `form`: how it is written, where that is unusual for its format; else nothing.
    """

    format: str

    @property
    def form(self) -> str: ...

    def rows(self) -> Generator[RawRow, None, None]:
        """All rows in order; raises `DataError` when the source itself is damaged."""
        ...

    def hashed_rows(self) -> tuple[Generator[RawRow, None, None], Callable[[], str]]:
        """All rows, and what gives the fingerprint once they have been read to the end."""
        ...

    def columns(self) -> list[str] | None:
        """The column names where the format states them, else None."""
        ...

    def fingerprint(self) -> str:
        """A hash of the content, 64 hex digits."""
        ...

    def write(self, path: str, indices: Iterable[int], edits: Edits | None, overwrite: bool) -> int:
        """Write the rows at `indices` (ascending) to `path`; return their number."""
        ...


class Wanted:
    """Walks through ascending indices along with the rows of a file.

    `seen`: how many rows were asked about. `taken`: how many of them were wanted.
    """

    def __init__(self, source: str, indices: Iterable[int]) -> None:
        self._source = source
        self._rest = _ascending(indices)
        self._next = next(self._rest, None)
        self.seen = self.taken = 0

    def take(self) -> bool:
        """Whether the next row is wanted; to be asked once for each row, in order."""
        wanted = self.seen == self._next
        self.seen += 1
        if wanted:
            self._next = next(self._rest, None)
            self.taken += 1
        return wanted

    def finish(self) -> int:
        """Return how many were taken; raises `DataError` when the file has fewer rows."""
        if self._next is not None:
            raise DataError(
                f"{self._source}: has {self.seen} rows, but row {self._next + 1} is wanted; "
                "the file has changed since it was scored: score it again"
            )
        return self.taken


def _ascending(indices: Iterable[int]) -> Iterator[int]:
    """Pass ascending indices on; any other order is a mistake of the caller."""
    last = -1
    for index in indices:
        if index <= last:
            raise ValueError(f"row indices must ascend: {index} follows {last}")
        last = index
        yield index


def annotated(record: Mapping[str, object], note: Note) -> dict[str, object]:
    """The record with the note under `geofilter`; a note of an earlier run is replaced."""
    return {**record, "geofilter": note._asdict()}


def edited(record: dict[str, object], index: int, edits: Edits | None) -> dict[str, object]:
    """The record of the row at `index` as it is written."""
    if isinstance(edits, Notes):
        return annotated(record, edits.of(index))
    return edits.applied(record) if edits and index in edits.rows else record
