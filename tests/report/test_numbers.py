"""The numbers of the report, against other ways to compute them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geofilter.report import numbers, svg
from geofilter.selection import choose

floats = st.floats(-5, 5, width=16)
scores32 = st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=40)


@given(st.integers(0, 300), st.integers(1, 300))
def test_the_interval_of_a_rate_is_wilsons(count, total):
    count = min(count, total)
    found = numbers.rate(count, total)
    expected = stats.binomtest(count, total).proportion_ci(method="wilson")
    assert found.value == count / total
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.lists(floats, max_size=80), st.none() | floats)
def test_a_histogram_counts_every_score_once_and_a_cut_parts_its_bins(values, cut):
    scores = np.array(values, float)
    found = numbers.histogram(scores, cut, bins=7)
    assert found.counts.sum() == len(scores)
    assert len(found.edges) == len(found.counts) + 1 <= 10
    if cut is not None and len(scores) and scores.min() < cut <= scores.max():
        assert cut in found.edges
        above = found.counts[found.edges[:-1] >= cut].sum()
        assert above == (scores >= cut).sum()


@given(scores32, st.none() | st.floats(-6, 6, width=32))
def test_each_threshold_counts_the_rows_that_filter_would_drop_for_its_digits(values, cut):
    scores = np.array(values, np.float32)
    cuts = numbers.thresholds(scores.astype(float), cut)
    counts = numbers.above(scores.astype(float), cuts).tolist()
    assert cut is None or np.float32(cut) in cuts
    for one, count in list(zip(cuts, counts, strict=True))[:: max(1, len(cuts) // 8)]:
        assert count == len(choose.threshold(scores, float(str(one))).drop)


def columns_of(scores, n_tokens=None, statuses=None) -> numbers.Columns:
    values = np.array(scores, float)
    order = np.argsort(-values, kind="stable")
    ranks = np.zeros(len(values), np.int64)
    n = int((~np.isnan(values)).sum())
    ranks[order[:n]] = np.arange(1, n + 1)
    unknown = np.full(len(values), np.nan)
    lengths = np.ones(len(values), np.int64) if n_tokens is None else np.array(n_tokens)
    return numbers.Columns(values, ranks, lengths, statuses or {}, unknown, unknown)


rows_with_scores = st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=60).map(
    lambda scores: [math.nan if score is None else float(score) for score in scores]
)


@given(rows_with_scores, st.floats(0, 1), st.integers(1, 12))
def test_rows_are_shown_once_and_as_what_they_are(scores, fraction, most):
    columns = columns_of(scores)
    masked = np.ma.masked_invalid(columns.scores)
    choice = numbers.choice_of(choose.drop_fraction(masked, fraction), columns)
    shown = numbers.shown(columns, choice, most)
    assert len(set(shown.all)) == len(shown.all)
    assert max(map(len, (shown.nearest, shown.border, shown.random, shown.unscored))) <= most + 1
    ranks, n = columns.ranks, int(choice.dropped.sum())
    assert [ranks[row] for row in shown.nearest] == list(range(1, len(shown.nearest) + 1))
    assert all(choice.dropped[row] for row in shown.nearest)
    assert not any(choice.dropped[row] for row in shown.random)
    assert not columns.scored[shown.unscored].any()
    assert sorted(ranks[shown.border]) == list(ranks[shown.border])
    if most > 1 and 0 < n < columns.scored.sum():
        assert {n, n + 1} <= {ranks[row] for row in shown.border}
    explained = numbers.to_explain(shown, 5, ranks, n)
    assert len(explained) == len(set(explained)) <= 5
    assert columns.scored[explained].all()


@given(rows_with_scores)
def test_without_a_choice_the_nearest_tenth_is_set_apart_and_nothing_said_to_be_dropped(scores):
    choice = numbers.choice_of(None, columns_of(scores))
    n = sum(not math.isnan(score) for score in scores)
    assert int(choice.dropped.sum()) == n // 10
    assert not choice.made


@given(rows_with_scores, st.data())
def test_groups_count_what_a_loop_counts(scores, data):
    columns = columns_of(scores)
    codes = np.array(
        data.draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    )
    dropped = columns.scored & (columns.scores >= 5)
    for group in numbers.groups(codes, ["a", "b", "c"], columns.scored, dropped):
        inside = [row for row in range(len(scores)) if "abc"[codes[row]] == group.name]
        assert group.rows == len(inside)
        assert group.scored == sum(not math.isnan(scores[row]) for row in inside)
        assert group.dropped == sum(scores[row] >= 5 for row in inside)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=60))
def test_every_scored_length_has_one_part_and_parts_follow_each_other(pairs):
    lengths = np.array([length for length, _ in pairs])
    scored = np.array([has for _, has in pairs])
    codes, names = numbers.length_groups(lengths, scored)
    for one in set(lengths[scored]):
        assert len(set(codes[scored & (lengths == one)])) == 1
    assert list(codes[scored][np.argsort(lengths[scored])]) == sorted(codes[scored])
    assert (codes[~scored] == len(names) - 1).all()
    assert len(names) <= 6


def test_an_overlap_is_that_of_two_sets_of_rows():
    generator = np.random.default_rng(1)
    first, second = generator.integers(0, 30, (2, 200)).astype(float)
    second[:10] = math.nan
    columns, other = columns_of(first), columns_of(second)
    dropped = numbers.choice_of(choose.drop_fraction(first, 0.3), columns).dropped
    found = numbers.overlap(columns, other, dropped)
    mine = {row for row in range(10, 200) if dropped[row]}
    theirs = set(sorted(range(10, 200), key=lambda row: (-second[row], row))[: len(mine)])
    assert (found.both, found.dropped) == (190, len(mine))
    assert found.shared == len(mine & theirs)
    assert found.by_chance == len(mine) / 190
    assert found.correlation.value == pytest.approx(stats.spearmanr(first[10:], second[10:])[0])


@given(floats, st.floats(0.001, 1000))
def test_ticks_are_few_rising_and_inside(low, wide):
    found = svg.ticks(low, low + wide)
    assert 1 <= len(found) <= 5
    assert found == sorted(found)
    assert low - 1e-6 * wide <= found[0]
    assert found[-1] <= low + wide + 1e-6 * wide
