"""A run that made a table is refused for what it was wanted for, when something has changed."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMMANDS = {
    "explained": "explain data.jsonl --scores t.parquet --row 0",
    "masked": "filter data.jsonl --scores t.parquet --drop-fraction 0.2 --action mask -o m.jsonl",
    "marked token by token": "report data.jsonl --scores t.parquet -o r.html",
}


@pytest.fixture
def changed(work, geofilter):
    done = geofilter("score data.jsonl --model model --sae sae --pack my.pack -o t.parquet")
    assert done.code == 0
    made = "discover --toxic benign.jsonl --benign toxic.jsonl --model model --sae sae -o o.pack"
    assert geofilter(made).code == 0
    shutil.move("o.pack", "my.pack")
    return Path.cwd()


@pytest.mark.parametrize("purpose", COMMANDS)
def test_a_refusal_names_what_cannot_be_done_and_what_has_changed(changed, geofilter, purpose):
    said = geofilter(COMMANDS[purpose]).err
    assert f"t.parquet: its rows cannot be {purpose}, since something has changed" in said
    assert "pack: " in said
    assert "score the data again" in said
