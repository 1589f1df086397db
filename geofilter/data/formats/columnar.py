"""Parquet files and saved `datasets` folders: rows without bytes of their own.

Rows go from file to file as Arrow columns and are never rebuilt from Python objects, so that
types and values survive; of a row that changes only the cells that do are. With notes columns are
added: `geofilter_score`, `geofilter_rank` and so on.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from geofilter.data.formats.arrow_edits import NOTE_TYPES, edited, edited_schema
from geofilter.data.formats.arrow_records import record_rows
from geofilter.data.formats.source import NOTE_COLUMNS, Edits, Notes, RawRow, Wanted
from geofilter.data.formats.standard_output import STDOUT, check_stdout, write_rows
from geofilter.data.formats.streams import (
    PARQUET_SUFFIXES,
    hash_files,
    open_file,
    open_stream,
    shown,
    split_suffix,
)
from geofilter.data.formats.strict_json import parse_object
from geofilter.errors import DataError, OutputError
from geofilter.support.atomic import writing_folder
from geofilter.support.display import escape, no_utf8, quote
from geofilter.support.pointers import refuse_pointers

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 512  # rows turned into Python objects at once
# What begins the keys under which score tables and features describe themselves.
_OURS = b"geofilter."
_GROUP_BYTES = 64 * 2**20  # of Arrow data, for one row group of an output


def _take(table: pa.Table, places: list[int]) -> pa.Table:
    """The rows at `places`, of any type: Arrow cannot take from views and run lengths."""
    try:
        return table.take(pa.array(places, pa.int64()))
    except pa.ArrowNotImplementedError:
        return pa.concat_tables([table.slice(place, 1) for place in places]).combine_chunks()


def _chosen(batches: Iterable[Any], wanted: Wanted, edits: Edits | None) -> Iterator[pa.Table]:
    """The wanted rows of each batch, as tables."""
    for batch in batches:
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        start = wanted.seen
        places = [place for place in range(table.num_rows) if wanted.take()]
        if places:
            yield edited(_take(table, places), [start + place for place in places], edits)


class ParquetSource:
    """A Parquet file, read batch by batch."""

    format = "parquet"
    form = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:  # a damaged file is refused at once, not at its first row
            self._schema: pa.Schema = file.schema_arrow
        if any(key.startswith(_OURS) for key in self._schema.metadata or ()):
            raise DataError(
                f"{shown(path)}: is a table of geofilter's, not rows; name the data it is of"
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            handle: Any = stack.enter_context(open_file(self._path))
            if split_suffix(self._path)[1]:
                # Parquet is read from its end, which a compressed stream cannot do.
                handle = stack.enter_context(tempfile.TemporaryFile())
                with open_stream(self._path) as stream:
                    shutil.copyfileobj(stream, handle)
                handle.seek(0)
            try:
                # Buffered: else a whole row group's column lies in memory.
                file = pq.ParquetFile(handle, pre_buffer=False, buffer_size=2**20)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error) from error
            yield file

    def _damaged(self, error: Exception) -> DataError:
        return DataError(
            f"{shown(self._path)}: no Parquet file, cut off, or damaged "
            f"({escape(str(error), limit=120)}); fetch it again"
        )

    def _batches(self, file: Any) -> Iterator[Any]:
        batches = file.iter_batches(_BATCH)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(error) from error
            if batch is None:
                return
            yield batch

    def rows(self) -> Generator[RawRow, None, None]:
        with self._open() as file:
            for batch in self._batches(file):
                yield from record_rows(batch)

    def columns(self) -> list[str] | None:
        return list(self._schema.names)

    def hashed_rows(self) -> tuple[Generator[RawRow, None, None], Callable[[], str]]:
        return self.rows(), self.fingerprint

    def fingerprint(self) -> str:
        return hash_files([self._path], [""])

    def write(self, path: str, indices: Iterable[int], edits: Edits | None, overwrite: bool) -> int:
        return self.write_several([self], shown(self._path), path, indices, edits, overwrite)

    @staticmethod
    def write_several(
        parts: "Sequence[ParquetSource]",
        name: str,
        path: str,
        indices: Iterable[int],
        edits: Edits | None,
        overwrite: bool,
    ) -> int:
        """As `Source.write`, with the rows of all `parts`; a column that one lacks is null."""
        if path != STDOUT and split_suffix(Path(path))[0] not in PARQUET_SUFFIXES:
            raise OutputError(
                f"{shown(path)}: the rows are Parquet; name the output *{PARQUET_SUFFIXES[0]}"
            )
        wanted = Wanted(name, indices)
        schema = parts[0]._schema
        for part in parts[1:]:
            schema = _unified(schema, part._schema)
        with (
            write_rows(path, "parquet", overwrite=overwrite) as out,
            parts[0]._open() as file,
            _writer(out, schema, _codec(file), edits) as add,
        ):
            for part in parts:
                with part._open() as file:
                    tables = _chosen(part._batches(file), wanted, edits)
                    try:
                        for table in tables:
                            add(table)
                    except pa.ArrowException as error:
                        raise DataError(
                            f"{shown(part._path)}: its columns do not fit into one file with the "
                            f"others ({escape(str(error), limit=120)}); convert them, or name "
                            "the files apart"
                        ) from error
            return wanted.finish()

    def unlike(self, first: "ParquetSource") -> str | None:
        """Why the columns do not go into one file with those of `first`."""
        ours, theirs = self._schema, first._schema
        if ours.equals(theirs):
            return None
        for schema in (ours, theirs):
            if len({*schema.names}) < len(schema.names):
                return "does not have the columns of"
        for name in ours.names:
            if name in theirs.names:
                kinds = ours.field(name), theirs.field(name)
                try:
                    _unified(*(pa.schema([kind]) for kind in kinds))
                except pa.ArrowException:
                    spelled = (escape(str(kind.type), limit=100) for kind in kinds)
                    return f"column {quote(name)} is {' and not '.join(spelled)} as in"
        return None


def _unified(one: pa.Schema, other: pa.Schema) -> pa.Schema:
    """The columns of both; of numbers and text the wider type."""
    if one.equals(other):
        return one
    # Without what the first file says of its columns alone.
    found = pa.unify_schemas([one, other], promote_options="permissive")
    return found if found.equals(one) else found.remove_metadata()


def _codec(file: Any) -> str:
    """The compression of a Parquet file."""
    metadata = file.metadata
    if not (metadata.num_row_groups and metadata.num_columns):
        return "snappy"
    codec = metadata.row_group(0).column(0).compression.lower()
    return "none" if codec == "uncompressed" else str(codec)


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the columns and types of `schema`, null where it has no such column."""
    if table.schema.equals(schema):
        return table
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


