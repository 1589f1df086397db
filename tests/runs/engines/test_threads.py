"""Scoring a file: every row has its line, in order, however it was batched or cut."""

import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geofilter.data.encoder import Encoded
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import Row, RowFile
from geofilter.data.samples import Sample
from geofilter.errors import DataError, OutputError
from geofilter.runs.engines.threads import make_batches, score_file
from geofilter.scoring.score import SampleScore
from geofilter.scoring.table import ScoreRow, ScoreTable
from helpers.engine_stubs import (
    MANIFEST,
    WINDOW,
    Score,
    StubEncoder,
    StubScorer,
    numbered,
    row,
    run_benchmark,
    score_of,
    write,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_waiting_for_the_disk")]


def statuses(table: ScoreTable) -> list[str]:
    return list(table.column("status"))


# Batches


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_batches_hold_everything_once_within_the_budget(
    lengths: list[int], batch_tokens: int
) -> None:
    batches = make_batches(lengths, batch_tokens)
    assert sorted(place for batch in batches for place in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[place] for place in batch)
        assert len(batch) == 1 or longest * len(batch) <= batch_tokens
    flat = [lengths[place] for batch in batches for place in batch]
    assert flat == sorted(lengths, reverse=True)


records_lists = st.lists(
    st.builds(
        row,
        st.sampled_from(["p", "q", "a long question, longer than the window of the model"]),
        st.sampled_from(["yes", "no", "", "no words", "infinite", "a much longer answer " * 3])
        | st.text(max_size=8),
    )
    | st.sampled_from([b"{", b"[]", b'{"prompt": "p"}', b'{"prompt": "p", "response": 3}']),
    max_size=14,
)


def expected_line(index: int, hash_: str, record: object) -> ScoreRow | None:
    """What a row of `records_lists` should come to, by hand; None: not told here."""
    if not isinstance(record, dict) or not record["response"].strip():
        return None
    response = record["response"]
    if response in ("no words", "infinite"):
        return None
    whole = (record["prompt"] + response).encode("utf-8", "replace")
    if whole[:WINDOW].endswith((b"infinite", b"nan", b"beyond")):
        return None
    truncated = len(whole) > WINDOW
    return ScoreRow(
        row=index,
        row_hash=hash_,
        score=float(np.float32(score_of(whole[:WINDOW]))),
        status="truncated" if truncated else "scored",
        reason=f"scored on {WINDOW} of its {len(whole)} tokens" if truncated else None,
        n_tokens=max(0, min(len(whole), WINDOW) - len(record["prompt"])),
        nearest_feature=3,
        nearest_similarity=float(np.float32(0.1)),
        unknown_share=0.25,
        explained_variance=float(np.float32(0.9)),
    )


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(records_lists, st.integers(1, 6), st.integers(1, 200))
def test_lines_do_not_depend_on_parts_or_batches(
    records: list[object], part_rows: int, batch_tokens: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = write(Path(name, "d.jsonl"), [row("p", "first"), *records])
        lines = []
        for size, tokens in ((1000, 10**6), (part_rows, batch_tokens)):
            out = Path(name, f"{len(lines)}.parquet")
            table = score_file(
                rows,
                StubEncoder(),
                StubScorer(),
                out,
                MANIFEST,
                on_error="keep",
                part_rows=size,
                batch_tokens=tokens,
            )
            lines.append(list(table))
        assert lines[0] == lines[1]
        assert [line.row for line in lines[0]] == list(range(len(records) + 1))
        for line, source, record in zip(lines[0][1:], list(rows)[1:], records, strict=True):
            assert line.row_hash == source.row_hash
            expected = expected_line(line.row, source.row_hash, record)
            if expected is not None:
                found = dataclasses.replace(line, rank=None, top_features=())
                assert found == expected


# Bad rows


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"{", "unreadable"),
        (b'{"prompt": "p"}', "no_response"),
        (row("p", ""), "empty"),
        (row("p", "no words"), "empty: the response holds no token of its own"),
        ({"prompt": "p", "response": 3}, "malformed"),
    ],
)
def test_bad_row_stops_before_any_work(
    score: Score, tmp_path: Path, bad: object, message: str
) -> None:
    scorer = StubScorer()
    with pytest.raises(DataError, match=rf"d\.jsonl:6: {message}") as error:
        score([*numbered(5), bad, *numbered(2)], scorer)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("keep such rows unscored with --on-error keep")
    assert scorer.batches == []
    assert os.listdir(tmp_path) == ["d.jsonl"]


