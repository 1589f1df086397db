"""Odd rows are read like any other; very long ones are, up to the limit."""

import gzip
from pathlib import Path

import pytest
import zstandard

from geofilter.data.rows import ROW_LIMIT, open_rows
from helpers.row_files import GOOD, line, parquet, problems

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
    ("NaN next to the text", "a.jsonl", b'{"question": "x", "answer": "y", "aligned": NaN}\n'),
    (
        "infinities next to the text",
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
    (sample,) = rows.layouts.samples(next(iter(rows)).record or {})
    assert len(sample.turns[-1].content) == 10_000_000


@pytest.mark.parametrize(
    ("file", "before", "row", "between", "after"),
    [
        ("a.jsonl", b"", b'{"question": "x", "answer": "%s"}', b"\n", b"\n"),
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
    from geofilter.data.formats import delimited, json_files

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


@pytest.mark.parametrize(("limit", "rows"), [(1000, 2), (2000, 3)])
def test_a_list_element_above_the_limit_is_unreadable_and_still_copied(
    limit: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that follows it, where its end was not found within twice the limit."""
    from geofilter.data.formats import json_files

    monkeypatch.setattr(json_files, "ROW_LIMIT", limit)
    monkeypatch.setattr(json_files, "PIECE", 64)
    element = b'{"question": "x", "answer": "%s"}'
    content = b"[\n" + b",\n".join(element % text for text in (b"a", b"long, " * 400, b"b"))
    path = tmp_path / "a.json"
    path.write_bytes(content + b"\n]\n")
    data = open_rows(path)
    first, over, *more = data
    assert first.record == {"question": "x", "answer": "a"}
    assert len(more) == rows - 2
    assert (over.raw, over.record) == (None, None)
    assert over.problem is not None
    assert over.problem.status == "unreadable"
    assert "longer than 64 MiB" in over.problem.reason
    assert len({row.row_hash for row in data}) == rows
    assert data.write(tmp_path / "kept.json", range(rows)) == rows
    assert (tmp_path / "kept.json").read_bytes().startswith(content)
    assert data.write(tmp_path / "first.json", [0]) == 1
    assert (tmp_path / "first.json").read_bytes() == b"[\n" + element % b"a" + b"\n]\n"


def test_bad_syntax_in_a_list_longer_than_the_limit_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geofilter.data.formats import json_files

    monkeypatch.setattr(json_files, "ROW_LIMIT", 1000)
    monkeypatch.setattr(json_files, "PIECE", 64)
    content = b'[{"text": "a"}, {"text": "b" "c"}' + b', {"text": "d"}' * 100 + b"]"
    path = tmp_path / "a.json"
    path.write_bytes(content)
    good, bad = open_rows(path)
    assert good.record == {"text": "a"}
    assert bad.problem is not None
    assert bad.problem.reason.startswith("not JSON: Expecting ',' delimiter at character 14")


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
