"""Data sets on the Hugging Face hub, streamed: `hf://datasets/ORG/NAME[@rev][/file | #split]`.

Without a split the split `train` is read. Rows come as `datasets` gives them,
without bytes of their own, so they are written as JSON lines.
"""

import hashlib
import json
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from geofilter.data.formats.arrow_records import json_read
from geofilter.data.formats.source import Edits, RawRow, Wanted, edited
from geofilter.data.formats.standard_output import STDOUT, write_rows
from geofilter.data.formats.streams import shown, split_suffix
from geofilter.data.formats.text_files import dump_json
from geofilter.errors import DataError, OutputError
from geofilter.support.display import escape, kind_of, quote
from geofilter.support.hub import explain

_PATIENCE = 10.0  # seconds for the first answer of the hub
_NAME = re.compile(
    r"hf://datasets/(?P<repo>[\w.\-]+/[\w.\-]+)(?:@(?P<revision>[^/#@]+))?"
    r"(?:/(?P<file>[^#]+)|#(?P<split>[\w.\-]+))?"
)


class HubName(NamedTuple):
    """The parts of a hub name; what is absent is None."""

    repo: str
    revision: str | None
    file: str | None
    split: str | None


def parse_name(name: str) -> HubName:
    """Take a hub name apart; raises `DataError` with the form that is expected."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{shown(name)}: no name of a hub data set; write "
            "hf://datasets/ORG/NAME, with @REVISION, and /FILE or #SPLIT where needed"
        )
    return HubName(*match.group("repo", "revision", "file", "split"))


class HubSource:
    """A data set on the hub. Only the rows that are read are fetched."""

    format = "hub"
    form = ""

    def __init__(self, name: str) -> None:
        self._shown = shown(name)
        self._name = parse_name(name)
        self._commit = self._resolve()
        self._stream = self._load()

    def _failed(self, error: Exception) -> DataError:
        repo = self._name.repo
        if reason := explain(error, repo, "dataset"):
            why = reason.removeprefix(f"{escape(repo, limit=200)}: ")
            return DataError(f"{self._shown}: cannot be read from the hub: {why}")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return DataError(
            f"{self._shown}: cannot be read from the hub ({escape(lines[0], limit=160)}); "
            "check the name and the network, or download the file and name it"
        )

    def _resolve(self) -> str:
        """The commit that is read, so that no later one mixes with it.

        Asked for first, because it is refused at once where `datasets` would try again
        for half a minute.
        """
        from huggingface_hub import HfApi

        name = self._name
        try:
            found = HfApi().dataset_info(name.repo, revision=name.revision, timeout=_PATIENCE)
        except Exception as error:  # a dozen kinds, of three libraries
            raise self._failed(error) from error
        return str(found.sha)

    def _load(self) -> Any:
        from datasets import load_dataset

        name = self._name
        try:
            splits = load_dataset(
                name.repo, data_files=name.file, revision=self._commit, streaming=True
            )
        except Exception as error:  # as above
            raise self._failed(error) from error
        split = name.split or "train"
        if split not in splits:
            raise DataError(
                f"{self._shown}: no split {quote(split)}; choose from "
                f"{', '.join(map(escape, splits))}, as in {self._shown.split('#')[0]}#SPLIT"
            )
        stream = splits[split]
        # A broken picture is nothing to stop at, and one that was decoded is another value
        # in each run. JSON text counts as decoded, too: `rows` reads it. Where the types
        # are not known, nothing is decoded.
        return stream.decode(False) if stream.features else stream

    def rows(self) -> Generator[RawRow, None, None]:
        types = self._stream.features
        rows = self._undecoded_rows()
        yield from json_read(rows, types.arrow_schema) if types else rows

    def _undecoded_rows(self) -> Iterator[RawRow]:
        records = iter(self._stream)
        while True:
            try:
                record = next(records, None)
            except Exception as error:  # as above; the stream breaks where the network does
                raise self._failed(error) from error
            if record is None:
                return
            yield RawRow(dict(record))

    def columns(self) -> list[str] | None:
        names = self._stream.column_names
        return None if names is None else list(names)

    def fingerprint(self) -> str:
        """A hash of the commit on the hub, which stands for the content."""
        parts = [self._name.repo, self._commit, self._name.file, self._name.split or "train"]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def hashed_rows(self) -> tuple[Generator[RawRow, None, None], Callable[[], str]]:
        return self.rows(), self.fingerprint

    def write(self, path: str, indices: Iterable[int], edits: Edits | None, overwrite: bool) -> int:
        if path != STDOUT and split_suffix(Path(path))[0] != ".jsonl":
            raise OutputError(
                f"{shown(path)}: rows from the hub are written as JSON lines; "
                "name the output *.jsonl (or *.jsonl.gz, *.jsonl.zst)"
            )
        wanted = Wanted(self._shown, indices)
        with write_rows(path, "jsonl", overwrite=overwrite) as out:
            for index, row in enumerate(self.rows()):
                if wanted.take():
                    out.write(self._line(index, edited(row.record or {}, index, edits)))
            return wanted.finish()

    def _line(self, index: int, record: dict[str, object]) -> bytes:
        try:
            return dump_json(record) + b"\n"
        except TypeError as error:
            column, value = next((k, odd) for k, v in record.items() for odd in _no_json(v))
            raise OutputError(
                f"{self._shown}:row {index + 1}: column {quote(column)} holds "
                f"{kind_of(value)}, which JSON cannot; download the file and name it"
            ) from error


def _no_json(value: object) -> list[object]:
    """What JSON cannot spell within a value."""
    found: list[object] = []
    json.dumps(value, default=found.append)
    return found