@contextlib.contextmanager
def _writer(
    out: Any, schema: pa.Schema, codec: str, edits: Edits | None
) -> Iterator[Callable[[pa.Table], None]]:
    """What takes tables and writes them as one Parquet file, in row groups of a good size."""
    schema = edited_schema(schema, edits)
    with pq.ParquetWriter(out, schema, compression=codec) as writer:
        held: list[pa.Table] = []
        size = 0

        def add(table: pa.Table) -> None:
            nonlocal size
            held.append(_fitted(table, schema))
            size += table.nbytes
            if size >= _GROUP_BYTES:
                writer.write_table(pa.concat_tables(held))
                held.clear()
                size = 0

        yield add
        if held:
            writer.write_table(pa.concat_tables(held))


class FolderSource:
    """A data set that `Dataset.save_to_disk` wrote."""

    format = "datasets"
    form = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._check()
        self._dataset = self._load()

    def _check(self) -> None:
        if (self._path / "dataset_dict.json").is_file():
            splits = sorted(entry.parent.name for entry in self._path.glob("*/state.json"))
            named = ", ".join(escape(split) for split in splits)
            raise DataError(
                f"{shown(self._path)}: holds {len(splits)} splits ({named}); "
                f"name one, as in {shown(self._path / (splits or ['train'])[0])}"
            )
        if not (self._path / "state.json").is_file():
            raise DataError(
                f"{shown(self._path)}: is a folder without files of rows and without a saved "
                "data set (no state.json); name a file, or a folder that has them"
            )
        self._check_names()
        refuse_pointers(self._path, (".arrow", ".json"), DataError)

    def _check_names(self) -> None:
        """Refuse files elsewhere: they would be read and be no part of the fingerprint."""
        path = self._path / "state.json"
        with open_file(path) as handle:
            state, fault = parse_object(handle.read())
        if state is None:
            raise DataError(f"{shown(path)}: {fault}; save the data set again")
        files = state.get("_data_files")
        for file in files if isinstance(files, list) else []:
            name = file.get("filename") if isinstance(file, dict) else None
            if not isinstance(name, str) or name != Path(name).name or name == "..":
                raise DataError(
                    f"{shown(path)}: names the file {quote(name)}, which does not lie in "
                    "the folder; save the data set again"
                )

    def _load(self) -> "Dataset":
        from datasets import load_from_disk

        if reason := no_utf8(self._path):
            raise DataError(reason)
        try:
            return load_from_disk(str(self._path)).with_format("arrow")
        except Exception as error:  # whatever a damaged folder makes the library raise
            raise DataError(
                f"{shown(self._path)}: the saved data set is damaged "
                f"({escape(str(error), limit=120)}); save it again"
            ) from error

    def rows(self) -> Generator[RawRow, None, None]:
        for table in self._dataset.iter(_BATCH):
            yield from record_rows(table)

    def columns(self) -> list[str] | None:
        return list(self._dataset.column_names)

    def hashed_rows(self) -> tuple[Generator[RawRow, None, None], Callable[[], str]]:
        return self.rows(), self.fingerprint

    def fingerprint(self) -> str:
        files = sorted(path for path in self._path.rglob("*") if path.is_file())
        return hash_files(files, [path.relative_to(self._path).as_posix() for path in files])

    def write(self, path: str, indices: Iterable[int], edits: Edits | None, overwrite: bool) -> int:
        from datasets import Dataset

        if path == STDOUT:
            check_stdout(self.format)
        if reason := no_utf8(path):
            raise OutputError(reason)
        wanted = Wanted(shown(self._path), indices)
        with writing_folder(path, overwrite=overwrite) as folder, _quiet():
            # In a folder of its own: a data set refuses to be saved next to its file.
            (folder / "work").mkdir()
            work = folder / "work" / "rows.arrow"
            tables = _chosen(self._dataset.iter(_BATCH), wanted, edits)
            _write_arrow(work, tables, self._features(edits))
            taken = wanted.finish()
            kept = Dataset.from_file(str(work))
            kept.info.description = self._dataset.info.description
            # Left to itself the library saves no rows as no files, and cannot load that.
            kept.save_to_disk(str(folder), num_shards=None if taken else 1)
            del kept
            shutil.rmtree(work.parent)
        return taken

    def _features(self, edits: Edits | None) -> Any:
        from datasets import Features, Value

        features = dict(self._dataset.features)
        if isinstance(edits, Notes):
            for name in NOTE_COLUMNS:
                features.pop(name, None)
            for name in edits.columns:
                features[name] = Value(str(NOTE_TYPES[name]).replace("double", "float64"))
        elif edits is not None:
            schema = edited_schema(self._dataset.features.arrow_schema, edits).remove_metadata()
            made = Features.from_arrow_schema(schema)
            features |= {name: made[name] for name in edits.new}
        return Features(features)


def _write_arrow(path: Path, tables: Iterator[pa.Table], features: Any) -> None:
    schema = features.arrow_schema
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_table(table.select(schema.names).cast(schema))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar of the library over our own."""
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if not disabled:
            enable_progress_bars()
