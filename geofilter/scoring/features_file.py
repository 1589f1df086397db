"""Sample features on disk: scoring again with them needs neither model nor tokenizer.

A Parquet file with one record per side of a row, in the order of the input, and a
manifest of the run that made them. A row that is a copy of an earlier one has a
record that says so; a row without features has its problem.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geofilter.data.problems import UNSCORED, Problem
from geofilter.errors import TableError
from geofilter.scoring.table import DAMAGE, MANIFEST_KEY, open_parquet
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest
from geofilter.support.pointers import refuse_pointer

if TYPE_CHECKING:  # It loads torch, and writing needs none of it.
    from geofilter.model.features import SampleFeatures

FORMAT_KEY = b"geofilter.features"
FORMAT = b"3"
# What a record holds in place of a problem.
_FEATURES, _COPY = "features", "copy"

_MOST_SIDES = 2  # the chosen and the rejected one
_HASH = re.compile("(?:[0-9a-f]{2})+")

_REMEDY = "save the features again with --save-features"

SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("row_hash", pa.string(), nullable=False),
        # `features`, `copy` or the status of a row that has none.
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("window_tokens", pa.int32(), nullable=False),
        pa.field("total_tokens", pa.int64(), nullable=False),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("pooled_tokens", pa.int32(), nullable=False),
        pa.field("unknown_share", pa.float64()),
        pa.field("latents", pa.list_(pa.int32()), nullable=False),
        pa.field("weights", pa.list_(pa.float32()), nullable=False),
        pa.field("decoded", pa.list_(pa.float32()), nullable=False),
        pa.field("mean_hidden", pa.list_(pa.float32()), nullable=False),
        # Empty where they were not asked for.
        pa.field("push", pa.list_(pa.float32()), nullable=False),
        pa.field("answer_hidden", pa.list_(pa.float32()), nullable=False),
        pa.field("squared_error", pa.float64(), nullable=False),
        pa.field("squared_norm", pa.float64(), nullable=False),
    ]
)
_LISTS = {
    "latents": np.int32,
    "weights": np.float32,
    "decoded": np.float32,
    "mean_hidden": np.float32,
    "push": np.float32,
    "answer_hidden": np.float32,
}
# Those that hold something only where the scorer asked for it.
_ASKED_FOR = ("push", "answer_hidden")


@dataclass(slots=True)
class Side:
    """What is known of one side of a row before it is scored.

    `problem`: why it has no score, found by the tokenizer or by the model. The window is
    the part of the conversation that the model sees: `window_tokens` of `total_tokens`,
    `truncated` when that is not all, `pooled_tokens` of them the response's own; all 0
    where the tokenizer found the problem. `features`: None where there is a problem or
    where they are not kept.
    """

    problem: Problem | None = None
    window_tokens: int = 0
    total_tokens: int = 0
    truncated: bool = False
    pooled_tokens: int = 0
    unknown_share: float | None = None
    features: "SampleFeatures | None" = None


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A row of the input as its features were saved; without sides it is a copy.

    `index` counts from 0. `problem` is set for an unreadable row only, as in `rows.Row`.
    """

    index: int
    row_hash: str
    sides: tuple[Side, ...]

    @property
    def problem(self) -> Problem | None:
        first = self.sides[0].problem if self.sides else None
        return first if first is not None and first.status == "unreadable" else None


def to_arrow(rows: Sequence[SavedRow]) -> pa.Table:
    """The rows' records as a table of `SCHEMA`, in the order given."""
    places = [(row, side) for row in rows for side in (row.sides or (None,))]
    records: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row, side in places:
        _add(records, row, side)
    columns = {
        name: _lists(values, _LISTS[name])
        if name in _LISTS
        else pa.array(values, SCHEMA.field(name).type)
        for name, values in records.items()
    }
    return pa.table(columns, schema=SCHEMA)


