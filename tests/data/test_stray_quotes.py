"""A quote that nothing closes costs the line it is on, and no more time than others."""

import io
from pathlib import Path

import pytest

from geofilter.data.formats import delimited, dialects
from geofilter.data.formats.dialects import Dialect
from geofilter.data.rows import RowFile, open_rows
from helpers.row_files import problems, write_rows


def read(rows: RowFile) -> list[list[str] | str]:
    """The cells of each row, or its bytes as text where it is unreadable."""
    return [
        (row.raw or b"").decode() if row.record is None else [*map(str, row.record.values())]
        for row in rows
    ]


def tsv(tmp_path: Path, content: str) -> RowFile:
    return open_rows(write_rows(tmp_path / "data.tsv", b"prompt\tresponse\n" + content.encode()))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('a\tb\nc\t"d\ne\tf\ng\th\n', [["a", "b"], 'c\t"d\n', ["e", "f"], ["g", "h"]]),
        ('c\t"d\ne\tf\ng\t"h"\n', ['c\t"d\n', ["e", "f"], ["g", "h"]]),
        ('c\t"d\ne\tf\ng\t"h\ni"\n', ['c\t"d\n', ["e", "f"], ["g", "h\ni"]]),
        ('c\t"d\n\ne\t"f', ['c\t"d\n', 'e\t"f']),
        ('c\t"d\ne\t"f\ng\t"h\ni\tj', ['c\t"d\n', 'e\t"f\n', 'g\t"h\n', ["i", "j"]]),
    ],
)
def test_a_stray_quote_swallows_no_row_after_it(
    content: str, expected: list[list[str] | str], tmp_path: Path
) -> None:
    rows = tsv(tmp_path, content)
    assert read(rows) == expected
    lines = ["", *(b"prompt\tresponse\n" + content.encode()).splitlines(keepends=True)]
    for row, _ in problems(rows):
        assert row.raw == lines[int(row.where.rpartition(":")[2])]


def test_a_quote_left_open_to_the_limit_swallows_no_row_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delimited, "ROW_LIMIT", 200)
    good = [["e", str(number)] for number in range(100)]
    rows = tsv(tmp_path, 'c\t"d\n' + "".join("\t".join(cells) + "\n" for cells in good))
    assert read(rows) == ['c\t"d\n', *good]
    ((_, problem),) = problems(rows)
    assert problem.reason == "a record longer than 64 MiB"


@pytest.mark.parametrize("line", ["\n", "a\tb\n", 'x"\t"\t\n', 'x\t"y\n'])
def test_no_line_is_read_more_than_three_times(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0

    def count(data: bytes) -> tuple[str, None]:
        nonlocal looks
        looks += 1
        return data.decode(), None

    monkeypatch.setattr(dialects, "decode", count)
    content = ('prompt\tresponse\nhi\t"\n' + line * 2000).encode()
    stream = io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]
    rows = list(delimited.DelimitedRecords("data.tsv", stream, Dialect("\t"), ()))
    assert len(rows) == (1 if line == "\n" else 2001)
    assert looks <= 3 * 2002
