"""Intervals of shares: Clopper and Pearson's without groups, wider with them, and they hold."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from geofilter.stats.clustered import ASSUMED, Share, difference, ratio, share_of


def table(found, totals):
    share = share_of(np.array(found, float), np.array(totals, float))
    assert isinstance(share, Share)
    return share


@pytest.mark.parametrize(
    ("found", "total"), [(0, 8), (1, 8), (5, 8), (8, 8), (3, 700), (4000, 9600)]
)
def test_without_groups_the_interval_is_that_of_clopper_and_pearson(found, total):
    expected = stats.binomtest(found, total).proportion_ci(method="exact")
    bounds = table([[found]], [[total]]).bounds
    assert bounds == pytest.approx((expected.low, expected.high), abs=1e-9)


@pytest.mark.parametrize(("found", "total"), [(0, 24), (3, 24), (24, 24)])
def test_tails_are_those_of_the_beta_binomial(found, total):
    # Of one seed and groups in which nothing differs, so that only what is assumed counts.
    share = table([[found]], [[total]])
    grouped = table([[found / 8] * 8], [[total / 8] * 8])
    (kind,) = [one for one in grouped.kinds if one is not None]
    for bound, tail in zip(grouped.bounds, ("sf", "cdf"), strict=True):
        if 0 < bound < 1:
            alike = bound * (1 - bound) * kind.spread
            a, b = bound * (1 - alike) / alike, (1 - bound) * (1 - alike) / alike
            drawn = stats.betabinom(total, a, b)
            chance = drawn.sf(found - 1) if tail == "sf" else drawn.cdf(found)
            assert chance == pytest.approx(0.025, abs=1e-6)
    assert grouped.bounds.low <= share.bounds.low <= share.bounds.high <= grouped.bounds.high


def test_what_is_assumed_counts_where_nothing_was_found_and_fades_where_much_was():
    none = table(np.zeros((1, 8)), np.full((1, 8), 30))
    much = table(np.full((1, 80), 50), np.full((1, 80), 100))
    assert none.kinds[1].between == ASSUMED[1]
    assert much.kinds[1].between < ASSUMED[1] / 10


def test_questions_that_differ_widen_the_interval():
    alike = table(np.full((1, 10), 5), np.full((1, 10), 20))
    apart = table([[20, 20, 10, 0, 0, 0, 0, 0, 0, 0]], np.full((1, 10), 20))
    assert apart.value == alike.value
    assert np.subtract(*apart.bounds) < 1.5 * np.subtract(*alike.bounds) < 0


def test_found_and_not_found_mirror_each_other():
    found, totals = np.array([[3, 0, 1], [2, 1, 0]]), np.full((2, 3), 4)
    one, other = table(found, totals).bounds, table(totals - found, totals).bounds
    assert one == pytest.approx((1 - other.high, 1 - other.low))


def test_common_questions_that_differ_narrow_a_difference():
    rng = np.random.default_rng(0)
    chances = rng.uniform(0.05, 0.9, 60)
    arms = [rng.binomial(20, chances)[None] for _ in range(2)]
    totals = np.full((1, 60), 20)
    paired = difference(*(table(arm, totals) for arm in arms))
    apart = difference(table(arms[0], totals), table(rng.permuted(arms[1], axis=1), totals))
    assert paired.high - paired.low < 0.7 * (apart.high - apart.low)


def test_a_ratio_ends_at_1_just_where_the_difference_ends_at_0():
    totals = np.full((3, 8), 20)
    for count in range(1, 20):
        arm, reference = (table(np.full((3, 8), found), totals) for found in (count, 10))
        apart, over = difference(arm, reference), ratio(arm, reference)
        assert (apart.high < 0) == (over.high < 1)
        assert (apart.low > 0) == (over.low > 1)
        assert over.low < arm.value / reference.value < over.high


def test_a_ratio_to_what_was_not_found_is_refused():
    totals = np.full((2, 4), 3)
    none, some = table(np.zeros((2, 4)), totals), table(np.eye(2, 4), totals)
    assert ratio(none, some).low == 0
    assert ratio(none, some).high > 1  # two of 24 prove no fall
    assert difference(none, none).low < 0 < difference(none, none).high
    with pytest.raises(ValueError, match="nothing was found"):
        ratio(some, none)


def test_without_an_answer_there_is_no_share():
    assert share_of(np.zeros((2, 2)), np.zeros((2, 2))) is None


@pytest.fixture(scope="module")
def coverage():
    """The benchmark, under a name that no package has."""
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_coverage", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["independent", "clustered"])
@pytest.mark.parametrize("design", [(2, 4, 1), (3, 8, 10)])
def test_intervals_hold_the_truth_as_often_as_they_say(kind, design, coverage):
    found = coverage.measure(
        coverage.Design(*design), coverage.SPREADS[kind], experiments=120, others=False
    )
    assert set(found) == {"rate", "difference", "ratio"}
    for cells in found.values():
        for held, _ in cells.values():
            assert held >= 0.9  # 95 % of 120, less 2.5 standard errors
