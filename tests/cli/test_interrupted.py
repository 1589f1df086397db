"""What a person reads who stops a scoring run, and who starts it again."""

from pathlib import Path

import pytest

from geofilter.cli.scored import scoring
from helpers.engine_stubs import Score, StubScorer, numbered


def test_ctrl_c_says_what_is_kept_and_the_next_run_says_where_it_goes_on(
    score: Score, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(tmp_path / "s.parquet")

    def run(dies_at: int | None, *, restart: bool = False) -> str:
        with scoring(table, restart=restart) as report:
            stub = StubScorer(dies_at=dies_at, death=KeyboardInterrupt)
            score(numbered(8), stub, batch_tokens=1, progress=report, restart=restart)
        return capsys.readouterr().err

    with pytest.raises(KeyboardInterrupt):
        run(0)
    assert "nothing is kept yet; the same command begins from the first row" in (
        capsys.readouterr().err
    )
    with pytest.raises(KeyboardInterrupt):
        run(4)
    said = capsys.readouterr().err
    assert f"3 rows are scored and kept in {table}.parts; run the same command again" in said
    assert "goes on" not in said
    with pytest.raises(KeyboardInterrupt):
        run(4, restart=True)
    assert "again to go on, without --restart" in capsys.readouterr().err
    assert f"goes on after 3 rows, which are scored in {table}.parts" in run(None)
    assert "goes on" not in run(None)  # it is finished
