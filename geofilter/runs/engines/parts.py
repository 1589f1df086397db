"""A score table while it is being made: parts in a folder next to it.

Each part holds the lines of a fixed range of rows and is published whole, so
that a kill at any moment loses at most the part in work. Finishing streams the
parts into the table, ranks included, and removes the folder.
"""

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geofilter.errors import OutputError, TableError
from geofilter.runs.engines.feature_parts import FeatureParts, FeaturesFile
from geofilter.scoring.features_file import SavedRow
from geofilter.scoring.table import (
    DAMAGE,
    FORMAT,
    FORMAT_KEY,
    MANIFEST_KEY,
    SCHEMA,
    ScoreRow,
    ScoreTable,
    check_lines,
    new_parquet,
    open_parquet,
    ranks,
    scores_with_nan,
    to_arrow,
)
from geofilter.support import atomic
from geofilter.support.display import escape
from geofilter.support.locking import locked
from geofilter.support.manifest import Manifest, difference

_PART = re.compile(r"part-(\d{6,})\.parquet")
_HASH_KEY = b"geofilter.manifest_hash"
_PART_ROWS = "part_rows"
# Row groups of the finished table: many small ones make a footer that fills memory.
_GROUP_ROWS = 8192


def refuse_other(what: str, before: Manifest, now: Manifest) -> None:
    """Raise `TableError` naming the difference unless both runs give the same scores."""
    if before.hash != now.hash:
        raise TableError(
            f"{what}: was made by another run ({'; '.join(difference(before, now))}); "
            "begin again with --restart or choose another output with -o"
        )


def parts_folder(out: Path) -> Path:
    """Where the parts of a table at `out` are kept until all are there."""
    return out.with_name(out.name + ".parts")


def kept_rows(out: Path) -> int:
    """How many rows the whole parts of an unfinished table at `out` hold; 0 without any."""
    folder, kept = parts_folder(out), 0
    # Not Path.is_dir, which raises for a name that is too long.
    for path in folder.iterdir() if os.path.isdir(folder) else ():
        if _PART.fullmatch(path.name):
            with contextlib.suppress(*DAMAGE), open_parquet(path) as file:
                kept += file.metadata.num_rows
    return kept


