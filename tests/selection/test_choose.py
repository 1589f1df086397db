"""Decisions follow the scores, cover every row, and never lose one that is unscored."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.errors import GeofilterError
from geofilter.scoring.table import ranks
from geofilter.selection.choose import Selection, drop_fraction, threshold

Scores = np.ma.MaskedArray

# Few distinct values, so that ties are common.
score_lists = st.lists(
    st.none() | st.sampled_from([-1.0, 0.0, 0.5, 0.75]) | st.floats(-1, 1, width=32), max_size=30
)
percents = st.integers(0, 100)


def masked(values: list[float | None]) -> Scores:
    return Scores(
        np.array([9.0 if value is None else value for value in values], dtype=np.float32),
        mask=[value is None for value in values],
    )


def assert_covers(selection: Selection, n_rows: int) -> None:
    assert sorted([*selection.keep, *selection.drop]) == list(range(n_rows))
    assert list(selection.keep) == sorted(selection.keep)
    assert list(selection.drop) == sorted(selection.drop)
    assert selection.n_rows == n_rows


@given(score_lists, percents, st.sampled_from(["keep", "drop"]))
def test_every_row_is_kept_or_dropped_once(values, percent, unscored) -> None:
    for selection in (
        drop_fraction(masked(values), percent / 100, unscored=unscored),
        threshold(masked(values), percent / 100, unscored=unscored),
    ):
        assert_covers(selection, len(values))
        missing = [index for index, value in enumerate(values) if value is None]
        assert list(selection.unscored) == missing
        assert set(missing) <= set(selection.keep if unscored == "keep" else selection.drop)
        assert selection.n_scored == len(values) - len(missing)


@given(score_lists, percents)
def test_fraction_drops_exactly_the_floor(values, percent) -> None:
    selection = drop_fraction(masked(values), percent / 100)
    assert len(selection.drop) == math.floor(Fraction(percent, 100) * selection.n_scored)


@given(score_lists, percents)
def test_fraction_drops_the_first_ranks_of_the_table(values, percent) -> None:
    scores = masked(values)
    selection = drop_fraction(scores, percent / 100)
    rank = ranks(scores.filled(np.nan))
    assert sorted(rank[selection.drop]) == list(range(1, len(selection.drop) + 1))


@given(score_lists, percents)
def test_fraction_threshold_parts_the_scores(values, percent) -> None:
    scores = masked(values)
    selection = drop_fraction(scores, percent / 100)
    if selection.threshold is None:
        assert len(selection.drop) == 0
        return
    kept = scores[selection.keep].compressed()
    assert (scores[selection.drop] >= selection.threshold).all()
    assert (kept <= selection.threshold).all()
    assert selection.n_tied_kept == int((kept == selection.threshold).sum())


@given(score_lists, st.floats(-2, 2))
def test_threshold_drops_what_is_at_it_or_above(values, value) -> None:
    selection = threshold(masked(values), value)
    expected = [
        index
        for index, score in enumerate(values)
        if score is not None and np.float32(score) >= np.float32(value)
    ]
    assert list(selection.drop) == expected
    assert selection.n_tied_kept == 0
    assert selection.threshold == np.float32(value)


def test_fraction_counts_as_the_decimal_that_was_written() -> None:
    # In binary 0.29 * 100 is 28.999999999999996.
    assert len(drop_fraction(np.arange(100.0), 0.29).drop) == 29


def test_threshold_is_taken_in_the_precision_of_the_scores() -> None:
    # float32 holds 0.7 as 0.699999988: below the double 0.7.
    assert list(threshold(np.array([0.7], dtype=np.float32), 0.7).drop) == [0]


def test_equal_scores_are_dropped_in_row_order_and_reported() -> None:
    selection = drop_fraction(np.full(5, 0.5, dtype=np.float32), 0.4)
    assert list(selection.drop) == [0, 1]
    assert selection.threshold == 0.5
    assert selection.n_tied_kept == 3


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_no_rows(fraction: float) -> None:
    selection = drop_fraction(np.empty(0, dtype=np.float32), fraction)
    assert_covers(selection, 0)
    assert selection.threshold is None
    assert_covers(threshold(np.empty(0, dtype=np.float32), 0.0), 0)


@pytest.mark.parametrize(("fraction", "n_drop"), [(0.0, 0), (0.99, 0), (1.0, 1)])
def test_one_row_goes_only_when_all_go(fraction: float, n_drop: int) -> None:
    assert len(drop_fraction(np.array([0.1]), fraction).drop) == n_drop


def test_all_unscored_are_kept_unless_asked_otherwise() -> None:
    scores = masked([None, None])
    for selection in (drop_fraction(scores, 1.0), threshold(scores, -9.0)):
        assert list(selection.keep) == [0, 1]
    assert drop_fraction(scores, 1.0).threshold is None
    assert list(drop_fraction(scores, 0.0, unscored="drop").drop) == [0, 1]


def test_value_under_the_mask_does_not_count() -> None:
    # The largest number of all is hidden in a row without a score.
    scores = np.ma.MaskedArray([0.1, math.nan, 9.0, 0.2], mask=[False, True, True, False])
    assert list(drop_fraction(scores, 0.5).drop) == [3]
    assert list(threshold(scores, 0.15).drop) == [3]


def test_nan_is_not_taken_for_unscored() -> None:
    for choose in (drop_fraction, threshold):
        with pytest.raises(ValueError, match="scores: NaN"):
            choose(np.array([0.1, math.nan]), 0.5)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, math.inf])
def test_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(GeofilterError, match=r"drop fraction .* is not between 0 and 1"):
        drop_fraction(np.array([0.1]), fraction)


def test_threshold_must_be_a_number() -> None:
    with pytest.raises(GeofilterError, match="is not a number"):
        threshold(np.array([0.1]), math.nan)
    assert list(threshold(np.array([0.1], np.float32), math.inf).drop) == []
    assert list(threshold(np.array([0.1], np.float32), -1e300).drop) == [0]


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="one number for each row"):
        drop_fraction(np.zeros((2, 2)), 0.5)
