"""Several files as one data set: which files, in which order, and written back as one."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from geofilter.data.formats.places import is_local
from geofilter.data.rows import RowFile, open_rows
from geofilter.errors import DataError, OutputError
from helpers.row_files import line, note, parquet


def asked(rows: RowFile) -> list[object]:
    return [row.record and row.record["question"] for row in rows]


def question(text: str) -> bytes:
    return line(question=text)


def make(folder: Path, **files: bytes) -> None:
    """Files whose names come as `a__jsonl` for `a.jsonl`, `d_S_a__jsonl` for `d/a.jsonl`."""
    for name, content in files.items():
        path = folder / name.replace("__", ".").replace("_S_", "/").replace("_D_", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Three shards of JSON lines: of two, one and two rows; two lack the last line's end."""
    make(
        tmp_path / "data",
        train_D_00000_D_of_D_00003__jsonl=question("a") + question("b").rstrip(b"\n"),
        train_D_00001_D_of_D_00003__jsonl=b"\n" + question("c"),
        train_D_00002_D_of_D_00003__jsonl=question("d") + question("e").rstrip(b"\n"),
    )
    return tmp_path / "data"


def test_a_folder_of_shards_is_one_data_set_whose_rows_name_their_shard(shards: Path) -> None:
    rows = open_rows("data")
    assert asked(rows) == ["a", "b", "c", "d", "e"]
    assert [row.index for row in rows] == [0, 1, 2, 3, 4]
    assert [row.where.removeprefix("data/train-0000") for row in rows] == [
        "0-of-00003.jsonl:1",
        "0-of-00003.jsonl:2",
        "1-of-00003.jsonl:2",
        "2-of-00003.jsonl:1",
        "2-of-00003.jsonl:2",
    ]
    assert rows.survey().rows == 5


def test_numbers_in_names_sort_by_their_value_and_named_files_stay_in_their_order(
    tmp_path: Path,
) -> None:
    make(tmp_path, **{f"part{n}__jsonl": question(str(n)) for n in (0, 1, 2, 10, 100)})
    in_order = ["0", "1", "2", "10", "100"]
    assert asked(open_rows("part*.jsonl")) == in_order
    assert asked(open_rows(".")) == in_order
    assert asked(open_rows(["part10.jsonl", "part2.jsonl"])) == ["10", "2"]
    assert asked(open_rows(["part10.jsonl", "part[01].jsonl"])) == ["10", "0", "1"]


def test_the_fingerprint_is_of_the_contents_in_their_order(shards: Path, tmp_path: Path) -> None:
    one, two, three = sorted(map(str, shards.iterdir()))
    whole = open_rows("data").fingerprint()
    assert open_rows("data/*.jsonl").fingerprint() == whole
    assert open_rows([one, two, three]).fingerprint() == whole
    assert open_rows([two, one, three]).fingerprint() != whole
    assert open_rows("data").survey().fingerprint == whole
    (shards / "README.md").write_text("about the data")
    assert open_rows("data").fingerprint() == whole
    Path(three).write_bytes(question("another"))
    assert open_rows("data").fingerprint() != whole
    # Of one file it is that of the file itself.
    make(tmp_path, alone_S_a__jsonl=question("a"))
    assert open_rows("alone").fingerprint() == open_rows("alone/a.jsonl").fingerprint()


def test_kept_lines_of_all_shards_keep_their_bytes_and_never_run_together(shards: Path) -> None:
    rows = open_rows("data")
    raw = [row.raw for row in rows]
    assert rows.write("kept.jsonl", [0, 1, 2, 4]) == 4
    assert Path("kept.jsonl").read_bytes() == b"".join(
        [raw[0] or b"", (raw[1] or b"") + b"\n", raw[2] or b"", raw[4] or b""]
    )
    assert rows.write("noted.jsonl", range(5), notes=note) == 5
    scores = [row.record and row.record["geofilter"]["score"] for row in open_rows("noted.jsonl")]  # type: ignore[index]
    assert scores == [0.5, -0.5, -1.5, -2.5, -3.5]
    rows.write("packed.jsonl.gz", [2])
    assert asked(open_rows("packed.jsonl.gz")) == ["c"]


def test_lines_that_are_parted_end_as_their_neighbours_do(tmp_path: Path) -> None:
    crlf = question("a").replace(b"\n", b"\r\n")
    make(tmp_path, a__jsonl=crlf + crlf.rstrip(), b__jsonl=crlf)
    open_rows(["a.jsonl", "b.jsonl"]).write("kept.jsonl", range(3))
    assert Path("kept.jsonl").read_bytes() == crlf * 3


