"""What a comparison can show is what simulations and another library say it can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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


@given(st.floats(0.001, 0.9), st.floats(0.05, 1.0))
def test_the_smallest_reduction_is_the_one_that_needs_so_many_answers(base, reduction):
    answers = answers_needed(base, reduction)
    shown = smallest_reduction(base, answers)
    assert shown is not None
    assert shown <= reduction * (1 + 1e-9)
    assert answers_needed(base, shown) <= answers + 1


def test_a_run_that_can_show_nothing_says_so():
    assert smallest_reduction(0.0068, 100) is None
    assert smallest_reduction(0.0, 10_000) is None
    assert smallest_reduction(0.2, 20) is None
    assert smallest_reduction(0.2, 0) is None


@pytest.mark.parametrize(("base", "reduction"), [(0, 0.3), (1, 0.3), (0.2, 0), (0.2, 1.1)])
def test_numbers_that_are_no_rates_are_refused(base, reduction):
    with pytest.raises(ValueError, match="needed are shares"):
        answers_needed(base, reduction)
