"""Bad rows: every kind of them, with its place and its reason, in both modes.

By default the first bad row stops the run (`RowFile.check`); with
`--on-error keep` it is a row with a status and a reason.
"""

from pathlib import Path
from typing import NamedTuple

import pytest

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from helpers.row_files import CSV, GOOD, line, problems


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
    """A JSON list of which the second element is bad; bad syntax takes the rest along."""
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
    second("empty object", b"{}\n", "malformed", "fit no layout; say which hold what, as in "),
    second("missing prompt", b'{"answer": "x"}\n', "malformed", "fit no layout; say which hold"),
    second("an empty chat in another layout", b'{"messages": []}\n', "no_response", "no turn is"),
    second(
        "null prompt", b'{"question": null, "answer": "x"}\n', "malformed", "'question' is null"
    ),
    second("null response", line(None), "no_response", "'answer' is null"),
    second("missing response", b'{"question": "x"}\n', "no_response", "only a prompt ('question')"),
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
    Bad(
        "a conversation without a name",
        "data.jsonl",
        b'[{"role": "user", "content": "q"}]\n',
        "data.jsonl:1",
        "unreadable",
        "(a conversation? then give it a name, as in jq -c '{messages: .}' OLD > NEW.jsonl)",
        1,
    ),
    # JSON lists
    element("broken element", b'{"a": tru},\nGOOD]', "not JSON: Expecting value"),
    element("element that is no object", b"3, GOOD]", "a number, a row must be an object: '3'", 3),
    element("two commas", b", GOOD]", "nothing stands between two commas", 3),
    element("comma before the end", b"]", "nothing stands between the last comma and the end"),
    element("missing comma", b"GOOD GOOD, GOOD]", "not JSON: Extra data"),
    element("stray brace", b"GOOD}, GOOD]", "not JSON: Extra data"),
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
    cells(
        "a quote never closed", b'"a,b\nc,d\ne,f\n', "a quote that is opened and never closed", 4
    ),
    cells(
        "a quote closed by another's", b'"a,b\nc,d\ne,"f"\n', "bad quotes: ',' expected after", 4
    ),
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
        "for one text; found 'column_1', 'column_2'",
    ),
    Bad(
        "unknown columns",
        "data.csv",
        b"ask,reply\na,b\nc,d\n",
        "data.csv:2",
        "malformed",
        "the columns fit no layout; if 'ask' is the prompt and 'reply' the response: "
        "--column prompt=ask --column response=reply; found 'ask', 'reply'",
    ),
    Bad(
        "stars for commas",
        "data.csv",
        b"question*answer\na*b\n",
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
    elements = b",\n".join(row.raw or b"" for row in rows)
    expected = b"[\n" + elements + b"\n]\n" if rows.format == "json" else blank_lines_gone
    assert kept.read_bytes() == expected
