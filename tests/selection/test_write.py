"""Every row is in one of two files, or nothing is written: a table has to be of these rows."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from geofilter.cli.main import main
from geofilter.data.rows import RowFile, open_rows
from geofilter.errors import TableError
from geofilter.report.contents import gather
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import drop_fraction
from geofilter.selection.write import write_split
from helpers.report_tables import score_by_hand, write_jsonl

ROWS = [{"prompt": "p", "response": f"r{n}"} for n in range(6)]
SCORES = [0.1, 0.6, 0.2, 0.5, 0.3, 0.4]


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, ScoreTable]:
    data = write_jsonl(tmp_path / "data.jsonl", ROWS)
    return data, score_by_hand(data, SCORES, tmp_path / "s.parquet")[1]


Change = Callable[[list[dict[str, str]]], list[dict[str, str]]]
OTHERS: dict[str, tuple[Change, str]] = {
    "more rows than lines": (lambda rows: [*rows, rows[0]], "row 7 there has no line"),
    "fewer rows than lines": (lambda rows: rows[:4], "more lines than the 4 rows"),
    "rows in another order": (lambda rows: [*rows[:3], *rows[:2:-1]], "line 4 is of another row"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_table_of_other_rows_splits_nothing(
    scored: tuple[Path, ScoreTable], name: str, tmp_path: Path
) -> None:
    change, told = OTHERS[name]
    data, table = scored
    rows = open_rows(write_jsonl(data, change(ROWS)))
    outputs = tmp_path / "kept.jsonl", tmp_path / "dropped.jsonl"
    with pytest.raises(TableError, match=told):
        write_split(rows, table, drop_fraction(table.scores, 0.5), *outputs)
    assert not any(output.exists() for output in outputs)


def short_table(folder: Path) -> tuple[RowFile, ScoreTable]:
    """Three lines for six rows, under the manifest of the six."""
    return score_by_hand(write_jsonl(folder / "a.jsonl", ROWS), SCORES[:3], folder / "s.parquet")


@pytest.mark.parametrize("action", ["--dropped d.jsonl", "--action weight", "--action review"])
def test_rows_without_a_line_are_never_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], action: str
) -> None:
    monkeypatch.chdir(tmp_path)
    short_table(tmp_path)
    review = " --review r.csv" if "review" in action else ""
    asked = f"filter a.jsonl --scores s.parquet --drop-fraction 0.34 -o k.jsonl {action}{review}"
    assert main(asked.split()) == 2
    assert "row 4 there has no line" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "s.parquet"]


def test_a_report_counts_the_rows(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"has 3 lines, but .* has 6 rows"):
        gather(*short_table(tmp_path))


def test_a_row_is_explained_only_by_its_own_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_jsonl(tmp_path / "data.jsonl", ROWS)
    score_by_hand(data, [None, None], tmp_path / "two.parquet")
    table = pq.read_table("two.parquet")
    hashes = table.column("row_hash").to_pylist()[::-1]
    pq.write_table(table.set_column(1, table.schema.field(1), [hashes]), "two.parquet")
    assert main(["explain", "data.jsonl", "--scores", "two.parquet", "--row", "1"]) == 2
    assert "line 1 is of another row" in capsys.readouterr().err
