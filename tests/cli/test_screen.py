"""`screen` does what `score` and `filter` do, one after the other, and refuses early."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers.cli_folder import ROWS

pytestmark = pytest.mark.slow

SCREEN = "screen data.jsonl --model model --sae sae --pack my.pack"


def test_screen_writes_what_score_and_filter_write(work, geofilter):
    apart = geofilter(
        "filter data.jsonl --scores data.scores.parquet --drop-fraction 0.25 -o kept.jsonl "
        "--dropped dropped.jsonl"
    )
    done = geofilter(
        f"{SCREEN} --drop-fraction 0.25 -o k.jsonl --dropped d.jsonl --scores t.parquet"
    )
    assert done.code == 0
    for one, other in (("k.jsonl", "kept.jsonl"), ("d.jsonl", "dropped.jsonl")):
        assert Path(one).read_bytes() == Path(other).read_bytes()
    assert pq.read_table("t.parquet").num_rows == ROWS
    assert f"{ROWS} rows, {ROWS} scored → t.parquet" in done.out
    said = apart.out.replace("kept.jsonl", "k.jsonl").replace("dropped.jsonl", "d.jsonl")
    assert said in done.out
    again = geofilter(f"{SCREEN} --threshold -9 -o - --scores t.parquet")
    assert (again.code, again.out) == (0, "")
    assert "0 of 40 rows kept" in again.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("-o kept.jsonl", "give one of --drop-fraction, --threshold and --fdr"),
        ("--drop-fraction 1.5 -o kept.jsonl", "1.5: is not between 0 and 1"),
        ("--threshold nan -o kept.jsonl", "nan: is not a number"),
        ("--fdr 0.1 -o kept.jsonl", "--fdr and --reference go together"),
        ("--drop-fraction 0.1 -o other.jsonl", "exists already; remove it or choose another"),
        ("--drop-fraction 0.1 -o data.jsonl --overwrite", "data.jsonl: is read by this command"),
        ("--drop-fraction 0.1 -o x --dropped x", "name the same file; give each its own"),
        ("--drop-fraction 0.1 -o - --json", "give one"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_scored(
    options, said, work, geofilter, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("scored")

    monkeypatch.setattr("geofilter.runs.screen.score", never)
    before = sorted(Path().rglob("*"))
    done = geofilter(f"{SCREEN} {options}")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert sorted(Path().rglob("*")) == before


def test_a_file_in_the_way_is_written_over_only_when_asked(work, geofilter):
    choice = "filter data.jsonl --scores data.scores.parquet --drop-fraction 0.25 -o other.jsonl"
    before = Path("other.jsonl").read_bytes()
    refused = geofilter(choice)
    assert refused.code == 2
    assert "choose another output, or give --overwrite" in refused.err
    assert Path("other.jsonl").read_bytes() == before
    done = geofilter(f"{choice} --overwrite --json")
    assert json.loads(done.out)["kept"] == len(Path("other.jsonl").read_bytes().splitlines()) == 30