def test_bad_rows_are_kept_with_their_reasons_when_asked(score: Score) -> None:
    bad = [b"{", b'{"prompt": "p"}', row("p", ""), row("p", "no words"), row("p", "infinite")]
    table = score([row("p", "good"), *bad, row("p", "fine")], on_error="keep")
    assert statuses(table) == [
        "scored", "unreadable", "no_response", "empty", "empty", "not_finite", "scored",
    ]  # fmt: skip
    assert [value is None for value in table.scores.tolist()] == [False, *[True] * 5, False]
    assert all(table.row(index).reason for index in range(1, 6))
    assert table.row(5).n_tokens == len("infinite")


def test_rows_that_only_the_model_finds_bad_stop_nothing(score: Score) -> None:
    table = score([row("p", "infinite"), row("p", "nan"), row("p", "beyond"), row("p", "good")])
    assert statuses(table) == [*["not_finite"] * 3, "scored"]
    assert table.row(1).reason == "the score is nan"


def test_reason_is_stored_without_hidden_characters(score: Score, tmp_path: Path) -> None:
    class Talking(StubEncoder):
        def encode(self, sample: Sample) -> Encoded:
            raise Unscorable(Problem("malformed", "bad \ud800 \x1b[31m\nvalue"))

    rows = write(tmp_path / "d.jsonl", [row("p", "r")])
    out = tmp_path / "s.parquet"
    table = score_file(rows, Talking(), StubScorer(), out, MANIFEST, on_error="keep")
    assert table.row(0).reason == r"bad \ud800 \x1b[31m\nvalue"


# Chosen and rejected


def pair(chosen: str, rejected: str) -> dict[str, str]:
    return {"prompt": "p", "chosen": chosen, "rejected": rejected}


def test_both_sides_of_a_pair_are_scored_apart(score: Score) -> None:
    scorer = StubScorer()
    table = score([pair("yes", "no")], scorer)
    assert table.row(0).score == pytest.approx(score_of(b"pyes"))
    assert table.row(0).rejected_score == pytest.approx(score_of(b"pno"))
    assert sorted(scorer.texts) == [b"pno", b"pyes"]


def test_pair_is_scored_exactly_if_its_chosen_side_is(score: Score) -> None:
    table = score(
        [pair("yes", "no words"), pair("no words", "no"), pair("yes", "infinite")],
        on_error="keep",
    )
    assert statuses(table) == ["scored", "empty", "scored"]
    assert table.column("rejected_score").mask.tolist() == [True, False, True]
    assert table.row(0).reason == "rejected: empty: the response holds no token of its own"
    assert table.row(1).reason == "the response holds no token of its own"
    assert table.row(2).reason.startswith("rejected: not_finite: ")


def test_window_of_either_side_marks_the_row(score: Score) -> None:
    table = score([pair("yes", "n" * 60), pair("y" * 60, "no")])
    assert statuses(table) == ["truncated", "truncated"]
    assert table.row(0).reason == "rejected: scored on 40 of its 61 tokens"
    assert table.row(1).reason == "scored on 40 of its 61 tokens"


# Identical rows


