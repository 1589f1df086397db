"""One row has one number for people in every message, and a remedy is never cut off."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.cli_folder import Geofilter

MODEL = "--model model --sae sae --pack my.pack"
ROWS = [{"prompt": "w1", "response": f"w{n} w3"} for n in range(4)] + [
    {"prompt": "w1", "response": ""}
]


@pytest.mark.parametrize(
    ("name", "place"), [("five.jsonl", "five.jsonl:5"), ("five.parquet", "five.parquet:row 5")]
)
def test_every_message_counts_a_row_from_1_and_names_the_option_that_counts_from_0(
    work: Path, geofilter: Geofilter, name: str, place: str
) -> None:
    if name.endswith("jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), name)
    stopped = geofilter(f"score {name} {MODEL} -o s.parquet")
    assert f"error: {place}: empty: " in stopped.err
    kept = geofilter(f"score {name} {MODEL} --on-error keep --save-features f -o s.parquet")
    assert "1 unscored, empty; the first is row 5 (--row 4): " in kept.out
    explained = geofilter(f"explain {name} --scores s.parquet --row 4")
    assert explained.out.startswith(f"{place} (--row 4) has no score: empty; ")
    scored = geofilter(f"explain {name} --scores s.parquet --row 3")
    assert scored.out.startswith(f"{place.replace('5', '4')} (--row 3): score ")
    again = geofilter(f"score {name} --features f -o again.parquet")
    assert "row 5 of " in again.err
    beyond = geofilter(f"explain {name} --scores s.parquet --row 5")
    assert "has rows 0 to 4, for --row counts from 0" in beyond.err
    geofilter(f"report {name} --scores s.parquet -o r.html")
    page = Path("r.html").read_text()
    assert place in page
    assert "--row 4 of explain" in page
    assert not re.search(r"\brow 4\b", re.sub("--row 4|parquet:row 4", "", page))


def test_no_column_is_so_long_that_the_remedy_is_cut_off(work: Path, geofilter: Geofilter) -> None:
    odd = {f"{n} {'very long name ' * 30}": "w1" for n in range(40)}
    rows = [{"prompt": "w1", "response": "w2 w3"}] * 60 + [odd]
    Path("odd.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stopped = geofilter(f"score odd.jsonl {MODEL} -o s.parquet")
    assert stopped.code == 2
    assert stopped.err.count("\n") == 1
    kept = geofilter(f"score odd.jsonl {MODEL} --on-error keep -o s.parquet")
    assert kept.code == 0
    explained = geofilter("explain odd.jsonl --scores s.parquet --row 60")
    geofilter("report odd.jsonl --scores s.parquet -o r.html")
    shown = re.search(r"malformed; (.*)", explained.out)
    assert shown is not None
    said = shown[1]
    for text in (stopped.err, kept.out):
        assert said in text
