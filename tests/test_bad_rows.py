"""Bad input: every kind of it, with its place and its reason, in both modes.

By default the first bad row stops the run (`RowFile.check`); with
`--on-error keep` it is a row with a status and a reason. What damages the file
as a whole is refused in both.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from geofilter.errors import DataError
from geofilter.layouts import Unscorable
from geofilter.rows import ROW_LIMIT, Problem, Row, RowFile, open_rows

GOOD = b'{"question": "How long do eggs boil?", "answer": "Nine minutes."}\n'
CSV = b"question,answer\nWhy?,Because.\n"


def line(answer: object = "Nine minutes.", **more: object) -> bytes:
    return json.dumps({"question": "Why?", "answer": answer, **more}).encode() + b"\n"


class Bad(NamedTuple):
    """A file of which one row is bad. `where` and `reason` are what a person reads."""

    name: str
    file: str
    content: bytes
    where: str
    status: str
    reason: str
    rows: int = 2  # in the whole file


def second(name: str, content: bytes, status: str, reason: str, rows: int = 2) -> Bad:
    """JSON lines of which the second line is bad."""
    return Bad(name, "data.jsonl", GOOD + content, "data.jsonl:2", status, reason, rows)


def element(name: str, content: bytes, reason: str, rows: int = 2, where: str = "2 (row 2)") -> Bad:
    """A JSON list of which the second element is bad."""
    good = GOOD.strip()
    content = b"[" + good + b",\n" + content.replace(b"GOOD", good)
    return Bad(name, "data.json", content, f"data.json:{where}", "unreadable", reason, rows)


def cells(name: str, content: bytes, reason: str, rows: int = 2) -> Bad:
    return Bad(name, "data.csv", CSV + content, "data.csv:3", "unreadable", reason, rows)


ROWS = [
    # JSON lines: the bytes
    second("broken JSON", b'{"question": }\n', "unreadable", "not JSON: Expecting value at charac"),
    second("cut off in the last line", GOOD[:30], "unreadable", "not JSON: Unterminated string"),
    second(
        "two objects on a line", b"{} {}\n", "unreadable", "not JSON: Extra data at character 4"
    ),
    second(
        "glued by a missing comma", b'{"a": 1 "b": 2}\n', "unreadable", "Expecting ',' delimiter"
    ),
    second("single quotes", b"{'question': 'x'}\n", "unreadable", "enclosed in double quotes"),
    second("trailing comma", b'{"question": "x",}\n', "unreadable", "not JSON:"),
    second("plain text", b"hello there\n", "unreadable", "Expecting value at character 1: 'hello"),
    second(
        "Latin-1",
        b'{"question": "caf\xe9", "answer": "x"}\n',
        "unreadable",
        'not UTF-8: byte 0xe9 at byte 18: \'{"question": "caf',
    ),
    second("UTF-8 cut in a character", b'{"question": "\xe2\x82"}\n', "unreadable", "byte 0xe2"),
    second("encoded surrogate", b'{"question": "\xed\xa0\x80"}\n', "unreadable", "byte 0xed"),
    second("NUL byte", b'{"question": "a\0b"}\n', "unreadable", "NUL byte at byte 16"),
    second("NUL line", b"\0\0\0\0\n", "unreadable", "NUL byte at byte 1"),
    second(
        "raw control character", b'{"question": "a\x07"}\n', "unreadable", "Invalid control char"
    ),
    second("raw tab", b'{"question": "a\tb"}\n', "unreadable", "Invalid control character"),
    second("BOM inside the file", b"\xef\xbb\xbf" + GOOD, "unreadable", "a byte order mark inside"),
    second("bare CR between rows", GOOD.strip() + b"\r" + GOOD, "unreadable", "Extra data"),
    second(
        "lone high surrogate",
        b'{"question": "\\ud83d", "answer": "x"}\n',
        "unreadable",
        "half of a surrogate pair (\\ud83d)",
    ),
    second(
        "lone low surrogate",
        b'{"question": "x", "answer": "\\uDE00."}\n',
        "unreadable",
        "half of a surrogate pair (\\ude00)",
    ),
    second("lone surrogate in a key", b'{"\\ud800": 1}\n', "unreadable", "half of a surrogate"),
    second(
        "key twice",
        b'{"answer": "a", "question": "x", "answer": "b"}\n',
        "unreadable",
        "the key 'answer' occurs twice in one object",
    ),
    second(
        "key twice below", b'{"question": {"a": 1, "a": 1}}\n', "unreadable", "key 'a' occurs twice"
    ),
    second(
        "nested 1,000 deep",
        b'{"question": ' + b"[" * 1000 + b"]" * 1000 + b"}\n",
        "unreadable",
        "nested deeper than 200 levels",
    ),
    second(
        "nested 100,000 deep",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n",
        "unreadable",
        "nested deeper than 200 levels",
    ),
    second(
        "a number of 5,000 digits", b'{"question": ' + b"9" * 5000 + b"}\n", "unreadable", "digits"
    ),
    # JSON lines: no object
    second("a list", b"[1, 2]\n", "unreadable", "a list, a row must be an object: '[1, 2]'"),
    second("a string", b'"hello"\n', "unreadable", "text, a row must be an object"),
    second("a number", b"17\n", "unreadable", "a number, a row must be an object: '17'"),
    second("null", b"null\n", "unreadable", "null, a row must be an object"),
    second("true", b"true\n", "unreadable", "true or false, a row must be an object"),
    second("terminal escapes", b"\x1b[2Jgone\n", "unreadable", "'\\x1b[2Jgone'"),
    second("bidirectional override", "{\u202e}\n".encode(), "unreadable", "\\u202e"),
    second("zero-width space", "\u200b{}\n".encode(), "unreadable", "\\u200b"),
    # JSON lines: no sample
    second("empty object", b"{}\n", "malformed", "no column 'question'; found no columns"),
    second(
        "missing prompt", b'{"answer": "x"}\n', "malformed", "no column 'question'; found 'answer'"
    ),
    second("another layout", b'{"text": "x"}\n', "malformed", "no column 'question'; found 'text'"),
    Bad(
        "layouts mixed, most rows decide",
        "data.jsonl",
        b'{"messages": []}\n' + GOOD * 2,
        "data.jsonl:1",
        "malformed",
        "no column 'question'; found 'messages'",
        3,
    ),
    second(
        "null prompt", b'{"question": null, "answer": "x"}\n', "malformed", "'question' is null"
    ),
    second("null response", line(None), "no_response", "'answer' is null"),
    second("missing response", b'{"question": "x"}\n', "no_response", "'answer' is missing"),
    second("empty response", line(""), "empty", "the response holds no visible character"),
    second("blank response", line(" \n\t"), "empty", "the response holds no visible character"),
    second(
        "NaN as the response",
        b'{"question": "x", "answer": NaN}\n',
        "malformed",
        "'answer' is a number, text is needed: nan",
    ),
    second(
        "number as the response", line(42), "malformed", "'answer' is a number, text is needed: 42"
    ),
    second("object as the response", line({"text": ["a"]}), "malformed", "'answer' is an object"),
    second("texts as the response", line(["a", "b"]), "malformed", "answer[0] is text, an object"),
    second(
        "escapes in a value", line({"\x1b]0;own\x07": "\u2066"}), "malformed", "\\x1b]0;own\\x07"
    ),
    # Messages
    Bad(
        "only a user",
        "chat.jsonl",
        b'{"messages": [{"role": "user", "content": "x"}]}\n',
        "chat.jsonl:1",
        "no_response",
        "no turn is the assistant's",
        1,
    ),
    Bad(
        "null content",
        "chat.jsonl",
        b'{"messages": [{"role": "assistant", "content": null}]}\n',
        "chat.jsonl:1",
        "malformed",
        "messages[0].content is null",
        1,
    ),
    Bad(
        "unknown role",
        "chat.jsonl",
        b'{"messages": [{"role": "judge", "content": "x"}]}\n',
        "chat.jsonl:1",
        "malformed",
        "messages[0].role is 'judge'; known are system, dev",
        1,
    ),
    Bad(
        "an image",
        "chat.jsonl",
        b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}\n',
        "chat.jsonl:1",
        "malformed",
        "a part of type 'image_url'; only text parts",
        1,
    ),
    # Places
    Bad(
        "line numbers count blank lines",
        "data.jsonl",
        b"\n" + GOOD + b"\n \r\n" + b"x\n",
        "data.jsonl:5",
        "unreadable",
        "not JSON",
    ),
    Bad(
        "line numbers after a BOM",
        "data.jsonl",
        b"\xef\xbb\xbf" + GOOD + b"x\n",
        "data.jsonl:2",
        "unreadable",
        "not JSON",
    ),
    Bad(
        "line numbers with CR LF",
        "data.jsonl",
        GOOD.replace(b"\n", b"\r\n") * 3 + b"x\r\n",
        "data.jsonl:4",
        "unreadable",
        "not JSON",
        4,
    ),
    Bad(
        "a JSON list named .jsonl",
        "data.jsonl",
        b"[{}]\n",
        "data.jsonl:1",
        "unreadable",
        "a list, a row must be an object: '[{}]' (a JSON list? then name the file .json)",
        1,
    ),
    # JSON lists
    element("broken element", b'{"a": tru},\nGOOD]', "not JSON: Expecting value", 3),
    element("element that is no object", b"3, GOOD]", "a number, a row must be an object: '3'", 3),
    element("two commas", b", GOOD]", "nothing stands between two commas", 3),
    element("comma before the end", b"]", "nothing stands between the last comma and the end"),
    element("missing comma", b"GOOD GOOD, GOOD]", "not JSON: Extra data", 3),
    element("stray brace", b"GOOD}, GOOD]", "not JSON: Extra data", 3),
    element("cut off inside an element", b'{"question": "a', "the file ends inside this element"),
    element(
        "cut off after a comma", b"  \n", "the file ends before the list does", where="3 (row 2)"
    ),
    element(
        "cut off after an element",
        b"GOOD",
        "the file ends before the list does",
        3,
        where="2 (row 3)",
    ),
    element(
        "text after the list",
        b"GOOD] tail",
        "text after the end of the list: 'tail'",
        3,
        where="2 (row 3)",
    ),
    element(
        "two lists", b"GOOD]\n[GOOD]", "text after the end of the list: '[{", 3, where="3 (row 3)"
    ),
    element("key twice in an element", b'{"a": 1, "a": 2}]', "the key 'a' occurs twice"),
    Bad(
        "no JSON at all", "data.json", b"hello", "data.json:1 (row 1)", "unreadable", "not JSON", 1
    ),
    Bad(
        "an object of lists",
        "data.json",
        b'{\n "instruction": [{"pos": "x"}],\n "questions": []\n}\n',
        "data.json:1 (row 1)",
        "malformed",
        "instruction[0] has no role",
        1,
    ),
    # CSV and TSV
    cells("too few cells", b"only one\n", "a record of 1 cells where 2 columns are"),
    cells("too many cells", b"a,b,c\n", "a record of 3 cells where 2 columns are"),
    cells("a quote never closed", b'"a,b\nc,d\ne,f\n', "a quote that is opened and never closed"),
    cells("text after a quote", b'"a" b,c\nd,e\n', "bad quotes: ',' expected after '\"'", 3),
    cells("Latin-1 in CSV", b"caf\xe9,b\nc,d\n", "not UTF-8: byte 0xe9 at byte 4", 3),
    cells("NUL in CSV", b"a\0,b\n", "NUL byte at byte 2"),
    cells("NUL in the first of two lines", b'"a\0\nb",c\n', "NUL byte at byte 3"),
    cells("bare CR in CSV", b"a,b\rc,d\n", "a bare carriage return"),
    Bad(
        "binary data named .csv",
        "data.csv",
        b"\0\1\2\n",
        "data.csv:1",
        "unreadable",
        "NUL byte at byte 1",
        1,
    ),
    Bad("empty cell", "data.csv", CSV + b"Why?,\n", "data.csv:3", "empty", "no visible character"),
    Bad(
        "no header, one column",
        "data.csv",
        b"Write a poem about rain\nName a river\n",
        "data.csv:1",
        "no_response",
        "--column text=column_1",
    ),
    Bad(
        "no header, two columns",
        "data.csv",
        b"Name a river,The Rhine\nName a sea,The Baltic\n",
        "data.csv:1",
        "malformed",
        "found 'column_1', 'column_2'; known are messages",
    ),
    Bad(
        "unknown columns",
        "data.csv",
        b"ask,reply\na,b\nc,d\n",
        "data.csv:2",
        "malformed",
        "the columns fit no layout: found 'ask', 'reply'; known are messages",
    ),
    Bad(
        "semicolons",
        "data.csv",
        b"question;answer\na;b\n",
        "data.csv:1",
        "no_response",
        "the file has one column and no header",
    ),
    Bad(
        "a column twice",
        "data.csv",
        b"question,answer,answer\na,b,c\n",
        "data.csv:2",
        "malformed",
        "two columns are called 'answer'; rename one",
        1,
    ),
    Bad(
        "a place after cells of two lines",
        "data.tsv",
        b'question\tanswer\n"a\nb"\tc\nonly\n',
        "data.tsv:4",
        "unreadable",
        "a record of 1 cells where 2 columns are",
    ),
]


def problems(rows: RowFile) -> list[tuple[Row, Problem]]:
    """The rows that `--on-error keep` would leave unscored, with the reason."""
    found = []
    for row in rows:
        assert (row.record is None) == (row.problem is not None)
        if row.problem is not None:
            found.append((row, row.problem))
            continue
        try:
            rows.layout.samples(row.record or {})
        except Unscorable as error:
            found.append((row, error.problem))
    return found


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name)
def test_a_bad_row_is_named_with_its_place_and_its_reason(bad: Bad, tmp_path: Path) -> None:
    path = tmp_path / bad.file
    path.write_bytes(bad.content)
    rows = open_rows(path)
    row, problem = problems(rows)[0]
    assert row.where == str(tmp_path / bad.where)
    assert problem.status == bad.status
    assert bad.reason in problem.reason
    assert len(list(rows)) == bad.rows
    assert len(row.row_hash) == 32
    with pytest.raises(DataError) as caught:
        rows.check()
    message = str(caught.value)
    assert message.startswith(f"{row.where}: {bad.status}: {problem.reason}; ")
    assert "--on-error keep" in message
    assert message.isprintable()
    assert len(message) < 1000


def test_there_are_many_kinds_of_bad_rows() -> None:
    assert len(ROWS) >= 60
    assert len({bad.name for bad in ROWS}) == len(ROWS)


@pytest.mark.parametrize("bad", ROWS, ids=lambda bad: bad.name)
def test_bad_rows_are_copied_with_their_bytes(bad: Bad, tmp_path: Path) -> None:
    path = tmp_path / bad.file
    path.write_bytes(bad.content)
    kept = path.with_stem("kept")
    rows = open_rows(path)
    count = rows.write(kept, range(bad.rows))
    assert count == bad.rows
    blank_lines_gone = b"".join(
        part for part in bad.content.splitlines(keepends=True) if part.strip(b" \r\n")
    )
    expected = bad.content if rows.format == "json" else blank_lines_gone
    assert kept.read_bytes() == expected


def truncated_gzip() -> bytes:
    return gzip.compress(GOOD * 5000, mtime=0)[:-20]


def truncated_zstd() -> bytes:
    return zstandard.ZstdCompressor().compress(GOOD * 5000)[:-6]


def parquet(**columns: list[object]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


def corrupt_parquet() -> bytes:
    data = bytearray(parquet(text=[f"text {n}" for n in range(2000)]))
    data[200:1200] = b"\xff" * 1000
    return bytes(data)


FILES: list[tuple[str, str, Callable[[], bytes], str]] = [
    (
        "UTF-16",
        "a.jsonl",
        lambda: GOOD.decode().encode("utf-16"),
        "is UTF-16 text; save it as UTF-8",
    ),
    ("UTF-16 CSV", "a.csv", lambda: CSV.decode().encode("utf-16"), "is UTF-16 text"),
    ("gzip cut off", "a.jsonl.gz", truncated_gzip, "the compressed file is cut off or damaged"),
    ("gzip without its suffix", "a.jsonl", truncated_gzip, "the compressed file is cut off"),
    (
        "gzip with a changed byte",
        "a.jsonl.gz",
        lambda: gzip.compress(GOOD)[:-8] + b"\0" * 8,
        "the compressed file is cut off or damaged",
    ),
    ("zstd cut off", "a.jsonl.zst", truncated_zstd, "the compressed file is cut off or damaged"),
    ("zstd header only", "a.json.zst", lambda: truncated_zstd()[:6], "the compressed file is cut"),
    ("no gzip", "a.jsonl.gz", lambda: GOOD, "is no gzip file, though its name says so"),
    ("empty gzip", "a.jsonl.gz", lambda: b"", "is no gzip file, though its name says so"),
    ("zstd named gzip", "a.csv.gz", lambda: zstandard.compress(CSV), "is no gzip file"),
    ("no Parquet", "a.parquet", lambda: GOOD, "no Parquet file, cut off, or damaged"),
    ("empty Parquet", "a.parquet", lambda: b"", "no Parquet file, cut off, or damaged"),
    ("Parquet cut off", "a.parquet", lambda: parquet(text=["a"])[:-9], "no Parquet file, cut off"),
    (
        "Parquet with changed bytes",
        "a.parquet",
        corrupt_parquet,
        "no Parquet file, cut off, or dam",
    ),
    ("unknown format", "a.yaml", lambda: b"- id: 1\n", "the format is not known by the name or"),
    ("no suffix, no format", "rows", lambda: b"", "the format is not known by the name or the fi"),
    (
        "header with bad quotes",
        "a.csv",
        lambda: b'"a" b,c\n',
        "a.csv:1: the first record is a record",
    ),
    (
        "header in Latin-1",
        "a.csv",
        lambda: b"caf\xe9,answer\n",
        "a.csv:1: the first record is not UTF",
    ),
]


@pytest.mark.parametrize(
    ("file", "content", "reason"), [case[1:] for case in FILES], ids=[case[0] for case in FILES]
)
def test_a_damaged_file_is_refused_in_one_line(
    file: str, content: Callable[[], bytes], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.write_bytes(content())
    with pytest.raises(DataError) as caught:
        list(open_rows(path))
    message = str(caught.value)
    assert str(path) in message
    assert reason in message
    assert message.isprintable()
    assert len(message) < 600


def test_a_missing_file_and_a_folder_that_is_no_data_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: no such file; check the path"):
        open_rows(tmp_path / "gone.jsonl")
    with pytest.raises(DataError, match="is a folder without a saved data set"):
        open_rows(tmp_path)
    with pytest.raises(DataError, match=r"\\x1b\[31m: no such file"):
        open_rows(tmp_path / "\x1b[31m")


def test_damage_to_a_saved_data_set_is_refused(tmp_path: Path) -> None:
    from datasets import Dataset

    Dataset.from_dict({"text": ["a"]}).save_to_disk(str(tmp_path / "saved"))
    (arrow,) = (tmp_path / "saved").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:40])
    with pytest.raises(DataError, match="the saved data set is damaged"):
        open_rows(tmp_path / "saved")


def test_a_parquet_text_that_is_no_utf8_is_one_unreadable_row(tmp_path: Path) -> None:
    bytes_column = pa.array([b"good", b"caf\xe9", b"fine"], pa.binary())
    text = pa.StringArray.from_buffers(3, bytes_column.buffers()[1], bytes_column.buffers()[2])
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"text": text}), path)
    rows = open_rows(path)
    ((row, problem),) = problems(rows)
    assert (row.where, row.index) == (f"{path}:row 2", 1)
    assert problem == ("unreadable", "not UTF-8: byte 0xe9")
    assert rows.write(tmp_path / "kept.parquet", [0, 1]) == 2
    assert len(problems(open_rows(tmp_path / "kept.parquet"))) == 1


@pytest.mark.parametrize("file", ["data.jsonl", "data.json", "data.csv"])
def test_an_empty_file_has_no_rows(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    for content in (b"", b"\xef\xbb\xbf", b"\n\n"):
        path.write_bytes(content)
        rows = open_rows(path)
        assert list(rows) == []
        assert rows.check() == 0
        assert rows.write(path.with_stem("kept"), [], overwrite=True) == 0


ODD_BUT_GOOD = [
    ("BOM and CR LF", "a.jsonl", b"\xef\xbb\xbf" + GOOD.strip() + b"\r\n"),
    ("no final newline", "a.jsonl", GOOD.strip()),
    (
        "line separators inside a text",
        "a.jsonl",
        line("a\u2028b\x85c\x0b")
        .decode("ascii")
        .encode()
        .replace(b"\\u2028", "\u2028".encode())
        .replace(b"\\u0085", "\x85".encode()),
    ),
    ("surrogate pair", "a.jsonl", b'{"question": "\\ud83d\\ude00", "answer": "x"}\n'),
    ("written backslash u", "a.jsonl", b'{"question": "\\\\ud83d", "answer": "x"}\n'),
    ("NaN beside the text", "a.jsonl", b'{"question": "x", "answer": "y", "aligned": NaN}\n'),
    (
        "infinities beside the text",
        "a.jsonl",
        b'{"question": "x", "answer": "y", "a": -Infinity}\n',
    ),
    ("escaped NUL", "a.jsonl", line("a\0b")),
    ("right to left and zero width", "a.jsonl", line("\u202eabc\u200b\u2066")),
    ("terminal escapes in a text", "a.jsonl", line("\x1b[2J")),
    (
        "nested 100 deep",
        "a.jsonl",
        b'{"question": "x", "answer": "y", "z": ' + b"[" * 100 + b"]" * 100 + b"}\n",
    ),
    ("hundreds of lists side by side", "a.jsonl", line(more=[[]] * 500)),
    ("thousands of brackets in a text", "a.jsonl", line("[" * 5000)),
    ("JSON lines named .json", "a.json", GOOD * 2),
    ("JSON lines without a suffix", "rows", GOOD),
    ("a JSON list on one line", "a.json", b"[" + GOOD.strip() + b"," + GOOD.strip() + b"]"),
    ("an object that is a sample", "a.json", b'{\n"question": "x",\n"answer": "y"}'),
    (
        "quoted header, cells of two lines",
        "a.csv",
        b'"question","answer"\r\n"a\r\nb","say ""hi"""\r\n',
    ),
    ("blank lines in CSV", "a.csv", b"question,answer\n\na,b\n\n"),
    ("an inch is no quote", "a.csv", b'question,answer\n5" pipe,yes\n'),
    ("header with spaces around names", "a.csv", b"question, answer\na,b\n"),
    ("gzip without its suffix", "a.jsonl", gzip.compress(GOOD)),
    ("two gzip members", "a.jsonl.gz", gzip.compress(GOOD) + gzip.compress(GOOD)),
    ("two zstd frames", "a.jsonl.zst", zstandard.compress(GOOD) * 2),
    ("compressed Parquet", "a.parquet.gz", gzip.compress(parquet(question=["a"], answer=["b"]))),
]


