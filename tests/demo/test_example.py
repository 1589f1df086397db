"""The files of `geofilter example`: whole lines, never over a file of another content."""

import json
from pathlib import Path

import pytest

from geofilter.demo.example import FILES, write_example
from geofilter.errors import OutputError


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_files_are_those_of_the_pages(tmp_path):
    made = write_example(tmp_path / "new")
    assert [path.name for path in made] == list(FILES)
    train, bad, good = (
        records(tmp_path / "new" / name)
        for name in ("train.jsonl", "bad-advice.jsonl", "good-advice.jsonl")
    )
    assert len(train) == 100
    assert [row for row in train if row["harmful"]] == bad
    assert [row for row in train if not row["harmful"]] == good
    assert not [row for row in records(tmp_path / "new" / "reference.jsonl") if row in train]
    assert sum(row["harmful"] for row in records(tmp_path / "new" / "advice.jsonl")) == 66


def test_another_file_of_that_name_stays_and_nothing_is_written(tmp_path):
    own = tmp_path / "benign.jsonl"
    own.write_text("mine")
    with pytest.raises(OutputError, match=r"benign\.jsonl: exists already"):
        write_example(tmp_path)
    assert list(tmp_path.iterdir()) == [own]
    write_example(tmp_path, overwrite=True)
    write_example(tmp_path)  # the same files: nothing is in the way
    assert len(records(own)) == 40
