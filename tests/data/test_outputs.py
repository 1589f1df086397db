"""An output never takes the place of what a command reads, however that is named."""

import os
from pathlib import Path

import pytest

from geofilter.data.outputs import check_outputs
from geofilter.errors import OutputError


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for name in ("data/a.jsonl", "data/b.jsonl", "table.parquet", "data/report.html"):
        Path(name).write_text("{}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "read"),
    [
        ("table.parquet", ["data/a.jsonl", "table.parquet"]),
        ("data/../data/a.jsonl", ["data/a.jsonl", None]),
        ("link.jsonl", [["data/b.jsonl", "data/a.jsonl"]]),
        ("data/b.jsonl", ["data/*.jsonl"]),
        ("data/b.jsonl", ["data"]),
    ],
)
def test_what_is_read_is_not_written_over_even_when_asked(
    rows: Path, output: str, read: list[str | list[str] | None]
) -> None:
    os.symlink("data/a.jsonl", "link.jsonl")
    with pytest.raises(OutputError, match="is read by this command; choose another output"):
        check_outputs((None, "-", output), read, overwrite=True)


def test_other_files_are_written_over_when_asked_and_only_then(rows: Path) -> None:
    for output in ("data/report.html", "table.parquet"):
        check_outputs([output], ["data"], overwrite=True)
        with pytest.raises(OutputError, match="exists"):
            check_outputs([output], ["data"], overwrite=False)
