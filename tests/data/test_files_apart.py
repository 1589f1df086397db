"""Files that make no data set are refused in a line, with the way to one that is."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofilter.data.formats.places import is_local
from geofilter.data.rows import open_rows
from geofilter.errors import DataError, OutputError
from helpers.row_files import parquet
from helpers.shard_files import asked, make, make_shards, question

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return make_shards(tmp_path / "data")


REFUSED = {
    "a shard that is missing": (
        {"d_S_train_D_0_D_of_D_3__jsonl": b"", "d_S_train_D_2_D_of_D_3__jsonl": b""},
        "d",
        r"d/train-1-of-3\.jsonl: this shard is missing; there are 2 of 3; fetch all",
    ),
    "a shard that is missing, in a pattern": (
        {"train_D_00002_D_of_D_00003__jsonl": b""},
        "train-*.jsonl",
        r"train-00000-of-00003\.jsonl: this shard is missing, and 1 more; there are 1 of 3",
    ),
    "a shard that is missing, among names": (
        {"a_D_0_D_of_D_3__jsonl": b"1", "a_D_1_D_of_D_3__jsonl": b"2"},
        ["a-0-of-3.jsonl", "a-1-of-3.jsonl"],
        r"a-2-of-3\.jsonl: this shard is missing",
    ),
    "most of very many shards": (
        {"a_D_0_D_of_D_999999999__jsonl": b"1", "a_D_1_D_of_D_999999999__jsonl": b"2"},
        "a-*",
        r"a-2-of-999999999\.jsonl: this shard is missing, and 999,999,996 more",
    ),
    "shards of two sets": (
        {"a_D_0_D_of_D_1__jsonl": b"", "a_D_0_D_of_D_2__jsonl": b"", "a_D_1_D_of_D_2__jsonl": b""},
        "a-*",
        r"shards of 1 and of 2 lie side by side",
    ),
    "a shard beyond the number": (
        {"a_D_0_D_of_D_2__jsonl": b"", "a_D_2_D_of_D_2__jsonl": b""},
        "a-*",
        r"a-2-of-2\.jsonl: is no shard of 2; check its name",
    ),
    "several splits": (
        {"d_S_train_D_0__jsonl": b"", "d_S_train_D_1__jsonl": b"", "d_S_test__jsonl": b""},
        "d",
        r"d: holds the splits test, train; name the files of one, as in 'd/train-\*\.jsonl'",
    ),
    "several splits as the hub has them": (
        {
            "README__md": b"",
            "data_S_train_sft_D_00000_D_of_D_00001__parquet": b"",
            "data_S_test_sft_D_00000_D_of_D_00001__parquet": b"",
        },
        ".",
        r"holds the splits test_sft, train_sft; name the files of one, as in \./data/t\S+\.parquet",
    ),
    "a split among files of none": (
        {"d_S_train__jsonl": b"", "d_S_more__jsonl": b""},
        "d",
        r"d: holds the splits train and files of no split; name the files of one",
    ),
    "several folders": (
        {"d_S_train_S_a__jsonl": b"", "d_S_test_S_a__jsonl": b""},
        "d",
        r"d: holds 2 folders of rows \(test, train\); name one, as in d/test",
    ),
    "several formats": (
        {"d_S_a__jsonl": question("a"), "d_S_b__csv": b"question,answer\na,b\n"},
        "d",
        r"d/b\.csv: is csv, and d/a\.jsonl is jsonl; name files of one format",
    ),
    "a file given twice": (
        {"a__jsonl": b""},
        ["a.jsonl", "./a.jsonl"],
        r"\./a\.jsonl: is given twice",
    ),
    "a file named and matched": (
        {"a__jsonl": b"", "b__jsonl": b""},
        ["?.jsonl", "b.jsonl"],
        r"b\.jsonl: is given twice",
    ),
    "a file and its packed copy": (
        {"d_S_a__jsonl": b"", "d_S_a__jsonl__gz": b""},
        "d",
        r"d/a\.jsonl\.gz: may hold the rows of d/a\.jsonl once more",
    ),
    "a pattern of nothing": ({}, "no-*.jsonl", r"no-\*\.jsonl: no such file, and the pattern"),
    "a pattern of other files": (
        {"a__txt": b""},
        "*.txt",
        r"matches no file of rows; what it matches holds no rows \(a\.txt\)",
    ),
    "a missing file among others": (
        {"a__jsonl": b""},
        ["a.jsonl", "b.jsonl"],
        r"b\.jsonl: no such",
    ),
    "a hub name among files": (
        {"a__jsonl": b""},
        ["a.jsonl", "hf://datasets/a/b"],
        r"hf://datasets/a/b: is on the hub; name it alone",
    ),
    "no name": ({}, [], r"no file of rows is named"),
    "an empty name": ({"a__jsonl": b""}, "", r"no file of rows is named"),
    "an empty folder": ({"d_S_README__md": b""}, "d", r"d: is a folder without files of rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_make_no_data_set_are_refused_in_a_line(case: str, tmp_path: Path) -> None:
    files, names, message = REFUSED[case]
    make(tmp_path, **files)
    with pytest.raises(DataError, match=message) as caught:
        open_rows(names)
    assert str(caught.value).isprintable()


def test_a_pattern_says_which_split_is_meant(tmp_path: Path) -> None:
    make(
        tmp_path,
        d_S_train_D_00000_D_of_D_00002__jsonl=question("a"),
        d_S_train_D_00001_D_of_D_00002__jsonl=question("b"),
        d_S_test_D_00000_D_of_D_00001__jsonl=question("c"),
    )
    assert asked(open_rows("d/train-*.jsonl")) == ["a", "b"]
    # One shard alone may be meant.
    assert asked(open_rows("d/train-00001-of-00002.jsonl")) == ["b"]
    assert asked(open_rows("d/t*.jsonl")) == ["c", "a", "b"]


def test_a_score_table_is_not_taken_for_rows(tmp_path: Path) -> None:
    table = pa.table({"row": [0]}).replace_schema_metadata({"geofilter.score_table": "1"})
    (tmp_path / "d").mkdir()
    pq.write_table(table, "d/mine.parquet")
    make(tmp_path, d_S_a__parquet=parquet(question=["a"], answer=["1"]))
    for name in ("d/mine.parquet", "d"):
        with pytest.raises(DataError, match=r"d/mine\.parquet: is a table of geofilter's"):
            open_rows(name)


def test_a_pattern_in_quotes_may_begin_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path, d_S_a__jsonl=question("a"))
    assert asked(open_rows("~/d/*.jsonl")) == ["a"]


def test_the_pattern_that_is_advised_matches_what_it_is_advised_for(tmp_path: Path) -> None:
    for name in ("train-a", "train-b", "test-a"):
        make(tmp_path, **{f"odd [1]_S_{name}__jsonl": question(name)})
    with pytest.raises(DataError, match="splits test, train") as caught:
        open_rows("odd [1]")
    advised = str(caught.value).partition("as in ")[2].strip("'")
    assert asked(open_rows(advised)) == ["train-a", "train-b"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    make(tmp_path, **{"a[1]__jsonl": question("odd"), "a1__jsonl": question("other")})
    assert asked(open_rows("a[1].jsonl")) == ["odd"]


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        for name, what in (("s", "a socket"), ("/dev/zero", "a device")):
            with pytest.raises(DataError, match=f"{name}: is {what}; name a file"):
                open_rows(name)


def test_no_file_that_is_read_is_written(shards: Path) -> None:
    rows = open_rows("data")
    with pytest.raises(OutputError, match="is the file that is read"):
        rows.write("data/train-00001-of-00003.jsonl", [0], overwrite=True)
    with pytest.raises(OutputError, match="the rows are jsonl"):
        rows.write("kept.parquet", [0])


def test_saved_data_sets_are_named_alone(tmp_path: Path) -> None:
    from datasets import Dataset

    for name in ("one", "two"):
        Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "d" / name))
    with pytest.raises(DataError, match="one: is a saved data set; name it alone"):
        open_rows(["d/one", "d/two"])
    with pytest.raises(DataError, match=r"holds 2 folders of rows \(one, two\)"):
        open_rows("d")
    assert open_rows("d/one").format == "datasets"


IS_LOCAL: dict[str, tuple[Callable[[], object], bool]] = {
    "a.jsonl": (lambda: Path("a.jsonl").touch(), True),
    "?.jsonl": (lambda: Path("a.jsonl").touch(), True),
    ".": (lambda: None, True),
    "b*": (lambda: None, False),
    # It might be a search through the whole disk.
    "**/*.jsonl": (lambda: Path("a.jsonl").touch(), False),
    "x" * 300 + "*": (lambda: None, False),
    "pipe": (lambda: os.mkfifo("pipe"), False),
    "hf://datasets/a/*": (lambda: None, False),
}


@pytest.mark.parametrize("name", IS_LOCAL)
def test_what_is_local_is_neither_a_pipe_nor_on_the_hub(name: str) -> None:
    prepare, local = IS_LOCAL[name]
    prepare()
    assert is_local(name) == local