def _add(records: dict[str, list[Any]], row: SavedRow, side: Side | None) -> None:
    features = None if side is None else side.features
    problem = None if side is None else side.problem
    status = _COPY if side is None else problem.status if problem else _FEATURES
    if status == _FEATURES and features is None:
        raise ValueError(f"row {row.index} has neither features nor a problem")
    side = side or Side()
    nothing = np.zeros(0, np.float32)
    values = {
        "row": row.index,
        "row_hash": row.row_hash,
        "status": status,
        "reason": escape(problem.reason, limit=2000) if problem else None,
        "window_tokens": side.window_tokens,
        "total_tokens": side.total_tokens,
        "truncated": side.truncated,
        "pooled_tokens": side.pooled_tokens,
        "unknown_share": side.unknown_share,
        "latents": nothing.astype(np.int32) if features is None else features.latents,
        "weights": nothing if features is None else features.weights,
        "decoded": nothing if features is None else features.decoded,
        "mean_hidden": nothing if features is None else features.mean_hidden,
        **{name: _given(features, name) for name in _ASKED_FOR},
        "squared_error": 0.0 if features is None else features.squared_error,
        "squared_norm": 0.0 if features is None else features.squared_norm,
    }
    for name, value in values.items():
        records[name].append(value)


def _given(features: "SampleFeatures | None", name: str) -> NDArray[np.float32]:
    found = None if features is None else getattr(features, name)
    return np.zeros(0, np.float32) if found is None else found


def _lists(arrays: Sequence[NDArray[Any]], dtype: type) -> pa.Array:
    """One list per array, without a Python object per number."""
    offsets = np.zeros(len(arrays) + 1, np.int32)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    flat = np.concatenate(arrays) if arrays else np.zeros(0)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat.astype(dtype, copy=False)))


def new_writer(handle: Any, metadata: dict[bytes, bytes]) -> pq.ParquetWriter:
    """A writer of `SCHEMA` with page checksums, for `open_parquet`."""
    return pq.ParquetWriter(
        handle,
        SCHEMA.with_metadata(metadata),
        compression="zstd",
        # Numbers that hardly ever repeat: a dictionary of them only costs memory.
        use_dictionary=["status", "reason"],
        write_page_checksum=True,
        write_statistics=False,
    )


class SavedFeatures:
    """Saved features on disk, read row by row; memory does not grow with the file.

    `manifest.decides` is what decides the features, `manifest.facts` says where model, SAE
    and pack were. `d_model` and `d_sae` bound what a record may hold.
    """

    source: str
    manifest: Manifest

    def __init__(self, path: Path, manifest: Manifest, d_model: int, d_sae: int) -> None:
        self.path = path
        self.source = str(path)
        self.manifest = manifest
        self.d_model = d_model
        self.d_sae = d_sae

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "SavedFeatures":
        """Open the features at `path`; the records are checked while they are read.

        Raises `TableError`, one line, when they are missing, cannot be read, are
        truncated, or are some other file.
        """
        path = Path(path)
        shown = escape(str(path), limit=200)
        refuse_pointer(path, TableError)
        if not os.path.exists(path):  # unlike Path.exists, false for a name that is too long
            raise TableError(
                f"{shown}: there is no such file; make it with geofilter score --save-features"
            )
        try:
            with open_parquet(path) as file:
                found = file.schema_arrow.metadata or {}
                if found.get(FORMAT_KEY) != FORMAT:
                    raise TableError(
                        f"{shown}: holds no saved features that this version reads; {_REMEDY}"
                    )
                if not file.schema_arrow.remove_metadata().equals(SCHEMA):
                    raise ValueError("its columns are not those of saved features")
                manifest = Manifest.from_json(found[MANIFEST_KEY])
                sizes = [manifest.facts[name] for name in ("d_model", "d_sae")]
        except DAMAGE as error:
            raise _unreadable(path, error) from error
        # Without an SAE there are no latents.
        if not all(
            isinstance(size, int) and size >= no_less
            for size, no_less in zip(sizes, (1, 0), strict=True)
        ):
            raise _unreadable(path, ValueError("its manifest gives no sizes"))
        return cls(path, manifest, *map(int, map(str, sizes)))

    def __iter__(self) -> Iterator[SavedRow]:
        """The rows in order. Raises `TableError` at the first record that is not whole."""
        index, sides = -1, list[Side]()
        row_hash = ""
        try:
            for record in self._records():
                if record.row == index and record.side is not None and sides:
                    sides.append(record.side)
                    if len(sides) > _MOST_SIDES:
                        raise ValueError(f"row {index + 1} has more than {_MOST_SIDES} sides")
                    continue
                if index >= 0:
                    yield SavedRow(index, row_hash, tuple(sides))
                if record.row != index + 1:
                    raise ValueError(f"row {index + 1} is missing")
                index, row_hash = record.row, record.row_hash
                sides = [] if record.side is None else [record.side]
        except DAMAGE as error:
            raise _unreadable(self.path, error) from error
        if index >= 0:
            yield SavedRow(index, row_hash, tuple(sides))

    def _records(self) -> "Iterator[_Record]":
        with open_parquet(self.path) as file:
            for batch in file.iter_batches(256, use_threads=False):
                batch.validate(full=True)
                yield from _read_batch(batch, self.d_model, self.d_sae)