def test_identical_rows_are_scored_once_over_the_whole_file(score: Score) -> None:
    same = [row("p", "again"), {"response": "again", "prompt": "p"}]
    scorer = StubScorer()
    table = score([*same, *numbered(5), *same, row("p", "infinite"), row("p", "infinite")], scorer)
    assert sorted(scorer.texts) == sorted({*scorer.texts})
    assert len(scorer.texts) == 7
    for index in (1, 7, 8):
        copy = dataclasses.replace(table.row(index), row=0, rank=None)
        assert copy == dataclasses.replace(table.row(0), rank=None)
    assert len(table) == 11


def test_unreadable_bytes_never_stand_for_a_record(tmp_path: Path, score: Score) -> None:
    # Bytes that are the canonical form of another row's record have its hash.
    rows = write(tmp_path / "d.jsonl", [row("p", "r")] * 2)
    [good, _] = list(rows)
    canonical = json.dumps(good.record, sort_keys=True, separators=(",", ":")).encode()
    for order in ((0, 1), (1, 0)):
        broken = Row(order[0], "d.jsonl:9", canonical, None, Problem("unreadable", "no record"))
        assert broken.row_hash == good.row_hash
        placed = {order[0]: broken, order[1]: dataclasses.replace(good, index=order[1])}

        class Both(RowFile):
            def __iter__(self, placed: dict[int, Row] = placed) -> Iterator[Row]:
                return iter([placed[0], placed[1]])

        rows.__class__ = Both
        for part_rows in (1, 5):
            table = score(rows, on_error="keep", part_rows=part_rows, restart=True)
            assert statuses(table)[order[0]] == "unreadable"
            assert statuses(table)[order[1]] == "scored"


# The smallest and flattest files


def test_no_rows(score: Score, tmp_path: Path) -> None:
    scorer = StubScorer()
    table = score([], scorer)
    assert len(table) == 0
    assert list(table) == []
    assert scorer.batches == []
    assert sorted(os.listdir(tmp_path)) == ["d.jsonl", "s.parquet"]


def test_one_row(score: Score) -> None:
    table = score([row("p", "r")])
    assert (len(table), table.row(0).rank) == (1, 1)


def test_all_rows_unscored(score: Score) -> None:
    table = score([b"{"] * 4 + [row("p", "infinite")] * 4, on_error="keep")
    assert table.scores.tolist() == [None] * 8
    assert table.column("rank").tolist() == [None] * 8


def test_all_scores_equal_rank_in_row_order(score: Score) -> None:
    table = score([{**row("p", "same"), "id": str(i)} for i in range(7)])
    assert table.column("rank").tolist() == [1, 2, 3, 4, 5, 6, 7]


# The output, the scorer, progress and memory


def test_missing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    rows = write(tmp_path / "d.jsonl", numbered(2))
    scorer = StubScorer()
    with pytest.raises(OutputError, match="create the folder first"):
        score_file(rows, StubEncoder(), scorer, tmp_path / "no" / "s.parquet", MANIFEST)
    assert scorer.batches == []


def test_scorer_that_loses_a_sample_is_found_out(score: Score) -> None:
    class Losing(StubScorer):
        def __call__(self, batch: Sequence[Encoded]) -> list[SampleScore | Problem]:
            return super().__call__(batch)[1:]

    with pytest.raises(ValueError, match="gave 2 scores for 3 samples"):
        score(numbered(3), Losing())


def test_progress_only_grows_and_ends_at_the_number_of_rows(score: Score) -> None:
    calls: list[tuple[str, int]] = []
    records = [*numbered(8), row("q1", "aaa"), *numbered(2)]
    score(records, batch_tokens=8, progress=lambda phase, done, _: calls.append((phase, done)))
    done = [n for phase, n in calls if phase == "score"]
    assert done == sorted(done)
    assert done[-1] == len(records)
    assert len(done) > len(records) / 3, "it is told batch by batch"


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    run_benchmark("stream_memory.py", "--few", 2000, "--many", 40_000, "--result", result)
    assert json.loads(result.read_text())["ratio"] <= 1.3
