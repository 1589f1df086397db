"""Intervals of grouped samples: the values are the plain ones, and alike samples widen them."""

import numpy as np
import pytest
from scipy import stats

from geofilter.stats.auroc import Interval, auroc
from geofilter.stats.groups import (
    grouped_auroc,
    grouped_share,
    numbered,
    share_in_order,
    student,
    widened,
)


def drawn(groups: int, each: int, shared: float, seed: int = 0):
    """Scores of pairs in groups, of which `shared` is what a group's differences have in common."""
    generator = np.random.default_rng(seed)
    of_group = np.repeat(np.arange(groups), each)
    gap = 0.5 + shared * generator.normal(size=groups)[of_group]
    below = generator.normal(size=groups * each)
    return below + gap + generator.normal(size=groups * each), below, of_group


@pytest.mark.parametrize("shared", [0.0, 3.0])
def test_the_values_are_those_without_groups_and_no_interval_is_narrower(shared):
    above, below, groups = drawn(8, 12, shared)
    plain, found = auroc(above, below), grouped_auroc(above, below, groups)
    assert found.value == plain.value
    assert 0 <= found.low <= plain.low <= plain.high <= found.high <= 1
    assert share_in_order(above, below, groups).value == np.mean(above > below)


def test_an_auroc_without_a_group_is_that_of_the_other_rows():
    above, below, groups = drawn(5, 4, 1.0)
    above[3] = below[7]  # a tie
    without = [auroc(above[groups != g], below[groups != g]).value for g in range(5)]
    error = np.sqrt(4 / 5 * ((without - np.mean(without)) ** 2).sum())
    found = grouped_auroc(above, below, groups)
    low = min(auroc(above, below).low, found.value - stats.t.ppf(0.975, 4) * error)
    assert found.low == pytest.approx(max(low, 0), abs=0.01)


def test_groups_that_differ_widen_the_interval():
    above, below, groups = drawn(8, 12, 3.0)
    alone = grouped_auroc(above, below, np.arange(len(groups)))
    found = grouped_auroc(above, below, groups)
    assert found.high - found.low > 1.3 * (alone.high - alone.low)


def test_columns_are_measured_one_by_one():
    above, below, groups = drawn(6, 5, 1.0)
    columns = grouped_auroc(np.stack([above, below], 1), np.stack([below, above], 1), groups)
    assert columns.value[0] == pytest.approx(grouped_auroc(above, below, groups).value)
    assert columns.value.sum() == pytest.approx(1)
    empty = grouped_auroc(np.zeros((30, 0)), np.zeros((30, 0)), groups)
    assert empty.value.shape == (0,)


def test_a_tie_of_a_pair_counts_half():
    assert share_in_order([1, 2, 3, 0], [0, 2, 3, 1], np.arange(4)).value == 0.5
    assert grouped_share(np.array([1.0, 0.0, 1.0]), np.arange(3)).value == pytest.approx(2 / 3)


def test_fewer_than_three_groups_say_nothing_of_how_they_differ():
    assert numbered(["a", "b", "a", "b"]).tolist() == [0, 1, 2, 3]
    assert numbered(["a", "b", "a", "c"]).tolist() == [0, 1, 0, 2]
    plain = Interval(*map(np.array, (0.5, 0.4, 0.6)))
    assert widened(plain, np.array([0.5])) == plain


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30, 500])
def test_students_quantile_is_that_of_scipy(freedom):
    assert student(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.01)