def test_csv_files_are_written_under_one_header(tmp_path: Path) -> None:
    make(
        tmp_path,
        a__csv=b"\xef\xbb\xbfquestion,answer\r\na,1\r\nb,2",
        b__csv=b"question,answer\r\nc,3\r\n",
    )
    rows = open_rows(["a.csv", "b.csv"])
    assert rows.write("kept.csv", [0, 1, 2]) == 3
    whole = b"\xef\xbb\xbfquestion,answer\r\na,1\r\nb,2\r\nc,3\r\n"
    assert Path("kept.csv").read_bytes() == whole
    rows.write("noted.csv", [1, 2], notes=note)
    assert asked(open_rows("noted.csv")) == ["b", "c"]
    # As where a file was cut into pieces and only the first kept the header.
    make(tmp_path, b__csv=b"Why so?,Because it is.\r\n")
    with pytest.raises(DataError, match=r"^b\.csv: has the columns .*column_1.* a\.csv; make"):
        open_rows(["a.csv", "b.csv"])


def test_empty_files_are_parts_without_rows(tmp_path: Path) -> None:
    make(
        tmp_path,
        c_S_0__csv=b"",
        c_S_1__csv=b"question,answer\na,1\n",
        c_S_2__csv=b"",
        c_S_3__csv=b"question,answer\nb,2\n",
        l_S_0__jsonl=b"",
        l_S_1__jsonl=question("a"),
        e_S_0__csv=b"",
        e_S_1__csv=b"",
    )
    assert asked(open_rows("c")) == ["a", "b"]
    assert open_rows("c").write("kept.csv", [0, 1]) == 2
    assert Path("kept.csv").read_bytes() == b"question,answer\na,1\nb,2\n"
    assert asked(open_rows("l")) == ["a"]
    assert open_rows("e").write("empty.csv", []) == 0


def test_json_files_of_lines_may_hold_one_line_or_none(tmp_path: Path) -> None:
    make(tmp_path, a__json=question("a") + question("b"), b__json=question("c"), c__json=b"\n")
    for names in (["a.json", "b.json", "c.json"], ["c.json", "b.json", "a.json"]):
        assert open_rows(names).format == "jsonl"
        assert open_rows(names).check() == 3
    # Of objects alone each is a file of JSON.
    assert open_rows(["b.json", "c.json"]).format == "json"
    make(tmp_path, d__json=b'[{"question": "a", "answer": "1"}]')
    with pytest.raises(DataError, match=r"d\.json: is json, and a\.json is jsonl"):
        open_rows(["a.json", "d.json"])


def test_json_lists_are_written_as_one_list(tmp_path: Path) -> None:
    make(
        tmp_path,
        a__json=b'[{"question": "a",  "answer": "1"}]',
        b__json=b'[\n{"question": "b", "answer": "2"}\n]',
    )
    rows = open_rows("?.json")
    assert [row.where for row in rows] == ["a.json:1 (row 1)", "b.json:2 (row 1)"]
    rows.write("kept.json", [0, 1])
    assert Path("kept.json").read_bytes() == (
        b'[\n{"question": "a",  "answer": "1"},\n{"question": "b", "answer": "2"}\n]\n'
    )


def test_parquet_shards_become_one_file_with_the_columns_of_all(tmp_path: Path) -> None:
    make(
        tmp_path,
        d_S_train_D_0__parquet=parquet(question=["a", "b"], answer=["1", "2"]),
        d_S_train_D_1__parquet=parquet(question=["c"], answer=["3"], source=["web"]),
    )
    rows = open_rows("d")
    assert [row.where for row in rows][1:] == ["d/train-0.parquet:row 2", "d/train-1.parquet:row 1"]
    assert rows.write("kept.parquet", [1, 2]) == 2
    assert pq.read_table("kept.parquet").to_pylist() == [
        {"question": "b", "answer": "2", "source": None},
        {"question": "c", "answer": "3", "source": "web"},
    ]
    rows.write("noted.parquet", [0, 2], notes=note)
    assert pq.read_table("noted.parquet")["geofilter_score"].to_pylist() == [0.5, -1.5]
    make(tmp_path, d_S_train_D_2__parquet=parquet(question=[1], answer=["4"]))
    with pytest.raises(DataError, match=r"d/train-2\.parquet: column 'question' is int64 and not"):
        open_rows("d")


def test_a_row_that_cannot_be_read_names_its_own_file(tmp_path: Path) -> None:
    make(tmp_path, a__jsonl=question("a"), b__jsonl=question("b") + b"{oh\n")
    with pytest.raises(DataError, match=r"^b\.jsonl:2: unreadable"):
        open_rows(["a.jsonl", "b.jsonl"]).check()


def test_a_folder_as_the_hub_has_it_is_read_where_its_rows_are(tmp_path: Path) -> None:
    make(
        tmp_path / "set",
        README__md=b"# about",
        dataset_infos__json=b"{}",
        data_S_train_D_00000_D_of_D_00001__jsonl=question("a"),
        data_S_train__scores__parquet=b"a score table of ours",
        data_S_notes__doc=b"not rows",
        data_S_train__scores__parquet__parts_S_part__parquet=b"of a table of ours",
    )
    (tmp_path / "set" / ".gitattributes").write_text("*.parquet filter=lfs")
    rows = open_rows("set")
    assert rows.files == ("set/data/train-00000-of-00001.jsonl",)
    assert rows.unread_files == ("set/data/notes.doc",)


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