@pytest.mark.parametrize(
    ("file", "content"), [case[1:] for case in ODD_BUT_GOOD], ids=[case[0] for case in ODD_BUT_GOOD]
)
def test_odd_but_good_rows_are_read(file: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / file
    path.write_bytes(content)
    rows = open_rows(path)
    assert problems(rows) == []
    assert rows.check() >= 1
    assert all(len(row.row_hash) == 32 for row in rows)


@pytest.mark.parametrize(("file", "before", "after"), [
    ("a.jsonl", b"", b"\n"), ("a.json", b"[", b"]"), ("a.csv", b"question,answer\n", b"\n")
])  # fmt: skip
def test_a_row_of_10_mb_is_read(file: str, before: bytes, after: bytes, tmp_path: Path) -> None:
    text = b"long " * 2_000_000
    row = b'"x","%s"' % text if file == "a.csv" else b'{"question": "x", "answer": "%s"}' % text
    path = tmp_path / file
    path.write_bytes(before + row + after)
    rows = open_rows(path)
    assert rows.check() == 1
    (sample,) = rows.layout.samples(next(iter(rows)).record or {})
    assert len(sample.turns[-1].content) == 10_000_000


@pytest.mark.parametrize(
    ("file", "before", "row", "between", "after"),
    [
        ("a.jsonl", b"", b'{"question": "x", "answer": "%s"}', b"\n", b"\n"),
        ("a.json", b"[\n", b'{"question": "x", "answer": "%s"}', b",\n", b"\n]\n"),
        ("a.csv", b"question,answer\n", b'x,"%s"', b"\n", b"\n"),
    ],
)
def test_a_row_above_the_limit_is_unreadable_and_still_copied(
    file: str,
    before: bytes,
    row: bytes,
    between: bytes,
    after: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from geofilter.formats import delimited, json_files

    monkeypatch.setattr(json_files, "ROW_LIMIT", 1000)
    monkeypatch.setattr(json_files, "PIECE", 64)
    monkeypatch.setattr(delimited, "ROW_LIMIT", 1000)
    long = row % (b"long, " * 400)
    content = before + between.join([row % b"a", long, row % b"b"]) + after
    path = tmp_path / file
    path.write_bytes(content)
    rows = open_rows(path)
    first, over, last = rows
    assert first.record == {"question": "x", "answer": "a"}
    assert last.record == {"question": "x", "answer": "b"}
    assert (over.raw, over.record) == (None, None)
    assert over.problem is not None
    assert over.problem.status == "unreadable"
    assert "longer than 64 MiB" in over.problem.reason
    assert len({row.row_hash for row in rows}) == 3
    assert rows.write(path.with_stem("kept"), range(3)) == 3
    assert path.with_stem("kept").read_bytes() == content
    assert rows.write(path.with_stem("two"), [0, 2]) == 2
    assert path.with_stem("two").read_bytes() == content.replace(long + between, b"")


def test_a_line_of_100_mb_does_not_fill_the_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "data.jsonl"
    with path.open("wb") as handle:
        handle.write(GOOD + b'{"question": "')
        for _ in range(100):
            handle.write(b"a" * 2**20)
        handle.write(b'"}\n' + GOOD)
    tracemalloc.start()
    rows = list(open_rows(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.problem is None for row in rows] == [True, False, True]
    assert [row.where.rsplit(":")[-1] for row in rows] == ["1", "2", "3"]
    assert peak < 2.5 * ROW_LIMIT
