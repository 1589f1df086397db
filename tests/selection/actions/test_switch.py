"""A margin chooses the preference rows that are the wrong way round, and a switch turns them."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter import ScoreTable
from geofilter.errors import GeofilterError
from geofilter.selection.choose import margin
from helpers.cli_folder import Geofilter, words

SCORES = st.lists(st.tuples(*[st.none() | st.integers(-3, 3)] * 2), max_size=30)
SCORE = "score pairs.jsonl --model model --sae sae --pack my.pack -o p.parquet"
FILTER = "filter pairs.jsonl --scores p.parquet"


def masked(values: list[int | None]) -> Any:
    return np.ma.masked_invalid([np.nan if v is None else v for v in values])


@given(SCORES, st.integers(0, 4))
def test_a_margin_takes_rows_whose_chosen_answer_scores_more_than_that_above(pairs, value) -> None:
    found = margin(masked([c for c, _ in pairs]), masked([r for _, r in pairs]), value)
    wrong = [c is not None and r is not None and c - r > value for c, r in pairs]
    assert found.drop.tolist() == np.flatnonzero(wrong).tolist()
    assert sorted([*found.keep, *found.drop]) == list(range(len(pairs)))
    assert found.unscored.tolist() == [i for i, (c, _) in enumerate(pairs) if c is None]


@pytest.mark.parametrize("value", [-0.1, float("nan")])
def test_a_margin_below_0_is_refused(value: float) -> None:
    with pytest.raises(GeofilterError, match=r"margin .*: is not 0 or more; give"):
        margin([0.5], [0.1], value)


def write_pairs(rows: list[dict[str, Any]]) -> list[bytes]:
    """pairs.jsonl of these rows, and among them one of one answer; its lines."""
    lines = [json.dumps(row).encode() + b"\n" for row in rows]
    lines.insert(3, b'{"prompt":  "w1",  "response": "w9"}\n')
    Path("pairs.jsonl").write_bytes(b"".join(lines))
    return lines


@pytest.fixture
def pairs(work: Path, geofilter: Geofilter) -> list[bytes]:
    """The lines of pairs.jsonl, which is scored into p.parquet."""
    draw = random.Random(0)
    rows = [
        {"prompt": "w1", "chosen": words(draw, 0, 60), "rejected": words(draw, 0, 60)}
        | {"score_chosen": n}
        | ({"score_rejected": -n} if n % 2 else {})
        for n in range(16)
    ]
    lines = write_pairs(rows)
    assert geofilter(SCORE).code == 0
    return lines


def wrong_way_round(value: float) -> list[int]:
    lines = ScoreTable.read("p.parquet").records(["score", "rejected_score"])
    return [
        place
        for place, (chosen, rejected) in enumerate(lines)
        if rejected is not None and chosen - rejected > value
    ]


def lines_of(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines(keepends=True)


def test_a_switch_turns_those_rows_and_no_other(pairs: list[bytes], geofilter: Geofilter) -> None:
    done = geofilter(f"{FILTER} --margin 0.3 --action switch -o s.jsonl --json")
    assert done.code == 0, done.err
    wrong = wrong_way_round(0.3)
    assert 0 < len(wrong) < len(wrong_way_round(0)) < 16
    assert json.loads(done.out)["switched"] == len(wrong)
    assert "1 of 17 rows do not have two answers with a score: not compared" in done.err
    after = lines_of("s.jsonl")
    assert [i for i, line in enumerate(after) if line != pairs[i]] == wrong
    for place in wrong:
        old, new = json.loads(pairs[place]), json.loads(after[place])
        assert (new["chosen"], new["rejected"]) == (old["rejected"], old["chosen"])
        if "score_rejected" in old:  # what is said of an answer goes with it
            said = (old["score_rejected"], old["score_chosen"])
            assert (new["score_chosen"], new["score_rejected"]) == said
    # Scored again, none is the wrong way round any more.
    Path("p.parquet").unlink()
    assert geofilter(SCORE.replace("pairs.jsonl", "s.jsonl")).code == 0
    assert wrong_way_round(0.3) == []


def test_the_same_rows_can_be_dropped_or_listed(pairs: list[bytes], geofilter: Geofilter) -> None:
    done = geofilter(f"{FILTER} --margin 0.3 -o kept.jsonl --dropped gone.jsonl")
    assert done.code == 0, done.err
    wrong = wrong_way_round(0.3)
    assert lines_of("kept.jsonl") == [line for i, line in enumerate(pairs) if i not in wrong]
    reasons = [json.loads(line)["geofilter"]["reason"] for line in lines_of("gone.jsonl")]
    assert all("the rejected answer" in reason for reason in reasons)
    listing = f"{FILTER} --margin 0.3 --action review --review r.jsonl -o all.jsonl"
    assert geofilter(listing).code == 0
    listed = [json.loads(line) for line in lines_of("r.jsonl")]
    assert [line["row"] for line in listed] == wrong
    for line in listed:
        old = json.loads(pairs[line["row"]])
        assert (line["response"], line["rejected"]) == (old["chosen"], old["rejected"])


def test_rows_that_cannot_be_turned_are_counted_and_said(work: Path, geofilter: Geofilter) -> None:
    draw = random.Random(0)

    def sides() -> list[str]:
        return [words(draw, 0, 60) for _ in range(2)]

    def odd(chosen: str, rejected: str) -> dict[str, Any]:
        """Two answers, one of them within a text of JSON."""
        turns = [{"role": "user", "content": "w1"}, {"role": "assistant", "content": chosen}]
        return {"messages": json.dumps(turns), "rejected_response": rejected}

    plain = [dict(zip(("chosen", "rejected"), sides(), strict=True)) for _ in range(9)]
    before = write_pairs([*(odd(*sides()) for _ in range(9)), *plain])
    assert geofilter(SCORE).code == 0
    done = geofilter(f"{FILTER} --margin 0 --action switch -o s.jsonl --json")
    assert done.code == 0, done.err
    wrong = wrong_way_round(0)
    left = [place for place in wrong if b"messages" in before[place]]
    found = json.loads(done.out)
    assert 0 < len(left) == found["left"] < len(wrong) == found["left"] + found["switched"]
    assert f"{len(left)} of the rows chosen could not be changed" in done.err
    after = lines_of("s.jsonl")
    assert all(after[place] == before[place] for place in left)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--action switch --drop-fraction 0.5", "--action switch needs --margin"),
        ("--action weight --margin 0.1", "goes by how many rows are chosen, not by which"),
        ("--action mask --margin 0.1", "take drop, review, inoculate, switch"),
        ("--margin 0.1 --drop-fraction 0.1", "give one of"),
        ("--margin 0.1", "no row has a chosen and a rejected answer"),
    ],
)
def test_what_does_not_go_together_is_refused(
    work: Path, geofilter: Geofilter, options: str, said: str
) -> None:
    done = geofilter(f"filter data.jsonl --scores data.scores.parquet -o s.jsonl {options}")
    assert done.code == 2
    assert said in done.err
    assert not Path("s.jsonl").exists()
