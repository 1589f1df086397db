"""A list that a person edited is applied as it stands, and a list that cannot be right is not."""

import csv
import json
from pathlib import Path

import pytest

from geofilter import filter_rows, open_rows
from geofilter.errors import DataError, GeofilterError
from geofilter.selection.decisions import read_decisions
from helpers.cli_folder import Geofilter
from helpers.score_rows import one_line

DATA = "".join(json.dumps({"prompt": f"p{n}", "response": f"r{n}"}) + "\n" for n in range(6))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").write_text(DATA)


def kept(listed: str, text: str, encoding: str = "utf-8") -> list[int]:
    """Places of the rows that are kept by a list of this name and text."""
    Path(listed).write_bytes(text.encode(encoding))
    Path("kept.jsonl").unlink(missing_ok=True)
    filter_rows("data.jsonl", None, "kept.jsonl", drop_rows=listed)
    lines = DATA.splitlines(keepends=True)
    return [lines.index(line) for line in Path("kept.jsonl").read_text().splitlines(keepends=True)]


# Each drops rows 1 and 4.
LISTS = {
    "rows alone": ("l.csv", "row\n4\n1\n"),
    "JSON lines": ("l.jsonl", '{"row": 1}\n{"row": "4"}\n'),
    "a JSON list": ("l.json", '[{"row": 1, "note": "x y"}, {"row": 4.0}]'),
    "decisions": ("l.csv", "row,decision\n0,keep\n1,drop\n2,unsure\n3,\n4,drop\n"),
    "decisions in JSON": (
        "l.jsonl",
        '{"row": 1, "decision": "drop"}\n{"row": 2, "decision": null}\n'
        '{"row": 4, "decision": "drop"}\n{"row": 5}\n',
    ),
    "capitals, blanks, decimals": ("l.csv", "row,decision, my note\n 1 ,Drop ,\n4.0, DROP,no\n"),
    "a spreadsheet's": (
        "l.csv",
        "\ufeffsep=;\r\nrow;decision;where\r\n1;drop;x\r\n4;drop;y\r\n;;\r\n",
    ),
    "tabs": ("l.tsv", "decision\trow\ndrop\t1\ndrop\t4\n"),
}


@pytest.mark.parametrize("name", LISTS)
def test_exactly_the_rows_that_are_marked_go(data, name: str) -> None:
    assert kept(*LISTS[name]) == [0, 2, 3, 5]


def test_a_list_in_utf_16_is_read_too(data) -> None:
    assert kept("l.csv", "\ufeff" + LISTS["tabs"][1], "utf-16-le") == [0, 2, 3, 5]


@pytest.mark.parametrize("text", ["row\n", "row,decision\n", "row,decision\n0,keep\n3,unsure\n"])
def test_a_list_that_marks_nothing_drops_nothing(data, text: str) -> None:
    assert kept("l.csv", text) == [0, 1, 2, 3, 4, 5]


