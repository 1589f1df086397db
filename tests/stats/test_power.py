"""What a comparison can show is what simulations and another library say it can."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from geofilter.stats.correlation import _correlations, _members, rank_correlation
from geofilter.stats.power import answers_needed, smallest_reduction


@pytest.mark.parametrize(("base", "about"), [(0.20, 450), (0.0575, 1800), (0.0068, 16_000)])
def test_the_numbers_of_answers_that_are_known_for_the_published_fall(base, about):
    assert answers_needed(base, 0.345) == pytest.approx(about, rel=0.02)


@pytest.mark.parametrize(("base", "reduction"), [(0.2, 0.345), (0.0575, 0.345), (0.5, 0.1)])
def test_a_test_with_the_answers_needed_finds_the_fall_as_often_as_it_says(base, reduction):
    answers = answers_needed(base, reduction)
    random = np.random.default_rng(0)
    first = random.binomial(answers, base, 20_000) / answers
    second = random.binomial(answers, base * (1 - reduction), 20_000) / answers
    pooled = (first + second) / 2
    z = (first - second) / np.sqrt(2 * pooled * (1 - pooled) / answers)
    found = np.mean(2 * stats.norm.sf(np.abs(z)) < 0.05)
    assert found == pytest.approx(0.8, abs=0.015)


@given(
    st.floats(0.001, 0.9),
    st.floats(0.05, 1.0),
    st.floats(0.5, 20),
)
def test_the_smallest_reduction_is_the_one_that_needs_so_many_answers(base, reduction, effect):
    answers = answers_needed(base, reduction, design_effect=effect)
    shown = smallest_reduction(base, answers, design_effect=effect)
    assert shown is not None
    assert shown <= reduction * (1 + 1e-9)
    assert answers_needed(base, shown, design_effect=effect) <= answers + 1


def test_a_run_that_can_show_nothing_says_so():
    assert smallest_reduction(0.0068, 100) is None
    assert smallest_reduction(0.0, 10_000) is None
    assert smallest_reduction(0.2, 400, design_effect=20) is None
    assert smallest_reduction(0.2, 0) is None


def test_clustered_answers_are_worth_fewer():
    assert answers_needed(0.2, 0.345, design_effect=4) == pytest.approx(
        4 * answers_needed(0.2, 0.345), abs=4
    )


@pytest.mark.parametrize(("base", "reduction"), [(0, 0.3), (1, 0.3), (0.2, 0), (0.2, 1.1)])
def test_numbers_that_are_no_rates_are_refused(base, reduction):
    with pytest.raises(ValueError, match="needed are shares"):
        answers_needed(base, reduction)


# -- rank correlation --------------------------------------------------------------------

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
