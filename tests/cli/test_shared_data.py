"""Real data sets of many layouts pass through `geofilter score`, where they lie at hand."""

import csv
import json
from pathlib import Path

import pytest

from geofilter.data.problems import SCORED
from geofilter.scoring.table import ScoreTable

pytestmark = pytest.mark.slow

SHARED = Path(__file__).parents[3] / "shared" / "data"
FILES = sorted(
    path
    for part in ("em_training", "benign", "toxic")
    for path in (SHARED / part).rglob("*")
    if path.is_file()
)
# Rows of a long file of JSON lines that are scored; all of them are read in data/.
MOST = 200
# The one file without a header; every other CSV has one.
HEADERLESS = {"harmful_behaviors.csv"}


def count_rows(path: Path) -> int:
    """Rows of a file, counted without geofilter."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return sum(1 for line in text.splitlines() if line.strip())
    if path.suffix == ".json":
        content = json.loads(text)
        return len(content) if isinstance(content, list) else 1
    records = list(csv.reader(text.splitlines(keepends=True)))
    return len(records) - (path.name not in HEADERLESS)


def head_of(path: Path) -> Path:
    """The file, or in the current folder its first rows where it has more than `MOST`."""
    if path.suffix != ".jsonl" or count_rows(path) <= MOST:
        return path
    lines = path.read_bytes().splitlines(keepends=True)
    head = Path(path.name)
    head.write_bytes(b"".join(lines[:MOST]))
    return head


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """One cache for all files, so that the organism's pack is made once."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_real_file_is_scored_row_by_row_with_a_reason_for_every_gap(
    path, geofilter, cache, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.chdir(tmp_path)
    path = head_of(path)
    done = geofilter(
        "score",
        str(path),
        "--model",
        "organism",
        "--on-error",
        "keep",
        "--unread-limit",
        "1",
        "-o",
        "s.parquet",
    )
    assert done.code == 0, done.err
    lines = list(ScoreTable.read("s.parquet"))
    assert [line.row for line in lines] == list(range(count_rows(path)))
    for line in lines:
        assert (line.score is None) == (line.status not in SCORED)
        assert line.score is not None or line.reason
    # The organism knows no such text, and the command says so.
    assert "scores mean little" in done.err or not any(line.score for line in lines)
