"""CSV as spreadsheets write it: semicolons, tabs, a line `sep=`, UTF-16; rows keep their bytes."""

import codecs
import csv
import io
from pathlib import Path

import pytest

from geofilter.data.formats.text_files import TextSource
from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import note, problems

TEXTS = [
    {"question": "Who bakes, and when?", "answer": "Émile; at six\nin the morning ✓"},
    {"question": 'What is a "roux"?', "answer": "Flour\tin butter"},
    {
        "question": "ਕੀ ਇਹ ਚਾਹ ਹੈ?",
        "answer": "ਹਾਂ 😀",
    },  # Gurmukhi: each half of a letter is a line feed
]
BOMS = {"utf-8": b"", "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}


def sheet(delimiter: str, ending: str, first: str = "", texts: list[dict[str, str]] = TEXTS) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(texts[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(texts)
    return first + out.getvalue().replace("\r\n", ending)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("file", "delimiter", "first"),
    [
        ("a.csv", ",", ""),
        ("a.csv", ";", ""),
        ("a.csv", "\t", ""),
        ("a.csv", "|", ""),
        ("a.csv", ";", "sep=;\r\n"),
        ("a.csv", "|", "SEP=|\n"),
        ("a.csv", ",", '"sep=,"\n'),
        ("a.csv", "\t", "sep=\t\n"),
        ("a.tsv", "\t", ""),
        ("a.tsv", ";", ""),
        ("a.tsv", ",", ""),
    ],
)
def test_a_sheet_is_read_and_written_in_its_own_way(
    file: str, delimiter: str, first: str, ending: str, encoding: str, tmp_path: Path
) -> None:
    path, kept = tmp_path / file, tmp_path / f"kept{file}"
    bom = codecs.BOM_UTF8 if encoding == "utf-8-sig" else BOMS[encoding]
    encoding = "utf-8" if encoding == "utf-8-sig" else encoding
    text = sheet(delimiter, ending, first)
    path.write_bytes(bom + text.encode(encoding))
    rows = open_rows(path)
    assert [row.record for row in rows] == TEXTS
    assert rows.check() == 3
    line = 2 + bool(first)
    assert [row.where.rpartition(":")[2] for row in rows] == [
        str(line),
        str(line + 2),
        str(line + 3),
    ]

    assert rows.write(kept, range(3)) == 3
    assert kept.read_bytes() == path.read_bytes()
    assert rows.write(kept, [0, 2], overwrite=True) == 2
    raws = [row.raw or b"" for row in rows]
    assert path.read_bytes() == kept.read_bytes().replace(raws[0], raws[0] + raws[1])

    assert rows.write(kept, [0, 2], notes=note, overwrite=True) == 2
    again = open_rows(kept)
    assert [row.record and row.record["answer"] for row in again] == [
        TEXTS[0]["answer"],
        TEXTS[2]["answer"],
    ]
    assert [row.record and row.record["geofilter_rank"] for row in again] == ["1", "3"]
    assert kept.read_bytes().startswith(bom + first.encode(encoding))
    assert again.write(tmp_path / f"back{file}", range(2)) == 2


UNCHANGED = [
    ("semicolons in texts", "question,answer\na;b;c,d;e\n", ",", 1),
    ("semicolons in a name", "note;extra,question,answer\n1,Is it?,Yes.\n", ",", 1),
    ("one column", "text\nHello; you\n", ",", 1),
    ("one column of two words", "Hello;World\nWe met; then; we left\n", ",", 2),
    ("no header", "Is it so?;Yes, it is.\n", ",", 1),
    ("nothing", "", ",", 0),
    ("a text about it", "sep=;x\n", ",", 1),
]
OTHER = [
    ("semicolons", "question;answer\nIs it, now?;Yes, it is.\n", ";", 1),
    ("a comma in a name", "question;answer;more, or less\n1;2;3\n", ";", 1),
    ("quotes", '"question";"answer"\n"1";"2"\n', ";", 1),
    ("a line in a name", '"the\nname";answer\n"1";"2"\n', ";", 1),
    ("names of its own", "frage;antwort\nJa, oder?;Nein.\n", ";", 1),
    ("tabs", "frage\tantwort\nJa?\tNein.\n", "\t", 1),
    ("stated without a header", "sep=;\nIs it so, now?;Yes, it is.\n", ";", 1),
    ("blank lines first", "\n\nquestion;answer\n1;2\n", ";", 1),
]


@pytest.mark.parametrize(
    ("text", "delimiter", "count"),
    [case[1:] for case in UNCHANGED + OTHER],
    ids=[case[0] for case in UNCHANGED + OTHER],
)
def test_the_header_alone_decides_on_the_delimiter(
    text: str, delimiter: str, count: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    dialect = TextSource(path, "csv", {"question", "answer"}).dialect
    assert dialect is not None
    assert dialect.delimiter == delimiter
    assert len(list(open_rows(path))) == count


def test_a_column_that_was_named_tells_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Meine Frage;Die Antwort\nJa?;Nein.\n")
    columns = {"prompt": "Meine Frage", "response": "Die Antwort"}
    rows = open_rows(path, layout="prompt-response", columns=columns)
    assert [row.record for row in rows] == [{"Meine Frage": "Ja?", "Die Antwort": "Nein."}]


def test_a_row_of_utf16_may_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "question;answer\nIs it?;{};{}\nWhy?;{}\nGood?;Yes.\nWhen?;\0\n"
    encoded = codecs.BOM_UTF16_LE + text.encode("utf-16-le")
    encoded = encoded.replace(
        "Why?;{}".encode("utf-16-le"), "Why?;".encode("utf-16-le") + b"\0\xd8"
    )
    path.write_bytes(encoded)
    rows = open_rows(path)
    found = problems(rows)
    assert [row.where.rpartition(":")[2] for row, _ in found] == ["2", "3", "5"]
    assert found[0][1].reason == "a record of 3 cells where 2 columns are"
    assert found[1][1].reason.startswith("not UTF-16: byte 11: 'Why?;")
    assert found[2][1].reason == "NUL character at character 7"
    kept = tmp_path / "kept.csv"
    assert rows.write(kept, range(4)) == 4
    assert kept.read_bytes() == encoded


def test_an_open_quote_in_utf16_spoils_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = 'question;answer\nWhy?;"So\n' + "Is it?;Yes.\n" * 5
    path.write_bytes(codecs.BOM_UTF16_BE + text.encode("utf-16-be"))
    rows = open_rows(path)
    assert len(list(rows)) == 6
    ((row, problem),) = problems(rows)
    assert row.where.endswith(":2")
    assert "opened and never closed" in problem.reason


@pytest.mark.parametrize(
    ("data", "hinted"),
    [
        (b"caf\xe9", True),
        (b"\x93caf\xe9\x94 \x80 5", True),
        ("café ".encode() + b"\xe9", False),  # UTF-8 with one damaged letter
        (b"\xff\x81", False),  # no letter of windows-1252
    ],
)
def test_windows_text_is_named_with_the_way_to_utf8(
    data: bytes, hinted: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"question;answer\r\nWhy?;" + data + b"\r\nIs it?;Yes.\r\n")
    ((_, problem),) = problems(open_rows(path))
    assert problem.reason.startswith("not UTF-8: byte 0x")
    assert ("iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW" in problem.reason) is hinted


def test_sheets_of_two_kinds_are_no_shards_of_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("question,answer\n1,2\n")
    (tmp_path / "b.csv").write_text("question;answer\n1;2\n")
    with pytest.raises(DataError, match=r"b\.csv: is written with semicolons, and not with commas"):
        open_rows([tmp_path / "a.csv", tmp_path / "b.csv"])


def test_shards_of_utf16_are_written_as_one(tmp_path: Path) -> None:
    bom = codecs.BOM_UTF16_LE
    for name in "ab":
        text = f"question;answer\n{name};1\n{name};2"
        (tmp_path / f"{name}.csv").write_bytes(bom + text.encode("utf-16-le"))
    rows = open_rows([tmp_path / "a.csv", tmp_path / "b.csv"])
    assert rows.write(tmp_path / "all.csv", range(4)) == 4
    text = "question;answer\na;1\na;2\nb;1\nb;2"
    assert (tmp_path / "all.csv").read_bytes() == bom + text.encode("utf-16-le")
