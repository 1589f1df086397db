"""Permutation tests, Holm's correction and rank trends, against independent computations."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.stats.permutation import greater_mean_p, holm, rank_trend

whole = st.lists(st.integers(-4, 4), min_size=1, max_size=5)


def exact_p(above: list[int], below: list[int]) -> Fraction:
    """The share of all labellings whose difference of means is as great, in fractions."""
    both, n, m = above + below, len(above), len(below)

    def difference(chosen: tuple[int, ...]) -> Fraction:
        first = sum(both[i] for i in chosen)
        return Fraction(first, n) - Fraction(sum(both) - first, m)

    labellings = list(itertools.combinations(range(n + m), n))
    observed = difference(tuple(range(n)))
    return Fraction(sum(difference(c) >= observed for c in labellings), len(labellings))


@settings(max_examples=150, deadline=None)
@given(whole, whole)
def test_p_of_a_tiny_set_is_that_of_every_labelling_in_exact_arithmetic(above, below):
    assert greater_mean_p(above, below) == pytest.approx(float(exact_p(above, below)), abs=1e-12)


def test_p_of_a_tiny_set_is_that_of_scipy():
    rng = np.random.default_rng(5)
    above, below = rng.normal(0.4, 1, 6), rng.normal(0, 2, 5)
    found = scipy.stats.permutation_test(
        (above, below),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        alternative="greater",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert greater_mean_p(above, below) == pytest.approx(found.pvalue, abs=1e-12)


def test_p_from_drawn_exchanges_agrees_with_p_from_all_of_them():
    rng = np.random.default_rng(6)
    above, below = rng.normal(0.5, 1, 8), rng.normal(0, 1, 8)  # 12,870 labellings
    exact, drawn = (greater_mean_p(above, below, permutations=n) for n in (20_000, 5_000))
    assert exact != drawn
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 5_000))


def test_p_is_uniform_where_there_is_nothing_to_find():
    rng = np.random.default_rng(7)
    p_values = [
        greater_mean_p(rng.exponential(size=12), rng.exponential(size=20), permutations=199)
        for _ in range(600)
    ]
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 0.01
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(p_values) <= level)
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 600))


def test_p_is_small_only_where_the_first_mean_is_the_greater():
    rng = np.random.default_rng(8)
    near, far = rng.normal(2, 1, 40), rng.normal(0, 1, 40)
    assert greater_mean_p(near, far, permutations=999) == 1 / 1000
    assert greater_mean_p(far, near, permutations=999) > 0.99


def test_p_is_never_0_and_is_1_for_equal_values():
    assert greater_mean_p(np.full(30, 5.0) + np.arange(30), np.arange(30) - 90.0, 99) == 0.01
    assert greater_mean_p(np.full(30, 0.1), np.full(40, 0.1), 99) == 1


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm's correction by its definition: Bonferroni in every family that holds the test."""
    tests = range(len(p_values))
    families = [f for n in range(1, len(p_values) + 1) for f in itertools.combinations(tests, n)]
    return [
        max(min(1.0, len(f) * min(p_values[i] for i in f)) for f in families if test in f)
        for test in tests
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=7))
def test_holm_is_closed_testing_with_bonferroni(p_values):
    assert holm(p_values) == pytest.approx(closed_testing(p_values), rel=1e-12)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_rho_of_one_row_is_spearmans_and_p_is_over_every_order():
    row = [0.3, 0.1, 0.1, -0.4, 0.2]
    found = rank_trend([row])
    order = list(range(5))
    assert found.rho == pytest.approx(scipy.stats.spearmanr(order, row).statistic)
    rhos = [
        scipy.stats.spearmanr(order, [row[i] for i in moved]).statistic
        for moved in itertools.permutations(order)
    ]
    assert found.p_falling == pytest.approx(np.mean(np.array(rhos) <= found.rho + 1e-9))
    assert found.p_rising == pytest.approx(np.mean(np.array(rhos) >= found.rho - 1e-9))
    assert found.smallest_p == 1 / 120


def test_rows_that_agree_give_no_smaller_p_than_one_of_them():
    one, many = rank_trend([[4, 3, 2, 1]]), rank_trend([[4, 3, 2, 1]] * 9)
    assert (one.rho, many.rho) == pytest.approx((-1, -1))
    assert one.p_falling == many.p_falling == 1 / 24
    assert one.p_rising == 1


def test_a_trend_over_many_columns_is_drawn():
    falling = -np.arange(12.0)
    found = rank_trend([falling], permutations=500)
    assert (found.p_falling, found.smallest_p) == (1 / 501, 1 / 501)
