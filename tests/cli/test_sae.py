"""`geofilter sae train`: a folder for --sae, figures for people and programs, and its mistakes."""

import json
from pathlib import Path

import pytest

from helpers.cli_mistakes import Case, assert_refused

pytestmark = pytest.mark.slow

SMALL = "sae train data.jsonl --model model --latents 32 --k 4 --passes 2"
TRAIN = f"{SMALL} --block 1 -o new"


def test_what_it_trains_scores_rows_and_is_printed_for_programs(work, geofilter):
    done = geofilter(f"{TRAIN} --json")
    found = json.loads(done.out)["saes"]["1"]
    assert set(found) == {"folder", "explained_variance", "l0", "dead_share", "loss_recovered"}
    assert 0 < found["l0"] <= 4
    assert "read as prompt-response" in done.err
    made = "--toxic toxic.jsonl --benign benign.jsonl -o new.pack"
    assert geofilter(f"discover --model model --sae new {made}").code == 0


def test_several_blocks_are_folders_of_their_own_and_a_table(work, geofilter):
    Path("saes/old").mkdir(parents=True)
    done = geofilter(f"{SMALL} --block 0 --block 2 -o saes --no-loss --half --overwrite")
    assert not Path("saes/old").exists()
    assert [line.split()[0] for line in done.out.splitlines() if "saes/block" in line][:2] == [
        "0",
        "2",
    ]
    assert all((Path("saes") / f"block-{block}" / "cfg.json").exists() for block in (0, 2))


CASES = {
    "a block that does not exist": Case(
        f"{SMALL} --block 9 -o new", ("--block 9", "model has blocks 0 to 3")
    ),
    "too few tokens": Case(
        "sae train data.jsonl --model model --latents 4000 --block 1 -o new",
        ("data.jsonl: ", "at least 40,000 are needed to train 4,000 latents", "more rows"),
    ),
    "an output that exists": Case(
        f"{SMALL} --block 1 -o sae", ("sae: exists already", "--overwrite")
    ),
    "no block": Case(f"{SMALL} -o new", ("--block",)),
    "more active latents than there are": Case(
        "sae train data.jsonl --model model --latents 8 --k 9 --block 1 -o new",
        ("--k 9: more than the SAE's 8 latents",),
    ),
    "rows that are missing": Case(
        "sae train no.jsonl --model model --block 1 -o new", ("no.jsonl: no such file",)
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(name, work, geofilter, capsys):
    assert_refused(CASES[name], geofilter, capsys)
