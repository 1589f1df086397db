"""A file that mixes layouts is one table in the file's order, and comes back with its bytes."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from helpers.cli_folder import Geofilter

MADE = "--model model --sae sae --pack my.pack"

pytestmark = pytest.mark.slow


def as_layout(place: int, prompt: str, response: str) -> dict[str, object]:
    """One of four layouts that render alike, and some columns that none of them reads."""
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]
    return [
        {"messages": turns, "id": place},
        {"prompt": prompt, "response": response},
        {"instruction": prompt, "input": "", "output": response},
        {"note": None, "question": prompt, "answer": response},
    ][place % 4]


@pytest.fixture
def mixed(work: Path) -> list[bytes]:
    """mixed.jsonl, the rows of data.jsonl in four layouts; its lines."""
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    records = (as_layout(place, **row) for place, row in enumerate(rows))
    lines = [json.dumps(record, indent=None).encode() + b"  \n" for record in records]
    Path("mixed.jsonl").write_bytes(b"".join(lines))
    return lines


def column(path: str, name: str) -> list[object]:
    return list(pq.read_table(path).column(name).to_pylist())


def test_a_mixed_file_scores_row_by_row_as_the_same_rows_of_one_layout(
    mixed: list[bytes], geofilter: Geofilter
) -> None:
    done = geofilter(f"score mixed.jsonl {MADE} -o m.parquet --json")
    reading = json.loads(done.out)["reading"]
    assert {name: use["rows"] for name, use in reading["layouts"].items()} == dict.fromkeys(
        ["messages", "prompt-response", "instruction-output", "question-answer"], 10
    )
    assert "not read: id" in done.err
    # A conversation without a prompt has its end of turn under the loss, and no other token.
    scores = column("m.parquet", "score")
    assert scores == pytest.approx(column("data.scores.parquet", "score"), abs=1e-5)


def test_filter_gives_every_row_of_a_mixed_file_back_with_its_bytes(
    mixed: list[bytes], geofilter: Geofilter
) -> None:
    geofilter(f"score mixed.jsonl {MADE} -o m.parquet")
    how = "--scores m.parquet --drop-fraction 0.25 -o kept.jsonl"
    assert geofilter(f"filter mixed.jsonl {how}").code == 0
    kept = Path("kept.jsonl").read_bytes().splitlines(keepends=True)
    assert len(kept) == 30
    assert kept == [line for line in mixed if line in set(kept)]


def test_rows_that_fit_no_layout_stop_the_run_where_they_are_many(
    mixed: list[bytes], geofilter: Geofilter
) -> None:
    odd = b'{"ask": "w1", "reply": "w2"}\n'
    Path("odd.jsonl").write_bytes(b"".join([*mixed[:9], odd * 3]))
    refused = geofilter(f"score odd.jsonl {MADE} -o o.parquet --on-error keep")
    assert (refused.code, refused.out, Path("o.parquet").exists()) == (2, "", False)
    assert "3 rows of 12 (25.0%) cannot be read, more than --unread-limit 0.1" in refused.err
    assert "odd.jsonl:10: the columns fit no layout" in refused.err
    allowed = f"score odd.jsonl {MADE} -o o.parquet --on-error keep --unread-limit 0.25"
    done = geofilter(allowed)
    assert done.code == 0
    assert "3 rows of 12 (25.0%) cannot be read, first odd.jsonl:10" in done.err
    assert column("o.parquet", "status")[9:] == ["malformed"] * 3
