"""Masks take the nearest tokens, weights the rank, and a review changes nothing."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geofilter.data.encoder import Encoder
from geofilter.data.rows import open_rows
from geofilter.errors import GeofilterError
from geofilter.model.gradients import pushes, token_pushes, total_pushes
from geofilter.packs.index import ToxicIndex
from geofilter.scoring.explain import explain, token_scorer
from geofilter.scoring.score import BatchScorer
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions.mask import nearest_tokens
from geofilter.selection.actions.review import guarded
from geofilter.selection.actions.weigh import weights
from geofilter.selection.choose import drop_fraction
from geofilter.selection.loss_note import read_row_loss
from helpers.tiny_models import CONFIGS, D_MODEL, random_samples, tiny_model, tiny_setting

DIRECTION = np.random.default_rng(0).normal(size=D_MODEL).astype(np.float32)
TINY = "--model model --sae sae --pack my.pack"
SCORED = "--scores data.scores.parquet"


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


# scores of tokens


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_parts_of_tokens_sum_to_the_push_of_the_row(kind: str) -> None:
    model, batch = tiny_model(kind), random_samples(5)
    parts = token_pushes(model, batch, DIRECTION)
    totals = total_pushes(pushes(model, batch).push, batch)
    for sample, part, total in zip(batch, parts, totals, strict=True):
        assert np.nansum(part) == pytest.approx(total @ DIRECTION, rel=1e-4, abs=1e-4)
        assert (~np.isnan(part)).tolist() == sample.response.tolist()


def test_a_tokens_part_is_the_push_of_its_own_loss_alone() -> None:
    model, (sample,) = tiny_model(), random_samples(1, seed=4)
    (parts,) = token_pushes(model, [sample], DIRECTION)
    for place in np.flatnonzero(sample.response):
        alone = np.zeros(len(sample.ids), bool)
        alone[place] = True
        one = type(sample)(sample.ids, alone, alone, False, len(sample.ids), None)
        (total,) = total_pushes(pushes(model, [one]).push, [one])
        assert parts[place] == pytest.approx(total @ DIRECTION, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("scorer", "pooled"), [("spillover", np.nansum), ("nearest", np.nanmean)])
def test_the_scores_of_tokens_make_the_score_of_the_row(scorer, pooled) -> None:
    model, pack = tiny_setting()
    samples = random_samples(12, seed=3)
    rows = BatchScorer(model, pack, scorer=scorer)(samples)
    divide = token_scorer(model, ToxicIndex(pack, model.decoder), scorer, "nearest")
    found = divide(samples)
    for row, scores in zip(rows, found, strict=True):
        assert pooled(scores) == pytest.approx(row.score, abs=1e-5)
    for sample, scores in zip(samples, found, strict=True):  # whoever else is in the batch
        np.testing.assert_allclose(divide([sample])[0], scores, atol=1e-5)


def test_the_score_of_a_token_is_what_explain_says_of_it() -> None:
    model, pack = tiny_setting()
    index, (sample,) = ToxicIndex(pack, model.decoder), random_samples(1, seed=5)
    (scores,) = token_scorer(model, index, "nearest", "mean")([sample])
    explained = explain(model, index, sample, proximity="mean").tokens
    for token in explained:
        expected = token.contribution * len(explained)
        assert scores[token.position] == pytest.approx(expected, abs=1e-6)


def test_a_score_that_is_no_sum_over_tokens_is_refused() -> None:
    model, pack = tiny_setting()
    with pytest.raises(GeofilterError, match=r"direction are no sums.*--scorer nearest"):
        token_scorer(model, ToxicIndex(pack, model.decoder), "direction", "nearest")


# masks and weights


@given(st.lists(st.lists(st.sampled_from([np.nan, -1.0, 0.0, 0.5, 2.0]))), st.integers(0, 30))
def test_a_mask_takes_exactly_so_many_tokens_and_none_before_a_nearer_one(rows, count) -> None:
    scores = [np.array(row, np.float32) for row in rows]
    masks = nearest_tokens(scores, count)
    assert [len(mask) for mask in masks] == [len(row) for row in scores]
    flat, marked = np.concatenate([*scores, []]), np.concatenate([*masks, []]).astype(bool)
    assert marked.sum() == min(count, (~np.isnan(flat)).sum())
    assert not np.isnan(flat[marked]).any()
    if marked.any() and (left := flat[~marked & ~np.isnan(flat)]).size:
        assert flat[marked].min() >= left.max()


@given(st.lists(st.one_of(st.none(), st.integers(-4, 4)), max_size=40), st.floats(0, 1))
def test_weights_fall_with_nearness_and_take_away_as_much_as_a_drop(values, fraction) -> None:
    scores = np.ma.masked_invalid([np.nan if v is None else float(v) for v in values])
    k = int(fraction * scores.count())
    found = weights(scores, k)
    known = ~np.ma.getmaskarray(scores)
    assert ((found >= 0) & (found <= 1)).all()
    assert (found[~known] == 1).all()
    assert (1 - found).sum() == pytest.approx(k, abs=1e-3)
    own, weight = scores.data[known], found[known]
    for a, b in zip(own, weight, strict=True):
        assert (weight[own > a] <= b + 1e-6).all()
        assert (weight[own == a] == b).all()


def test_a_weight_is_a_straight_line_across_the_cut() -> None:
    scores = np.ma.asarray(np.arange(10.0)[::-1])
    expected = [0.125, 0.375, 0.625, 0.875, 1, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(weights(scores, 2), expected)
    np.testing.assert_allclose(weights(scores, 8), [0] * 6 + expected[:4])


# the command


def test_mask_takes_as_many_tokens_as_drop_and_changes_nothing_else(work, geofilter) -> None:
    done = geofilter(
        f"filter data.jsonl {SCORED} --drop-fraction 0.25 --action mask -o m.jsonl --json"
    )
    assert done.code == 0, done.err
    table = ScoreTable.read("data.scores.parquet")
    chosen = set(drop_fraction(table.scores, 0.25).drop.tolist())
    before = lines("data.jsonl")
    after = lines("m.jsonl")
    assert [{k: v for k, v in row.items() if k != "geofilter"} for row in after] == before
    encoder = Encoder(tiny_model().tokenizer, max_length=48)
    rows = open_rows("m.jsonl")
    masked = dropped = 0
    for row in rows:
        encoded = encoder.encode(rows.layouts.samples(row.record)[0])
        mask = read_row_loss(row.record).mask_of(encoded.ids)
        assert not (mask & ~encoded.response).any()
        masked += mask.sum()
        dropped += encoded.response.sum() if row.index in chosen else 0
    assert masked == dropped == json.loads(done.out)["masked_tokens"]
    assert masked > 0


@pytest.mark.slow
def test_masks_and_weights_survive_every_format(work, geofilter) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    records = lines("data.jsonl")
    with open("data.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)
    pq.write_table(pa.Table.from_pylist(records), "data.parquet")
    Path("data.json").write_text(json.dumps(records))
    found = {}
    for suffix in ("jsonl", "csv", "parquet", "json"):
        data = f"data.{suffix}"
        assert geofilter(f"score {data} {TINY} -o {suffix}.scores").code == 0
        for action in ("mask", "weight"):
            asked = f"--scores {suffix}.scores --drop-fraction 0.3 --action {action}"
            done = geofilter(f"filter {data} {asked} -o {action}.{suffix}")
            assert done.code == 0, done.err
            assert "LossCollator" in done.err
            assert "with max_length=48, as rows were read" in done.err
            losses = [read_row_loss(row.record) for row in open_rows(f"{action}.{suffix}")]
            found.setdefault(action, []).append(
                [(loss.weight, loss.tokens, loss.masked) for loss in losses]
            )
    for first, *others in found.values():
        assert all(other == first for other in others)
    assert any(masked for _, _, masked in found["mask"][0])
    assert {0.5 < weight < 1 for weight, _, _ in found["weight"][0]} == {True, False}


def test_review_lists_rows_and_leaves_the_data_as_it_is(work, geofilter) -> None:
    asked = f"filter data.jsonl {SCORED} --drop-fraction 0.1 --action review"
    assert geofilter(f"{asked} --review r.jsonl -o all.jsonl").code == 0
    assert Path("all.jsonl").read_bytes() == Path("data.jsonl").read_bytes()
    listed = lines("r.jsonl")
    assert geofilter(f"{asked} --review r.csv -o all2.jsonl").code == 0
    with open("r.csv", newline="") as file:
        assert [row["row"] for row in csv.DictReader(file)] == [str(row["row"]) for row in listed]
    table = ScoreTable.read("data.scores.parquet")
    assert [row["row"] for row in listed] == drop_fraction(table.scores, 0.1).drop.tolist()
    records = lines("data.jsonl")
    for row in listed:
        assert row["where"] == f"data.jsonl:{row['row'] + 1}"
        assert (row["score"], row["rank"]) == (
            table.row(row["row"]).score,
            table.row(row["row"]).rank,
        )
        assert row["response"] == records[row["row"]]["response"]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", '"=1', "=cmd|' /C calc'!A0"],
)
def test_no_cell_of_a_review_is_computed_or_breaks_its_line(text: str) -> None:
    cell = guarded(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert cell.isprintable()
    line = io.StringIO()
    csv.writer(line).writerow([cell])
    assert next(csv.reader([line.getvalue()])) == [cell]
    assert guarded(-0.5) == "-0.5"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--action review", "go together"),
        ("--action mask --review r.csv", "go together"),
        ("--action mask --dropped d.jsonl", "drops no row"),
        ("--action weight --unscored drop", "drops no row"),
        ("--action review --review kept.jsonl", "name the same file"),
        ("--action review --review r.txt", "name it *.jsonl or *.csv"),
        ("--action burn", "burn"),
    ],
)
def test_what_does_not_go_together_is_told_and_leaves_nothing(work, geofilter, options, said):
    done = geofilter(f"filter data.jsonl {SCORED} --drop-fraction 0.1 -o kept.jsonl {options}")
    assert done.code == 2
    assert said in done.err
    assert not Path("kept.jsonl").exists()


def test_a_row_with_two_responses_is_not_masked(work, geofilter) -> None:
    pair = [{"prompt": "w1", "chosen": "w2 w3", "rejected": "w4 w5"}] * 4
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pair))
    assert geofilter(f"score pairs.jsonl {TINY} -o p.parquet").code == 0
    asked = "--scores p.parquet --drop-fraction 0.5 --action mask -o m.jsonl"
    done = geofilter(f"filter pairs.jsonl {asked}")
    assert done.code == 2
    assert "pairs.jsonl:1: has a chosen and a rejected response" in done.err


def test_forward_differentiation_leaves_the_network_as_it_was() -> None:
    model, batch = tiny_model(), random_samples(2)
    before = pushes(model, batch).push
    token_pushes(model, batch, DIRECTION)
    torch.testing.assert_close(pushes(model, batch).push, before)