class PartsFolder:
    """`<out>.parts`, held by one process at a time.

    Use as a context manager: entering creates and locks the folder, and refuses
    parts that another run made unless `restart`. Nothing is thrown away before
    `begin`. Leaving keeps the whole parts; a folder without any is removed.

    With `features`, each part has a second file with its rows' features; a part without
    it is not whole.

    Raises `TableError` for a folder that is in use or belongs to another run, and
    `OutputError` when it cannot be written.
    """

    def __init__(
        self,
        out: Path,
        manifest: Manifest,
        *,
        part_rows: int,
        restart: bool = False,
        features: FeaturesFile | None = None,
    ) -> None:
        if part_rows < 1:
            raise ValueError(f"part_rows is {part_rows}; a part holds at least one row")
        self.out = out
        self.path = parts_folder(out)
        self.manifest = Manifest(manifest.decides, {**manifest.facts, _PART_ROWS: part_rows})
        self.part_rows = part_rows
        self._restart = restart
        self._held = contextlib.ExitStack()
        self._whole: dict[int, int] = {}
        self._features = None
        if features is not None:
            self._features = FeatureParts(self.path, features, manifest.hash)

    # The folder and its lock

    def __enter__(self) -> Self:
        try:
            with self._writable():
                self.path.mkdir(exist_ok=True)
                lock = self.path / "lock"
                lock.touch()
                self._held.enter_context(locked(lock, in_use=self._in_use()))
            if not self._restart:
                self._adopt()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.path.is_dir() and not self._part_files():
            self.remove()
        self._held.close()

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or escape(str(error))
            raise OutputError(
                f"{self._shown}: cannot be written: {reason}; choose another output with -o"
            ) from error

    @property
    def _shown(self) -> str:
        return escape(str(self.path), limit=200)

    def _in_use(self) -> TableError:
        return TableError(
            f"{self._shown}: another geofilter is at work on it; "
            "wait for it or choose another output with -o"
        )

    def _adopt(self) -> None:
        """Take over the manifest of parts that the same run left."""
        if not self._part_files():
            return
        try:
            saved = Manifest.from_json((self.path / "manifest.json").read_bytes())
            part_rows = saved.facts[_PART_ROWS]
            if not isinstance(part_rows, int) or part_rows < 1:
                raise ValueError("no number of rows per part")
        except (OSError, ValueError, KeyError) as error:
            raise TableError(
                f"{self._shown}: its manifest is missing or damaged; "
                "begin again with --restart or choose another output with -o"
            ) from error
        refuse_other(self._shown, saved, self.manifest)
        # The size of the parts shows in no result, so the first run's holds.
        self.manifest, self.part_rows = saved, part_rows

    # The parts

    def begin(self) -> None:
        """Throw away what must go, keep the whole parts, and be ready to write.

        With `restart` all parts go; otherwise temporaries and damaged parts.
        """
        with self._writable():
            if self._restart:
                self._clear()
            for leftover in self.path.glob(".*.tmp"):
                leftover.unlink()
            self._save("manifest.json", self.manifest.to_json())
            self._keep_whole_parts()

    def _keep_whole_parts(self) -> None:
        files = self._part_files()
        for number, path in files.items():
            try:
                lines = self._check(number, path)
                # Only the end of the input leaves a part short.
                if lines.num_rows < self.part_rows and number != max(files):
                    raise ValueError("its end is missing")
                if self._features and not self._features.is_whole(number, lines.num_rows):
                    raise ValueError("its features are missing")
            except DAMAGE:
                path.unlink()
            else:
                self._whole[number] = lines.num_rows

    def _save(self, name: str, text: str) -> None:
        with atomic.writing(self.path / name, overwrite=True) as handle:
            handle.write(text.encode("ascii"))

    @property
    def checked(self) -> bool:
        """Whether `mark_checked` was called for these inputs, maybe before a kill."""
        try:
            return (self.path / "checked").read_text("ascii") == self.manifest.hash
        except (OSError, ValueError):
            return False

    def mark_checked(self) -> None:
        """Remember that no row of the input is bad. Call after `begin`."""
        self._save("checked", self.manifest.hash)

    @property
    def whole(self) -> dict[int, int]:
        """Number of rows of every whole part, by the part's number from 0."""
        return dict(self._whole)

    def first_row(self, number: int) -> int:
        """The first row of part `number`."""
        return number * self.part_rows

    def read(self, number: int) -> pa.Table:
        """The lines of a whole part, a table of `SCHEMA` without ranks."""
        try:
            return self._check(number, self._part_path(number))
        except DAMAGE as error:
            raise TableError(
                f"{escape(str(self._part_path(number)), limit=200)}: was damaged after it was "
                "written; run the same command again to make this part again"
            ) from error

    @property
    def keeps_features(self) -> bool:
        return self._features is not None

    def write(
        self, number: int, rows: Sequence[ScoreRow], features: Sequence[SavedRow] | None = None
    ) -> None:
        """Publish a part: the lines of its rows, in order, and as many as it holds.

        `features` are those of the same rows, where they are kept.
        """
        first = self.first_row(number)
        if not 1 <= len(rows) <= self.part_rows:
            raise ValueError(f"part {number} cannot hold {len(rows)} rows")
        if [row.row for row in rows] != list(range(first, first + len(rows))):
            raise ValueError(f"part {number} does not hold the rows from {first} on")
        metadata = {FORMAT_KEY: FORMAT, _HASH_KEY: self.manifest.hash.encode("ascii")}
        lines = to_arrow(rows)
        if self._features is not None:
            # First: a part whose lines are there has its features too.
            self._features.write(number, features or ())
        with (
            atomic.writing(self._part_path(number)) as handle,
            new_parquet(handle, metadata) as writer,
        ):
            writer.write_table(lines)
        self._whole[number] = len(rows)

    def _part_path(self, number: int) -> Path:
        return self.path / f"part-{number:06d}.parquet"

    def _part_files(self) -> dict[int, Path]:
        matches = ((_PART.fullmatch(path.name), path) for path in self.path.iterdir())
        return dict(sorted((int(match[1]), path) for match, path in matches if match))

    def _check(self, number: int, path: Path) -> pa.Table:
        """The lines of the part at `path`; raises one of `DAMAGE` unless it is whole."""
        with open_parquet(path) as file:
            lines = file.read(use_threads=False)
        metadata = lines.schema.metadata or {}
        if not lines.schema.remove_metadata().equals(SCHEMA):
            raise ValueError("its columns are not those of a score table")
        if metadata[_HASH_KEY] != self.manifest.hash.encode("ascii"):
            raise ValueError("another run made it")
        if not 1 <= lines.num_rows <= self.part_rows:
            raise ValueError("it holds too few or too many rows")
        check_lines(lines, self.first_row(number))
        return lines

    # The end

    def finish(self) -> ScoreTable:
        """Publish the table from the parts, remove the folder, and return the table.

        Features are published before it. Memory: a few numbers for every row, for the
        ranks, and one part.
        """
        n_rows = sum(self._whole.values())
        if sorted(self._whole) != list(range(len(self._whole))):
            raise ValueError("parts are missing")
        if self._features is not None:
            self._features.finish(len(self._whole))
        metadata = {FORMAT_KEY: FORMAT, MANIFEST_KEY: self.manifest.to_json().encode("ascii")}
        scores = np.empty(n_rows, dtype=np.float32)
        for number, n_lines in self._whole.items():
            first = self.first_row(number)
            scores[first : first + n_lines] = scores_with_nan(self.read(number))
        rank = ranks(scores)
        del scores
        # In this folder first: what a kill leaves of it goes with the folder.
        whole = self.path / "table.parquet"
        with (
            atomic.writing(whole, overwrite=True) as handle,
            new_parquet(handle, metadata) as writer,
        ):
            self._stream(writer, rank)
        atomic.publish(whole, self.out)
        self.remove()
        return ScoreTable.read(self.out)

    def _stream(self, writer: pq.ParquetWriter, rank: np.ndarray) -> None:
        at = SCHEMA.get_field_index("rank")
        waiting: list[pa.Table] = []
        for number in sorted(self._whole):
            lines = self.read(number)
            first = self.first_row(number)
            here = rank[first : first + lines.num_rows].astype(np.int64)
            column = pa.array(here, mask=here == 0)
            lines = lines.set_column(at, SCHEMA.field("rank"), column)
            waiting.append(lines.replace_schema_metadata(writer.schema.metadata))
            if sum(map(len, waiting)) >= _GROUP_ROWS or number == max(self._whole):
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()

    def _clear(self) -> None:
        """Remove what geofilter made here, and nothing else."""
        made = [*self._part_files().values(), *self.path.glob("seen.sqlite*")]
        made += [*self.path.glob(".*.tmp"), *self.path.glob("features*.parquet")]
        made += [self.path / name for name in ("manifest.json", "checked", "table.parquet")]
        for path in made:
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder; files in it that geofilter did not make stay, and so does it."""
        self._clear()
        (self.path / "lock").unlink(missing_ok=True)
        try:
            self.path.rmdir()
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise


def remove_leftover_parts(out: Path, manifest: Manifest) -> None:
    """Remove the parts of a finished table that a kill kept from being removed."""
    if parts_folder(out).is_dir():
        with PartsFolder(out, manifest, part_rows=1, restart=True) as parts:
            parts.remove()
