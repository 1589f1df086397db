"""The score table: one line per row of the input, in input order, always.

A Parquet file whose schema metadata holds the manifest of the run that made it.
Reading validates the whole file once, so that a truncated, damaged or foreign
file is refused at once and later code can trust what it gets. `runs.engines.parts` writes
tables, `selection` decides from them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geofilter.data.problems import SCORED, UNSCORED
from geofilter.errors import MissingExtraError, TableError
from geofilter.support.display import escape, shown
from geofilter.support.manifest import Manifest
from geofilter.support.notebook import html_table
from geofilter.support.pointers import refuse_pointer

FORMAT_KEY = b"geofilter.score_table"
MANIFEST_KEY = b"geofilter.manifest"
FORMAT = b"1"
# Rows that a notebook shows.
_IN_NOTEBOOK = 10

_FEATURE = pa.struct(
    [
        pa.field("feature", pa.int32(), nullable=False),
        pa.field("weight", pa.float32(), nullable=False),
        pa.field("proximity", pa.float32(), nullable=False),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("row_hash", pa.string(), nullable=False),
        pa.field("score", pa.float32()),
        pa.field("rank", pa.int64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("n_tokens", pa.int32(), nullable=False),
        pa.field("nearest_feature", pa.int32()),
        pa.field("nearest_similarity", pa.float32()),
        pa.field("top_features", pa.list_(_FEATURE), nullable=False),
        pa.field("rejected_score", pa.float32()),
        pa.field("unknown_share", pa.float32()),
        pa.field("explained_variance", pa.float32()),
    ]
)

Column = np.ma.MaskedArray[Any, np.dtype[Any]]

# What pyarrow raises on a damaged file, besides its own exceptions.
DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


class FeatureShare(NamedTuple):
    """A feature that made a row's score: its id, its weight in it, its proximity."""

    feature: int
    weight: float
    proximity: float


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of the table.

    `score` is higher the nearer the row lies to harm, and None where the row is
    unscored: `status` is then not in `SCORED`, and `reason` says why. `rank` 1
    is the row nearest to harm; it is known only in a finished table. `row` counts
    from 0. For chosen/rejected rows, `score` is the chosen side's. `n_tokens`
    counts the response tokens that make the score.
    """

    row: int
    row_hash: str
    score: float | None
    status: str
    reason: str | None
    n_tokens: int
    nearest_feature: int | None = None
    nearest_similarity: float | None = None
    top_features: tuple[FeatureShare, ...] = ()
    rejected_score: float | None = None
    unknown_share: float | None = None
    explained_variance: float | None = None
    rank: int | None = None

    def __post_init__(self) -> None:
        if self.status not in SCORED | UNSCORED:
            raise ValueError(f"no such status: {self.status}")
        if (self.score is None) != (self.status in UNSCORED):
            raise ValueError(f"status {self.status} does not go with score {self.score}")
        if self.score is None and not self.reason:
            raise ValueError(f"row {self.row} is unscored without a reason")


def to_arrow(rows: Sequence[ScoreRow]) -> pa.Table:
    """The rows as a table of `SCHEMA`, in the order given."""
    columns = {name: [getattr(row, name) for row in rows] for name in SCHEMA.names}
    columns["top_features"] = [
        [{"feature": f, "weight": w, "proximity": p} for f, w, p in row.top_features]
        for row in rows
    ]
    return pa.table(columns, schema=SCHEMA)


def from_arrow(batch: pa.Table | pa.RecordBatch) -> Iterator[ScoreRow]:
    """The lines of a table of `SCHEMA` as `ScoreRow`s."""
    for line in batch.to_pylist():
        shares = tuple(FeatureShare(**share) for share in line.pop("top_features"))
        yield ScoreRow(**line, top_features=shares)


def ranks(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """Rank of every row, 1 = highest score = nearest to harm, and 0 where `scores` is NaN.

    Equal scores rank in row order: the earlier row comes first. Shape (rows,).
    """
    n_scored = len(scores) - int(np.isnan(scores).sum())
    # A stable sort keeps the row order of ties, and puts NaN last.
    order = np.argsort(-scores, kind="stable")[:n_scored]
    result = np.zeros(len(scores), dtype=np.int32)
    result[order] = np.arange(1, n_scored + 1, dtype=np.int32)
    return result


def scores_with_nan(batch: pa.Table | pa.RecordBatch) -> npt.NDArray[np.float32]:
    """The score column with NaN where unscored: for `ranks`, never for a user."""
    column = batch.column("score").fill_null(float("nan"))
    return np.asarray(column, dtype=np.float32)


def check_lines(batch: pa.Table | pa.RecordBatch, first_row: int) -> None:
    """Raise `ValueError` unless these are whole lines from `first_row` on."""
    batch.validate(full=True)
    expected = np.arange(first_row, first_row + batch.num_rows)
    if not np.array_equal(np.asarray(batch.column("row")), expected):
        raise ValueError("its rows are not in the order of the input")
    statuses = set(pc.unique(batch.column("status")).to_pylist())
    if not statuses <= SCORED | UNSCORED:
        raise ValueError("it holds an unknown status")
    status, score = batch.column("status"), batch.column("score")
    is_scored = pc.is_in(status, value_set=pa.array(sorted(SCORED)))
    if not is_scored.equals(score.is_valid()):
        raise ValueError("a status does not fit its score")
    if not np.isfinite(np.asarray(score.drop_null())).all():
        raise ValueError("a score is not a finite number")
    reasons = batch.column("reason").filter(pc.invert(is_scored))
    if pc.any(pc.equal(pc.fill_null(reasons, ""), "")).as_py():
        raise ValueError("a row without a score has no reason")


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open with the checksum of every page verified, and no memory beyond a row group."""
    # As bytes: Arrow takes no name that is not UTF-8 as text.
    with (
        pa.OSFile(os.fsencode(path)) as source,
        pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False) as file,
    ):
        yield file


