"""Several files as one data set: which files, in which order, and written back as one."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import note, parquet
from helpers.shard_files import asked, make, make_shards, question

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return make_shards(tmp_path / "data")


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
