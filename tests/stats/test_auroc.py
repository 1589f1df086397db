"""The AUROC and its interval."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.stats.auroc import auroc, share

scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(scores, scores)
@settings(deadline=None)
def test_it_is_the_share_of_ordered_pairs_with_ties_as_half(positive, negative):
    pairs = [(a > b) + 0.5 * (a == b) for a in positive for b in negative]
    area = auroc(positive, negative)
    assert area.value == pytest.approx(np.mean(pairs))
    assert 0 <= area.low <= area.value <= area.high <= 1


def test_columns_are_taken_one_by_one():
    generator = np.random.default_rng(0)
    positive, negative = generator.normal(size=(20, 5)), generator.normal(size=(30, 5))
    together = auroc(positive, negative)
    for column in range(5):
        alone = auroc(positive[:, column], negative[:, column])
        for ours, theirs in zip(together, alone, strict=True):
            assert ours[column] == pytest.approx(float(theirs))


def test_perfect_separation_of_few_rows_is_not_certain():
    area = auroc([2, 3, 4, 5, 6], [-1, 0, 1, -2, -3])
    assert area.value == area.high == 1
    assert 0.5 < area.low < 0.8


def test_the_interval_holds_the_truth_about_95_times_in_100():
    generator = np.random.default_rng(0)
    truth, hits = 0.7602, 0  # of normal scores one standard deviation apart
    for _ in range(400):
        area = auroc(generator.normal(1, 1, 40), generator.normal(0, 1, 60))
        hits += area.low <= truth <= area.high
    assert 0.92 <= hits / 400 <= 0.98


@pytest.mark.parametrize(("positive", "negative"), [([], [1]), ([1], [])])
def test_an_empty_side_has_no_area(positive, negative):
    with pytest.raises(ValueError, match="at least one"):
        auroc(positive, negative)


def test_no_score_is_neither_above_nor_below():
    with pytest.raises(ValueError, match="NaN"):
        auroc([1, np.nan], [0])
    with pytest.raises(ValueError, match="NaN"):
        auroc([1], [0, np.nan])


def test_share_has_wilson_interval():
    # Newcombe (1998), table I: 81 of 263 and 0 of 20.
    assert share(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert share(0, 20) == pytest.approx((0, 0, 0.1611), abs=1e-4)