def new_parquet(handle: Any, metadata: Mapping[bytes, bytes]) -> pq.ParquetWriter:
    """A writer of `SCHEMA` with page checksums, for `open_parquet`."""
    return pq.ParquetWriter(
        handle,
        SCHEMA.with_metadata(dict(metadata)),
        compression="zstd",
        # The hashes are all distinct: a dictionary of them only costs memory.
        use_dictionary=["status", "reason"],
        write_page_checksum=True,
    )


def is_score_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file says that it is a score table; `ScoreTable.read` finds out if it is whole."""
    try:
        with open_parquet(Path(path)) as file:
            return FORMAT_KEY in (file.schema_arrow.metadata or {})
    except DAMAGE:
        return False


def _verify(file: pq.ParquetFile) -> Manifest:
    """Read the whole file once; raise `ValueError` at the first thing that is wrong."""
    if not file.schema_arrow.remove_metadata().equals(SCHEMA):
        raise ValueError("its columns are not those of a score table")
    manifest = Manifest.from_json(file.schema_arrow.metadata[MANIFEST_KEY])
    scores = np.empty(file.metadata.num_rows, dtype=np.float32)
    found = np.empty(file.metadata.num_rows, dtype=np.int32)
    at = 0
    for group in range(file.num_row_groups):
        lines = file.read_row_group(group, use_threads=False)
        check_lines(lines, at)
        scores[at : at + lines.num_rows] = scores_with_nan(lines)
        found[at : at + lines.num_rows] = np.asarray(lines.column("rank").fill_null(0))
        at += lines.num_rows
    if at != file.metadata.num_rows:
        raise ValueError("it holds fewer rows than it states")
    if not np.array_equal(found, ranks(scores)):
        raise ValueError("its ranks do not follow from its scores")
    return manifest


class ScoreTable:
    """A finished score table on disk. Columns are read when they are asked for.

    `len(table)` is the number of rows of the input; `manifest` is what made it.
    """

    path: Path
    manifest: Manifest

    def __init__(self, path: Path, manifest: Manifest, n_rows: int) -> None:
        self.path = path
        self.manifest = manifest
        self._n_rows = n_rows

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "ScoreTable":
        """Open and validate the table at `path`.

        Raises `TableError`, one line, when there is none, when it cannot be read,
        is damaged or truncated, or is some other file.
        """
        path = Path(path)
        shown = escape(str(path), limit=200)
        refuse_pointer(path, TableError)
        if not os.path.exists(path):  # unlike Path.exists, false for a name that is too long
            raise TableError(f"{shown}: there is no such file; make it with `geofilter score`")
        if path.is_dir():
            raise TableError(f"{shown}: is a folder; give the file that `geofilter score` made")
        try:
            with open_parquet(path) as file:
                form = (file.schema_arrow.metadata or {}).get(FORMAT_KEY)
                if form is not None and form != FORMAT:
                    raise TableError(
                        f"{shown}: has format {escape(form.decode('latin-1'), limit=20)} of the "
                        "score table, which this version does not read; score the data again"
                    )
                if form is None:
                    raise TableError(
                        f"{shown}: is not a score table; give one that `geofilter score` made"
                    )
                return cls(path, _verify(file), file.metadata.num_rows)
        except DAMAGE as error:
            raise _unreadable(path, error) from error

    def __len__(self) -> int:
        return self._n_rows

    def __repr__(self) -> str:
        return f"<ScoreTable {shown(self.path)}: {len(self):,} rows>"

    def _repr_html_(self) -> str:
        """The rows nearest to harm, for a notebook."""
        scores = self.scores
        order = np.argsort(-scores.filled(-np.inf), kind="stable")[:_IN_NOTEBOOK]
        lines = [self.row(int(index)) for index in order]
        cells = [
            (line.rank, line.row, f"{line.score:.4g}", line.status)
            for line in lines
            if line.score is not None
        ]
        caption = f"{shown(self.path)}: {len(self):,} rows, {scores.count():,} scored"
        return html_table(caption, ("rank", "row", "score", "status"), cells)

    def _to_arrow(self) -> pa.Table:
        return pa.Table.from_batches(self.batches(), SCHEMA)

    def to_pandas(self) -> Any:
        """The table as a pandas `DataFrame`, a line per row of the input, in its order.

        Columns are those of the file: `score`, higher = nearer to harm, is NaN where unscored;
        whole numbers that may be missing, such as `rank`, are of pandas' nullable types.

        Raises `MissingExtraError` without pandas.
        """
        pandas = _imported("pandas")
        whole = {pa.int32(): pandas.Int32Dtype(), pa.int64(): pandas.Int64Dtype()}
        return self._to_arrow().to_pandas(types_mapper=whole.get)

    def to_polars(self) -> Any:
        """The same as a polars `DataFrame`, null where `to_pandas` has NaN.

        Raises `MissingExtraError` without polars.
        """
        return _imported("polars").from_arrow(self._to_arrow())

    def column(self, name: str) -> Column:
        """One column, shape (rows,), in the types of the schema; masked where it is null.

        Text and lists come as Python objects. Raises `TableError` for a name that
        is no column, with the names that are.
        """
        if name not in SCHEMA.names:
            names = ", ".join(SCHEMA.names)
            raise TableError(f"{escape(name)}: is not a column of a score table; it has {names}")
        if SCHEMA.field(name).type == pa.string() or name == "top_features":
            return self._objects(name)
        dtype = SCHEMA.field(name).type.to_pandas_dtype()
        values, mask = np.zeros(len(self), dtype), np.zeros(len(self), dtype=bool)
        at = 0
        for batch in self.batches([name]):
            here = slice(at, at + batch.num_rows)
            values[here] = np.asarray(batch.column(name).fill_null(0))
            mask[here] = np.asarray(batch.column(name).is_null())
            at += batch.num_rows
        return np.ma.MaskedArray(values, mask=mask)

    def _objects(self, name: str) -> Column:
        values = np.empty(len(self), dtype=object)
        for place, (value,) in enumerate(self.records([name])):
            values[place] = value
        return np.ma.MaskedArray(values, mask=[value is None for value in values])

    @property
    def scores(self) -> Column:
        """Score of every row, higher = nearer to harm, float32, masked where unscored."""
        return self.column("score")

    def row(self, index: int) -> ScoreRow:
        """The line of row `index`, counted from 0. Raises `TableError` out of range."""
        if not 0 <= index < len(self):
            there = (
                f"rows 0 to {len(self) - 1}, for --row counts from 0" if len(self) else "no rows"
            )
            raise TableError(f"row {index}: {escape(str(self.path), limit=200)} has {there}")
        try:
            with open_parquet(self.path) as file:
                for group in range(file.num_row_groups):
                    n_lines = file.metadata.row_group(group).num_rows
                    if index < n_lines:
                        return next(from_arrow(file.read_row_group(group).slice(index, 1)))
                    index -= n_lines
        except DAMAGE as error:
            raise _unreadable(self.path, error) from error
        raise TableError(f"{escape(str(self.path), limit=200)}: has changed since it was opened")

    def batches(
        self, columns: Sequence[str] | None = None, *, size: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """The lines in order, at most `size` at a time, with only the named columns."""
        try:
            with open_parquet(self.path) as file:
                yield from file.iter_batches(size, columns=columns, use_threads=False)
        except DAMAGE as error:
            raise _unreadable(self.path, error) from error

    def records(self, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The values of `columns`, line by line: far less work than whole lines."""
        for batch in self.batches(columns):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)

    def __iter__(self) -> Iterator[ScoreRow]:
        """The lines in order, one at a time; memory does not grow with the table."""
        for batch in self.batches():
            yield from from_arrow(batch)


def _imported(name: str) -> Any:
    """A library that only some installations have."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{name} is not installed; pip install {name}") from error


def _unreadable(path: Path, error: BaseException) -> TableError:
    shown = escape(str(path), limit=200)
    if isinstance(error, OSError) and error.errno:
        return TableError(f"{shown}: cannot be read: {error.strerror}; choose another table")
    why = escape(str(error).strip().split("\n")[0], limit=120)
    return TableError(f"{shown}: is not a whole score table ({why}); score the data again")