@dataclass(frozen=True, slots=True)
class _Record:
    row: int
    row_hash: str
    side: Side | None


def _read_batch(batch: pa.RecordBatch, d_model: int, d_sae: int) -> Iterator[_Record]:
    from geofilter.model.features import SampleFeatures

    plain = {name: batch.column(name).to_pylist() for name in SCHEMA.names if name not in _LISTS}
    lists = {name: _arrays(batch.column(name)) for name in _LISTS}
    for place in range(batch.num_rows):
        one = {name: values[place] for name, values in plain.items()}
        if not _HASH.fullmatch(one["row_hash"]):
            raise ValueError(f"row {one['row']} has a malformed hash")
        if one["status"] == _COPY:
            yield _Record(one["row"], one["row_hash"], None)
            continue
        side = Side(
            problem=_read_problem(one["status"], one["reason"]),
            window_tokens=one["window_tokens"],
            total_tokens=one["total_tokens"],
            truncated=one["truncated"],
            pooled_tokens=one["pooled_tokens"],
            unknown_share=one["unknown_share"],
        )
        if side.problem is None:
            arrays = {name: values[place] for name, values in lists.items()}
            _check(arrays, side.pooled_tokens, d_model, d_sae)
            push, answer = (arrays.pop(name) for name in _ASKED_FOR)
            side.features = SampleFeatures(
                **arrays,
                push=push if len(push) else None,
                influence=None,  # of a query, which is not kept
                answer_hidden=answer if len(answer) else None,
                n_tokens=side.pooled_tokens,
                squared_error=one["squared_error"],
                squared_norm=one["squared_norm"],
            )
        yield _Record(one["row"], one["row_hash"], side)


def _arrays(column: pa.ListArray) -> list[NDArray[Any]]:
    """The lists of a column as views of one copy of its values, which torch wants writable."""
    if column.null_count or column.values.null_count:
        raise ValueError("it holds lists with gaps")
    flat, bounds = np.array(column.values), column.offsets.to_pylist()
    return [flat[start:end] for start, end in pairwise(bounds)]


def _read_problem(status: str, reason: str | None) -> Problem | None:
    if status == _FEATURES:
        return None
    if status not in UNSCORED or not reason:
        raise ValueError("it holds a row without features or a reason")
    return Problem(status, reason)


def _check(arrays: dict[str, NDArray[Any]], pooled: int, d_model: int, d_sae: int) -> None:
    latents, weights = arrays["latents"], arrays["weights"]
    whole = (
        len(latents) == len(weights)
        and len(arrays["decoded"]) == len(arrays["mean_hidden"]) == d_model
        and all(len(arrays[name]) in (0, d_model) for name in _ASKED_FOR)
        and pooled > 0
        # A row may have no own answer, which is NaN.
        and all(
            np.isfinite(arrays[name]).all()
            for name in _LISTS
            if name not in ("latents", "answer_hidden")
        )
    )
    if whole and len(latents):
        whole = bool(latents[0] >= 0 and latents[-1] < d_sae and (np.diff(latents) > 0).all())
    if not whole:
        raise ValueError("it holds features that do not fit its model")


def _unreadable(path: Path, error: BaseException) -> TableError:
    why = escape(str(error).strip().split("\n")[0], limit=120)
    return TableError(f"{escape(str(path), limit=200)}: holds no whole features ({why}); {_REMEDY}")
