"""Intervals over seeds and clusters agree with independent computations, and with each other."""

import numpy as np
import pytest

from geofilter.stats.crossed import mean_of, ratio_of


def table(seeds: int, clusters: int, spreads: tuple[float, float, float], seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (
        1.0
        + random.normal(0, spreads[0], (seeds, 1))
        + random.normal(0, spreads[1], clusters)
        + random.normal(0, spreads[2], (seeds, clusters))
    )


def test_with_one_seed_it_is_students_interval_of_the_clusters() -> None:
    one = table(1, 12, (0, 1, 1), 0)
    found = mean_of(one, np.ones(12))
    half = 2.201 * one.std(ddof=1) / np.sqrt(12)  # Student, 11 degrees of freedom
    assert found.value == pytest.approx(one.mean())
    assert (found.low, found.high) == pytest.approx(
        (one.mean() - half, one.mean() + half), rel=1e-3
    )


def test_with_one_cluster_it_is_students_interval_of_the_seeds() -> None:
    one = table(5, 1, (1, 0, 0), 1)
    found = mean_of(one, np.ones(1))
    half = 2.776 * one.std(ddof=1) / np.sqrt(5)
    assert found.high - found.value == pytest.approx(half, rel=0.01)


def test_one_seed_and_one_cluster_bound_nothing() -> None:
    found = mean_of(np.ones((1, 1)), np.ones(1))
    assert found.value == 1.0
    assert np.isnan([found.low, found.high]).all()


def test_a_cluster_counts_as_often_as_its_size() -> None:
    one = np.array([[0.0, 3.0], [1.0, 1.0]])
    assert mean_of(one, np.array([2.0, 1.0])).value == pytest.approx((1 + 1) / 2)


def test_the_variance_is_that_of_both_components_of_an_anova() -> None:
    # Expected mean squares of two crossed random factors (Searle, Casella and McCulloch 1992).
    seeds, clusters = 6, 9
    one = table(seeds, clusters, (0.5, 0.8, 1.0), 2)
    rows, columns = one.mean(axis=1), one.mean(axis=0)
    rest = one - rows[:, None] - columns + one.mean()
    squares = (
        clusters * rows.var(ddof=1),
        seeds * columns.var(ddof=1),
        (rest**2).sum() / ((seeds - 1) * (clusters - 1)),
    )
    variance = (squares[0] + squares[1] - squares[2]) / (seeds * clusters)
    found = mean_of(one, np.ones(clusters))
    # Student's quantile lies between that of 5 degrees of freedom and that of 13.
    assert 2.16 < (found.high - found.low) / 2 / np.sqrt(variance) < 2.571


@pytest.mark.parametrize("spreads", [(1, 0.2, 0.2), (0.2, 1, 0.2), (0.3, 0.3, 1)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(
    spreads: tuple[float, float, float],
) -> None:
    held = 0
    for seed in range(400):
        found = mean_of(table(5, 19, spreads, seed), np.ones(19))
        held += found.low <= 1.0 <= found.high
    assert held / 400 > 0.92


def test_a_ratio_excludes_a_value_just_where_the_difference_to_so_many_times_excludes_0() -> None:
    other = table(5, 19, (0.1, 0.2, 0.2), 3)
    one = 0.4 * other + 0.1 * table(5, 19, (0.3, 0.3, 0.3), 4)
    sizes = np.ones(19)
    found = ratio_of(one, other, sizes)
    assert found.value == pytest.approx(one.mean() / other.mean())
    assert found.low < found.value < found.high
    for end, inside in ((found.low, 1e-4), (found.high, -1e-4)):
        within, beyond = (mean_of(one - (end + step) * other, sizes) for step in (inside, -inside))
        assert within.low <= 0 <= within.high
        assert not beyond.low <= 0 <= beyond.high


def test_a_ratio_to_what_may_be_nothing_has_no_interval() -> None:
    other = table(3, 5, (2, 2, 2), 5) - 1
    found = ratio_of(np.ones((3, 5)), other, np.ones(5))
    assert np.isnan([found.low, found.high]).all()
