"""Several files of one format as one data set: their rows one after the other.

Also one file whose name for a person is not its path: one found by a pattern or in a folder,
and the copy of what came through a pipe.
"""

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from geofilter.data.formats.source import Edits, RawRow, Source
from geofilter.data.formats.streams import shown
from geofilter.errors import DataError


@runtime_checkable
class Shard(Source, Protocol):
    """A source that may be one part of a data set, among others of its kind."""

    def unlike(self, first: Any) -> str | None:
        """Why it cannot follow `first` in one file, or None where it can."""
        ...

    @staticmethod
    def write_several(
        parts: Sequence[Any],
        name: str,
        path: str,
        indices: Iterable[int],
        edits: Edits | None,
        overwrite: bool,
    ) -> int:
        """As `Source.write`, with the rows of all `parts`, counted on from part to part."""
        ...


class Part(NamedTuple):
    """A file of the set: its `name` for a person, the `path` where its bytes are, its rows."""

    name: str
    path: Path
    source: Shard


class SeveralSource:
    """The rows of all `parts`, in their order. `name` is that of the whole, for messages.

    Raises `DataError` where the parts differ in format or in their columns, so that they could
    not be written as one file.
    """

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self._name = name
        self._parts = tuple(parts)
        first, *others = self._parts
        self.format, self.form = first.source.format, first.source.form
        for part in others:
            if part.source.format != self.format:
                raise DataError(
                    f"{shown(part.name)}: is {part.source.format}, and {shown(first.name)} is "
                    f"{self.format}; name files of one format, or convert them"
                )
        # An empty CSV file has not even a header, and no rows that could need one.
        first, *others = [part for part in parts if part.source.columns() != []] or [first]
        for part in others:
            if why := part.source.unlike(first.source):
                raise DataError(
                    f"{shown(part.name)}: {why} {shown(first.name)}; make them alike, or name "
                    "them apart"
                )

    def rows(self) -> Generator[RawRow, None, None]:
        for part in self._parts:
            yield from _placed(part, part.source.rows())

    def hashed_rows(self) -> tuple[Generator[RawRow, None, None], Callable[[], str]]:
        found: list[str] = []

        def rows() -> Generator[RawRow, None, None]:
            for part in self._parts:
                raws, fingerprint = part.source.hashed_rows()
                yield from _placed(part, raws)
                with named(part.name, part.path):
                    found.append(fingerprint())

        return rows(), lambda: _of_all(found)

    def columns(self) -> list[str] | None:
        """Those of the first part, then what further parts add."""
        found = self._parts[0].source.columns()
        if found is None:
            return None
        for part in self._parts[1:]:
            names = part.source.columns() or []
            found += [name for name in names if name not in found] if found else names
        return found

    def fingerprint(self) -> str:
        """A hash of the contents in their order; of one part its own. No name matters."""
        found = []
        for part in self._parts:
            with named(part.name, part.path):
                found.append(part.source.fingerprint())
        return _of_all(found)

    def write(self, path: str, indices: Iterable[int], edits: Edits | None, overwrite: bool) -> int:
        sources = [part.source for part in self._parts]
        with contextlib.ExitStack() as stack:
            for part in self._parts:
                stack.enter_context(named(part.name, part.path))
            return sources[0].write_several(sources, self._name, path, indices, edits, overwrite)


def _of_all(fingerprints: Sequence[str]) -> str:
    if len(fingerprints) == 1:
        return fingerprints[0]
    return hashlib.sha256("\n".join(fingerprints).encode()).hexdigest()


def _placed(part: Part, raws: Generator[RawRow, None, None]) -> Generator[RawRow, None, None]:
    """The rows, each with its part and its place there."""
    name = shown(part.name)
    with named(part.name, part.path), contextlib.closing(raws):
        for index, raw in enumerate(raws):
            raw.part = (name, index)
            yield raw


@contextlib.contextmanager
def named(name: str, path: Path) -> Iterator[None]:
    """Call a file in an error as a person calls it: a copy's own path says nothing."""
    try:
        yield
    except DataError as error:
        if str(path) == name:
            raise
        raise DataError(str(error).replace(shown(path), shown(name))) from error
