"""Rows of a data set on the hub: streamed, and identified by their commit."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from geofilter.data.formats import hub_sets
from geofilter.data.formats.source import Changes
from geofilter.data.problems import Unscorable
from geofilter.data.rows import open_rows
from geofilter.errors import DataError, OutputError
from helpers.row_files import layout_name, note

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


class Stream:
    """What `datasets` gives for a streamed split."""

    column_names = ("question", "answer")
    features = None  # the types are known once rows are read

    def __init__(self, *records: dict[str, object], fails: bool = False) -> None:
        self._records = records
        self._fails = fails

    def __iter__(self) -> Iterator[dict[str, object]]:
        yield from self._records
        if self._fails:
            raise ConnectionError("the network went away\nand more")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The calls that reach the hub's stand-in."""
    import datasets
    import huggingface_hub

    calls: list[tuple[object, ...]] = []
    splits = {
        "train": Stream({"question": "a", "answer": "b"}, {"question": "c", "answer": None}),
        "test": Stream({"question": "d", "answer": b"\x00"}, fails=True),
    }

    def load(repo: str, *, data_files: object, revision: object, streaming: bool) -> object:
        calls.append((repo, data_files, revision, streaming))
        if repo == "org/gone":
            raise ConnectionError("Couldn't reach 'org/gone' on the Hub\n\x1b[31mdetails")
        return splits

    def info(repo: str, revision: str | None, timeout: float) -> SimpleNamespace:
        return SimpleNamespace(sha=f"commit-of-{revision}")

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: SimpleNamespace(dataset_info=info))
    return calls


def test_a_hub_data_set_is_streamed_and_written_as_json_lines(
    asked: list[tuple[object, ...]], tmp_path: Path
) -> None:
    rows = open_rows("hf://datasets/org/name@v1/data/train.jsonl")
    assert asked == [("org/name", "data/train.jsonl", "commit-of-v1", True)]
    assert (rows.format, layout_name(rows)) == ("hub", "question-answer")
    first, second = rows
    assert first.where == "hf://datasets/org/name@v1/data/train.jsonl:row 1"
    assert (first.raw, first.record) == (None, {"question": "a", "answer": "b"})
    with pytest.raises(Unscorable, match="'answer' is null"):
        rows.layouts.samples(second.record or {})
    assert rows.write(tmp_path / "kept.jsonl", [0]) == 1
    assert (tmp_path / "kept.jsonl").read_bytes() == b'{"question": "a", "answer": "b"}\n'
    rows.write(tmp_path / "dropped.jsonl.gz", [1], notes=note)
    dropped = json.loads(gzip.decompress((tmp_path / "dropped.jsonl.gz").read_bytes()))
    assert dropped["geofilter"]["rank"] == 2
    changes = Changes({0}, lambda record: {"system": record["answer"]}, {"system": "b"})
    rows.write(tmp_path / "changed.jsonl", [0, 1], changes=changes)
    changed, same = (tmp_path / "changed.jsonl").read_bytes().splitlines()
    assert json.loads(changed) == {"question": "a", "answer": "b", "system": "b"}
    assert json.loads(same) == second.record
    with pytest.raises(OutputError, match="rows from the hub are written as JSON lines"):
        rows.write(tmp_path / "kept.parquet", [0])


def test_the_fingerprint_of_a_hub_data_set_follows_commit_file_and_split(
    asked: list[tuple[object, ...]],
) -> None:
    names = ["org/name", "org/name@v2", "org/name#test", "org/name/x.csv", "org/other"]
    prints = {open_rows(f"hf://datasets/{name}").fingerprint() for name in names}
    assert len(prints) == len(names)


def test_hub_failures_are_one_line(asked: list[tuple[object, ...]], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_rows("hf://datasets/org/gone")
    message = str(caught.value)
    assert message.startswith("hf://datasets/org/gone: cannot be read from the hub: https://")
    assert "cannot be reached" in message
    with pytest.raises(DataError, match=r"no split 'dev'; choose from train, test, as in hf://"):
        open_rows("hf://datasets/org/name#dev")
    rows = open_rows("hf://datasets/org/name#test")
    with pytest.raises(DataError, match=r"hf://.*: cannot be read from the hub: .* be reached"):
        list(rows)
    with pytest.raises(OutputError, match="row 1: column 'answer' holds bytes, which JSON cannot"):
        rows.write(tmp_path / "kept.jsonl", [0])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("threads", [0, 2])
def test_pictures_are_not_decoded_and_json_text_is_read(
    threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets
    import huggingface_hub

    types = {"text": datasets.Value("string"), "image": datasets.Image()}
    types |= {"more": datasets.Json(), "deep": datasets.List({"x": datasets.Json()})}
    record = {
        "text": "a",
        "image": {"bytes": b"no picture", "path": None},
        "more": {"x": [1, "b"]},
        "deep": [{"x": {"y": None}}],
    }
    held = datasets.Dataset.from_list([record], features=datasets.Features(types))
    # The library decodes in threads where the rows come from the network.
    stream = held.to_iterable_dataset().decode(num_threads=threads)
    info = SimpleNamespace(sha="commit")
    api = SimpleNamespace(dataset_info=lambda *_, **__: info)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": stream})
    rows = open_rows("hf://datasets/org/pictures")
    (row,) = rows
    assert row.record == record
    assert {again.row_hash for again in rows} == {row.row_hash}
    with pytest.raises(OutputError, match="column 'image' holds bytes, which JSON cannot"):
        rows.write(tmp_path / "kept.jsonl", [0])


@pytest.mark.parametrize(
    "name",
    ["hf://datasets/name", "hf://models/org/name", "hf://datasets/org/name#a b", "hf://", "hf://datasets/org/name@"],
)  # fmt: skip
def test_a_wrong_name_is_refused_with_the_form(name: str) -> None:
    with pytest.raises(DataError, match="write hf://datasets/ORG/NAME"):
        open_rows(name)


def test_hub_names_have_parts() -> None:
    assert hub_sets.parse_name("hf://datasets/o/n") == ("o/n", None, None, None)
    assert hub_sets.parse_name("hf://datasets/o/n@v1#dev") == ("o/n", "v1", None, "dev")
    assert hub_sets.parse_name("hf://datasets/o/n/a/b.csv") == ("o/n", None, "a/b.csv", None)
