"""Rank correlations and their intervals are what another library and simulations say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geofilter.stats.correlation import (
    _correlations,
    _members,
    mean_ranks,
    rank_correlation,
    spearman,
)

floats = st.floats(-5, 5, width=16)


@given(st.lists(st.integers(0, 6) | floats, max_size=40))
def test_equal_values_share_the_mean_of_their_ranks(values):
    assert mean_ranks(np.array(values, float)).tolist() == stats.rankdata(values).tolist()


@given(st.lists(st.tuples(st.integers(0, 9), floats), min_size=5, max_size=60))
def test_the_rank_correlation_is_scipys_ties_and_all(pairs):
    x, y = (np.array(column, float) for column in zip(*pairs, strict=True))
    found = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found is None
        return
    assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert -1 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1


def test_the_interval_of_a_rank_correlation_holds_the_true_one_about_95_times_in_100():
    rho = 0.6
    true = 6 / math.pi * math.asin(rho / 2)  # of a bivariate normal
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        x, noise = generator.standard_normal((2, 80))
        found = spearman(x, rho * x + math.sqrt(1 - rho**2) * noise)
        held += found.low <= true <= found.high
    assert 0.92 <= held / 600 <= 0.98


COLUMN = st.lists(st.integers(0, 6) | st.floats(-5, 5), min_size=3, max_size=15)


@given(COLUMN, st.randoms(use_true_random=False))
def test_the_rank_correlation_is_spearmans(x, rng):
    y = [rng.choice([value, rng.randrange(5)]) for value in x]
    found = rank_correlation(x, y, draws=20)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found.value is None
    else:
        assert found.value == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)


@pytest.mark.parametrize("strata", [None, [0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]])
def test_every_draw_is_spearmans_correlation_of_its_items(strata):
    random = np.random.default_rng(0)
    x, y = random.integers(0, 5, (2, 12)).astype(float)
    weights = random.multinomial(12, np.full(12, 1 / 12), 50)
    inside = None if strata is None else _members(strata)
    found = _correlations((x, y), weights.astype(float), inside)
    for value, times in zip(found, weights, strict=True):
        copies = np.repeat(np.arange(12), times)
        columns = [column[copies] for column in (x, y)]
        if strata is not None:
            of = np.array(strata)[copies]
            columns = [
                np.array([round(v - c[of == s].mean(), 9) for v, s in zip(c, of, strict=True)])
                for c in columns
            ]
        assert value == pytest.approx(stats.spearmanr(*columns).statistic, abs=1e-9)


def test_a_common_course_over_strata_is_no_correlation_within_them():
    random = np.random.default_rng(2)
    strata = np.repeat(np.arange(6), 20)
    x, y = 10 * strata + random.normal(size=(2, 120))
    assert rank_correlation(x, y).value > 0.9
    within = rank_correlation(x, y, strata=strata, draws=500)
    assert within.low < 0 < within.high


def test_the_interval_holds_the_value_and_narrows_with_more_items():
    random = np.random.default_rng(1)
    widths = []
    for items in (30, 300):
        x = random.normal(size=items)
        found = rank_correlation(x, x + random.normal(size=items), draws=1000)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_what_has_no_correlation_gets_none_or_is_refused():
    assert rank_correlation([1, 2], [1, 2]).value is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]).value is None
    with pytest.raises(ValueError, match="finite"):
        rank_correlation([1, 2, math.nan], [1, 2, 3])
    with pytest.raises(ValueError, match="shapes"):
        rank_correlation([1, 2, 3], [1, 2])