HASH = "0" * 32
BAD = {
    "a row beyond the data": ("row\n1\n6\n", ":3: there is no row 6: data.jsonl has rows 0 to 5"),
    "no number": ("row\nfirst\n", ":2: row is 'first', which is no row"),
    "a negative number": ("row\n-1\n", ":2: row is '-1', which is no row"),
    "half a row": ("row\n1.5\n", ":2: row is '1.5', which is no row"),
    "an empty number": ("row,decision\n,drop\n", ":2: row is '', which is no row"),
    "no column of rows": ("line,decision\n1,drop\n", ":2: has no column 'row', but 'line'"),
    "no header": ("1\n2\n", ":1: has no column 'row'"),
    "a wrong word": (
        "row,decision\n1,remove\n",
        "row 1 is 'remove'; write drop, keep or unsure",
    ),
    "hidden text": ("row,decision\n1,dr\u200bop\n", r"'dr\u200bop'; write drop, keep or unsure"),
    "the same twice": ("row\n1\n2\n1\n", ":4: row 1 is listed already, at l.csv:2; delete one"),
    "two decisions": (
        "row,decision\n1,drop\n1,keep\n",
        ":3: says keep of row 1, and l.csv:2 says drop; delete one of the two",
    ),
    "one decision and none": (
        "row,decision\n1,drop\n1,\n",
        ":3: says nothing of row 1, and l.csv:2 says drop; delete one of the two",
    ),
    "nothing decided": ("row,decision\n1,\n2,\n", "no row has a decision; write drop or keep"),
    "another row": (
        f"row,decision,row_hash\n1,drop,{HASH}\n",
        ":2: row 1 of data.jsonl is another row than the one that was reviewed; give the data",
    ),
    "another row that stays": (f"row,decision,row_hash\n1,keep,{HASH}\n", "is another row"),
    "a broken line": ("row,decision\n1,drop,x\n", ":2: a record of 3 cells where 2 columns are"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_list_that_cannot_be_right_is_refused_in_one_line(data, name: str) -> None:
    text, said = BAD[name]
    with pytest.raises(DataError) as caught:
        kept("l.csv", text)
    assert said in one_line(caught)
    assert "l.csv" in one_line(caught)
    assert not Path("kept.jsonl").exists()


def test_a_review_comes_back_as_it_was_edited(work: Path, geofilter: Geofilter) -> None:
    scored = "--scores data.scores.parquet"
    asked = f"filter data.jsonl {scored} --drop-fraction 0.2 --action review -o all.jsonl"
    assert geofilter(f"{asked} --review r.csv").code == 0
    with open("r.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["decision"] for row in rows} == {""}
    hashes = {row.index: row.row_hash for row in open_rows("data.jsonl")}
    assert all(row["row_hash"] == hashes[int(row["row"])] for row in rows)
    gone = [int(row["row"]) for row in rows[::2]]
    for row, word in zip(rows, ["drop", "keep", "drop", "unsure"] * 2, strict=True):
        row["decision"] = word
    with open("r.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    before = Path("data.jsonl").read_bytes().splitlines(keepends=True)
    for scores, score in (("", False), (scored, True)):
        asked = f"filter data.jsonl {scores} --drop-rows r.csv -o kept.jsonl --dropped gone.jsonl"
        done = geofilter(f"{asked} --json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        assert [found[k] for k in ("kept", "dropped", "listed", "undecided")] == [36, 4, 8, 2]
        assert "2 rows are unsure or undecided, and kept" in done.err
        left = [line for place, line in enumerate(before) if place not in gone]
        assert Path("kept.jsonl").read_bytes() == b"".join(left)
        dropped = Path("gone.jsonl").read_text().splitlines()
        notes = [json.loads(line)["geofilter"] for line in dropped]
        assert [note["reason"] for note in notes] == [f"drop, by r.csv:{n}" for n in (2, 4, 6, 8)]
        assert [note["score"] is not None for note in notes] == [score] * 4
        Path("kept.jsonl").unlink()
        Path("gone.jsonl").unlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"drop_fraction": 0.1}, "give one of --drop-fraction, "),
        ({"action": "review", "review": "r.csv"}, "leave --action and --unscored out"),
        ({"unscored": "drop"}, "leave --action and --unscored out"),
        ({"dropped": "kept.jsonl"}, "name the same file"),
    ],
)
def test_a_list_goes_with_no_other_choice(data, options, said: str) -> None:
    Path("l.csv").write_text("row\n1\n")
    with pytest.raises(GeofilterError, match=said):
        filter_rows("data.jsonl", None, "kept.jsonl", drop_rows="l.csv", **options)
    assert not Path("kept.jsonl").exists()


def test_scores_are_needed_where_there_is_no_list(data, geofilter: Geofilter) -> None:
    with pytest.raises(GeofilterError, match="give --scores"):
        filter_rows("data.jsonl", None, "kept.jsonl", drop_fraction=0.1)
    done = geofilter("filter data.jsonl --drop-fraction 0.1 -o kept.jsonl")
    assert (done.code, "--scores" in done.err) == (2, True)


def test_a_list_of_many_lines_is_read_once(data) -> None:
    Path("l.csv").write_text("row\n" + "".join(f"{n}\n" for n in range(5000)))
    assert len(read_decisions("l.csv").lines) == 5000
