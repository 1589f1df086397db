"""Files of lines that survive a kill in the middle of one."""

from pathlib import Path

import pytest

from geofilter.errors import OutputError
from geofilter.support.records import append_lines, read_lines

WHOLE = b'{"a": 1}\n{"a": 2}\n'
TORN = [WHOLE + b'{"a', b'{"a": 1', WHOLE]


@pytest.mark.parametrize("content", TORN)
def test_reading_leaves_the_file_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    path.chmod(0o400)
    assert read_lines(path) == [{"a": 1}, {"a": 2}][: content.count(b"\n")]
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", TORN)
def test_what_is_appended_follows_the_last_whole_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(content)
    before = read_lines(path)
    append_lines(path, [{"a": "ü"}])
    append_lines(path, [])
    assert read_lines(path) == [*before, {"a": "ü"}]
    assert path.read_bytes().endswith(b"\n")


def test_a_file_that_is_not_there_has_no_lines_and_is_made_by_the_first(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    assert read_lines(path) == []
    append_lines(path, [{"a": 1}])
    assert read_lines(path) == [{"a": 1}]


@pytest.mark.parametrize("line", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_line_is_refused_in_one_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(WHOLE + line + b"\n")
    with pytest.raises(OutputError, match=r"lines\.jsonl: is damaged; remove it") as error:
        read_lines(path)
    assert "\n" not in str(error.value)
