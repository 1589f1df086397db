"""Features while they are being saved: one file per part, next to the part's lines.

Finishing streams them into one file and gives it its place.
"""

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from geofilter.errors import OutputError, TableError
from geofilter.scoring.features_file import (
    FORMAT,
    FORMAT_KEY,
    SavedFeatures,
    SavedRow,
    new_writer,
    to_arrow,
)
from geofilter.scoring.table import DAMAGE, MANIFEST_KEY, open_parquet
from geofilter.support import atomic
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, difference

_HASH_KEY = b"geofilter.manifest_hash"
_ROWS_KEY = b"geofilter.rows"


@dataclass(frozen=True, slots=True)
class FeaturesFile:
    """Where features are to be saved, and the record of what makes them."""

    path: Path
    manifest: Manifest

    def refuse_other(self, *, restart: bool) -> None:
        """Raise unless the place is free or holds features of the same making.

        `TableError` for any other file; with `restart`, other features may be replaced.
        `OutputError` when nothing can be written there.
        """
        atomic.check_output(self.path, overwrite=True)
        if not os.path.lexists(self.path):
            return
        try:
            found = SavedFeatures.read(self.path)
        except TableError as error:
            raise TableError(
                f"{str(error).rpartition(';')[0]}; remove it or choose another --save-features"
            ) from error
        if found.manifest.hash != self.manifest.hash and not restart:
            differing = "; ".join(difference(found.manifest, self.manifest))
            raise TableError(
                f"{escape(str(self.path), limit=200)}: was made by another run ({differing}); "
                "begin again with --restart or choose another --save-features"
            )


class FeatureParts:
    """The features of the parts in `folder`, on their way to `target`.

    `run` is the hash of the manifest of the run that the parts belong to.
    """

    def __init__(self, folder: Path, target: FeaturesFile, run: str) -> None:
        self._folder = folder
        self._target = target
        self._run = run.encode("ascii")

    def _path(self, number: int) -> Path:
        return self._folder / f"features-{number:06d}.parquet"

    def is_whole(self, number: int, n_rows: int) -> bool:
        """Whether the features of a part of `n_rows` rows were published by this run."""
        try:
            with open_parquet(self._path(number)) as file:
                found = file.schema_arrow.metadata or {}
        except DAMAGE:
            return False
        return found.get(_HASH_KEY) == self._run and found.get(_ROWS_KEY) == b"%d" % n_rows

    def write(self, number: int, rows: Sequence[SavedRow]) -> None:
        """Publish the features of a part."""
        metadata = {FORMAT_KEY: FORMAT, _HASH_KEY: self._run, _ROWS_KEY: b"%d" % len(rows)}
        records = to_arrow(rows)
        with (
            atomic.writing(self._path(number), overwrite=True) as handle,
            new_writer(handle, metadata) as writer,
        ):
            writer.write_table(records)

    def finish(self, n_parts: int) -> None:
        """Publish the features of all parts. Memory: one part.

        Raises `TableError` for a part that was damaged since; it is then made again by the
        next run.
        """
        metadata = {
            FORMAT_KEY: FORMAT,
            MANIFEST_KEY: self._target.manifest.to_json().encode("ascii"),
        }
        # In the folder first: what a kill leaves of it goes with the folder.
        whole = self._folder / "features.parquet"
        with (
            atomic.writing(whole, overwrite=True) as handle,
            new_writer(handle, metadata) as writer,
        ):
            for number in range(n_parts):
                records = self._read(number).replace_schema_metadata(metadata)
                writer.write_table(records)
        _move(whole, self._target.path)

    def _read(self, number: int) -> pa.Table:
        path = self._path(number)
        try:
            with open_parquet(path) as file:
                return file.read(use_threads=False)
        except DAMAGE as error:
            path.unlink(missing_ok=True)
            raise TableError(
                f"{escape(str(path), limit=200)}: was damaged after it was written; "
                "run the same command again to make this part again"
            ) from error


def _move(whole: Path, target: Path) -> None:
    """Give the whole and flushed file `whole` the name `target`, maybe on another disk."""
    try:
        os.replace(whole, target)
        atomic.sync_folder(target.parent)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise OutputError(
                f"{escape(str(target), limit=200)}: cannot be written: {error.strerror}; "
                "choose another --save-features"
            ) from error
        with whole.open("rb") as source, atomic.writing(target, overwrite=True) as handle:
            shutil.copyfileobj(source, handle, 2**20)
