"""`geofilter explain` on a tiny model: what it shows of a row, and what it refuses."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers.cli_folder import ROWS, write_rows

pytestmark = pytest.mark.slow

TINY = "--model model --sae sae"


@pytest.fixture
def by_features(work, geofilter):
    """The options that name a table scored by `nearest`, whose parts name toxic features."""
    assert (
        geofilter(f"score data.jsonl {TINY} --pack my.pack --scorer nearest -o n.parquet").code == 0
    )
    return "--scores n.parquet"


def test_explain_divides_the_score_among_the_tokens(work, geofilter, by_features):
    done = geofilter(f"explain data.jsonl {by_features} --row 5 --json")
    row = json.loads(done.out)
    assert row["where"] == "data.jsonl:6"
    assert row["score"] == pq.read_table("n.parquet").column("score")[5].as_py()
    assert sum(t["contribution"] for t in row["tokens"]) == pytest.approx(row["score"], abs=1e-5)
    response = json.loads(Path("data.jsonl").read_text().splitlines()[5])["response"]
    assert [token["text"] for token in row["tokens"]] == response.split()


def test_explain_shows_row_tokens_features_and_labels(work, geofilter, by_features):
    done = geofilter(f"explain data.jsonl {by_features} --row 5")
    assert done.out.startswith("data.jsonl:6 (--row 5): score ")
    response = json.loads(Path("data.jsonl").read_text().splitlines()[5])["response"]
    assert response in done.out.replace("[", "").replace("]", "")
    assert "near toxic" in done.out


def test_explain_says_why_a_row_has_no_score(work, geofilter):
    Path("data.jsonl").write_text(Path("data.jsonl").read_text() + "not \x1b[2J json\n")
    geofilter(f"score data.jsonl {TINY} --pack my.pack --on-error keep -o s.parquet")
    done = geofilter(f"explain data.jsonl --scores s.parquet --row {ROWS}")
    assert done.code == 0
    assert f"data.jsonl:{ROWS + 1} (--row {ROWS}) has no score: unreadable" in done.out
    assert "\x1b" not in done.out
    as_json = geofilter(f"explain data.jsonl --scores s.parquet --row {ROWS} --json")
    assert json.loads(as_json.out)["score"] is None


def test_explain_of_another_scorer_says_what_it_divides(work, geofilter):
    geofilter(f"score data.jsonl {TINY} --pack my.pack --scorer direction -o s.parquet")
    done = geofilter("explain data.jsonl --scores s.parquet --row 5")
    assert "direction is not a sum over tokens" in done.out


def test_explain_works_from_another_folder(work, geofilter, monkeypatch):
    monkeypatch.chdir("..")
    done = geofilter("explain work/data.jsonl --scores work/data.scores.parquet --row 5")
    assert done.code == 0


def test_explain_refuses_a_pack_that_has_changed(work, geofilter):
    geofilter(f"score data.jsonl {TINY} --pack my.pack -o s.parquet")
    write_rows(Path("toxic.jsonl"), 40, 0, 30, seed=9)
    Path("my.pack").unlink()
    geofilter(f"discover --toxic toxic.jsonl --benign benign.jsonl {TINY} -o my.pack")
    done = geofilter("explain data.jsonl --scores s.parquet --row 5")
    assert done.code == 2
    assert "something has changed after it was made (pack: " in done.err
