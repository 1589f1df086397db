"""Where data was, said so that it is found again."""

import os
from pathlib import Path

import pytest

from geofilter.data.rows import open_rows
from geofilter.runs.provenance import describe_origin, lasting
from helpers.row_files import GOOD

pytestmark = pytest.mark.usefixtures("here")


@pytest.mark.parametrize("name", ["d", "d/a.jsonl", "d/*.jsonl"])
def test_files_folders_and_patterns_are_found_from_another_folder(name: str) -> None:
    Path("d").mkdir()
    Path("d/a.jsonl").write_bytes(GOOD)
    place = lasting(name)
    assert place == os.path.abspath(name)
    whole = open_rows(name).fingerprint()
    os.chdir("/")
    assert open_rows(place).fingerprint() == whole


def test_what_is_no_place_here_stays_as_it_is() -> None:
    for name in ("hf://datasets/org/name", "organism", "no/such/*.jsonl"):
        assert lasting(name) == name


def test_of_several_files_each_is_named_in_its_order() -> None:
    for name in ("b.jsonl", "a.jsonl"):
        Path(name).write_bytes(GOOD)
    origin = describe_origin(open_rows(["b.jsonl", "a.jsonl"]))
    assert origin == {
        "source": "b.jsonl, a.jsonl",
        "files": [os.path.abspath("b.jsonl"), os.path.abspath("a.jsonl")],
    }
    assert describe_origin(open_rows("a.jsonl")) == {"source": "a.jsonl"}
