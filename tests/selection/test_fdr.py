"""The p-values, the rule and the bound are what the papers say; ties and masked rows too."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

import geofilter
from geofilter.errors import GeofilterError
from geofilter.selection.fdr import (
    curve,
    fdr,
    reference_needed,
    require_reference,
    smallest_drop,
)

pytestmark = pytest.mark.slow

# Few distinct values, so that ties are common, within the data and with the reference.
values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75, 2.0]) | st.floats(-1, 1, width=32)
score_lists = st.lists(st.none() | values, max_size=25)
references = st.lists(values, min_size=1, max_size=40)
levels = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.5, 0.9])


def masked(scores: list[float | None]) -> np.ma.MaskedArray:
    return np.ma.MaskedArray(
        np.array([9.0 if score is None else score for score in scores], dtype=np.float32),
        mask=[score is None for score in scores],
    )


def naive_p_values(scores: list[float | None], reference: list[float]) -> list[Fraction | None]:
    return [
        None
        if score is None
        else Fraction(1 + sum(one >= score for one in reference), len(reference) + 1)
        for score in scores
    ]


def naive_step_up(scores: list[float | None], reference: list[float], q: Fraction) -> list[int]:
    """Benjamini and Hochberg by their own words: the greatest k with p_(k) <= q k / m."""
    known = [(p, i) for i, p in enumerate(naive_p_values(scores, reference)) if p is not None]
    known.sort()
    passing = [k for k, (p, _) in enumerate(known, 1) if p <= q * k / len(known)]
    return sorted(i for _, i in known[: max(passing, default=0)])


def enough(reference: list[float], q: float) -> None:
    assume(len(reference) >= reference_needed(q, 1.0))


@given(score_lists, references, levels)
def test_what_is_dropped_is_what_benjamini_and_hochberg_reject(scores, reference, q) -> None:
    enough(reference, q)
    chosen = fdr(masked(scores), reference, q)
    assert list(chosen.drop) == naive_step_up(scores, reference, Fraction(str(q)))
    assert sorted([*chosen.keep, *chosen.drop]) == list(range(len(scores)))


@given(score_lists, references, levels)
def test_what_is_dropped_is_what_scipy_rejects(scores, reference, q) -> None:
    enough(reference, q)
    found = [float(p) for p in naive_p_values(scores, reference) if p is not None]
    assume(found)
    adjusted = stats.false_discovery_control(found, method="bh")
    # Scipy compares floats; at the very boundary only whole numbers can tell.
    assume(not np.isclose(adjusted, q, rtol=1e-9).any())
    scored = np.flatnonzero([score is not None for score in scores])
    assert list(fdr(masked(scores), reference, q).drop) == list(scored[adjusted <= q])


@given(score_lists, references)
def test_a_higher_level_drops_no_row_less(scores, reference) -> None:
    dropped = [
        set(fdr(masked(scores), reference, q).drop)
        for q in (0.05, 0.1, 0.2, 0.5, 0.9)
        if len(reference) >= reference_needed(q, 1.0)
    ]
    assert all(few <= many for few, many in pairwise(dropped))


@given(score_lists, references, levels)
def test_the_threshold_parts_the_scores_and_ties_go_together(scores, reference, q) -> None:
    enough(reference, q)
    data = masked(scores)
    chosen = fdr(data, reference, q)
    assert chosen.n_tied_kept == 0
    if chosen.threshold is None:
        assert len(chosen.drop) == 0
        return
    assert chosen.threshold == data[chosen.drop].min()
    assert (data[chosen.keep].compressed() < chosen.threshold).all()


@given(score_lists, references, levels)
def test_unscored_rows_take_no_part_and_go_where_they_are_sent(scores, reference, q) -> None:
    enough(reference, q)
    known = [score for score in scores if score is not None]
    alone = fdr(np.array(known, np.float32), reference, q)
    for where in ("keep", "drop"):
        chosen = fdr(masked(scores), reference, q, unscored=where)
        missing = [i for i, score in enumerate(scores) if score is None]
        assert list(chosen.unscored) == missing
        assert set(missing) <= set(getattr(chosen, where))
        assert chosen.threshold == alone.threshold


@given(references, levels, st.integers(0, 5))
def test_masked_reference_rows_count_for_nothing(reference, q, n_masked) -> None:
    enough(reference, q)
    scores = np.linspace(-1, 3, 20)
    with_masked = masked([*reference, *[None] * n_masked])
    assert fdr(scores, with_masked, q).threshold == fdr(scores, reference, q).threshold


@given(score_lists, references, levels)
def test_the_smallest_drop_is_the_smallest(scores, reference, q) -> None:
    enough(reference, q)
    chosen = fdr(masked(scores), reference, q)
    fewest = smallest_drop(chosen.n_scored, len(reference), q)
    assert len(chosen.drop) == 0 or len(chosen.drop) >= fewest
    if 1 <= fewest <= chosen.n_scored:
        # So many rows beyond all of the reference go, and one fewer does not.
        for n_far in (fewest, fewest - 1):
            far = [5.0] * n_far + [-5.0] * (chosen.n_scored - n_far)
            dropped = len(fdr(np.array(far), reference, q).drop)
            assert (dropped >= n_far > 0) if n_far == fewest else dropped in (0, chosen.n_scored)


@pytest.mark.parametrize(
    ("q", "share", "rows"), [(0.05, 1.0, 19), (0.1, 1.0, 9), (0.1, 0.01, 999), (0.3, 1.0, 3)]
)
def test_the_rows_needed_are_exactly_those_that_let_so_few_go(q, share, rows) -> None:
    assert reference_needed(q, share) == rows
    far = round(1000 * share)
    scores = np.array([5.0] * far + [-5.0] * (1000 - far))
    assert len(fdr(scores, np.zeros(rows), q).drop) == far
    if share == 1.0:
        require_reference(rows, q)
        with pytest.raises(GeofilterError, match=f"{rows - 1} usable rows is too small.*{rows} "):
            fdr(scores, np.zeros(rows - 1), q)
    else:
        assert len(fdr(scores, np.zeros(rows - 1), q).drop) == 0


def test_the_level_counts_as_the_decimal_that_was_written() -> None:
    # p = 1/10 and q k / m = 0.3 * 1 / 3: equal, though not in binary.
    assert 0.3 * 1 / 3 < 1 / 10
    assert list(fdr([1.0, -1.0, -1.0], np.zeros(9), 0.3).drop) == [0]
    assert len(fdr([1.0, -1.0, -1.0], np.zeros(9), 0.2999999).drop) == 0


@pytest.mark.parametrize("q", [0.0, 1.0, -0.1, 5.0, math.nan, math.inf])
def test_a_level_outside_0_to_1_is_refused(q: float) -> None:
    for use in (lambda: fdr([0.1], np.zeros(99), q), lambda: reference_needed(q, 1.0)):
        with pytest.raises(GeofilterError, match="is not between 0 and 1"):
            use()


def test_nan_is_not_taken_for_unscored() -> None:
    with pytest.raises(ValueError, match="reference: NaN"):
        fdr([0.1], [math.nan] * 99, 0.1)
    with pytest.raises(ValueError, match="scores: NaN"):
        fdr([math.nan], np.zeros(99), 0.1)
    with pytest.raises(ValueError, match="one number for each row"):
        fdr([0.1], np.zeros((9, 9)), 0.1)


def test_no_rows_and_no_scored_rows_drop_nothing() -> None:
    for scores in (np.empty(0, np.float32), masked([None, None])):
        chosen = fdr(scores, np.zeros(99), 0.1)
        assert (len(chosen.drop), chosen.threshold) == (0, None)


def test_the_name_that_the_package_exports_is_the_function() -> None:
    assert geofilter.fdr is fdr


# the curve


@given(score_lists, references)
def test_the_curve_shows_what_each_choice_drops(scores, reference) -> None:
    data = masked(scores)
    points = curve(data, reference, fractions=(0.1, 0.5, 1.0), levels=(0.2, 0.5))
    for point in points[:3]:
        chosen = geofilter.drop_fraction(data, point.drop_fraction)
        assert (point.dropped, point.threshold) == (len(chosen.drop), chosen.threshold)
    for point in points[3:]:
        chosen_rows = naive_step_up(scores, reference, Fraction(str(point.fdr)))
        assert point.dropped == len(chosen_rows)
        assert point.estimated_fdr is None or point.estimated_fdr <= point.fdr + 1e-12
    for point in points:
        assert (point.estimated_fdr is None) == (point.dropped == 0)
        assert point.share == (point.dropped / data.count() if data.count() else 0)


def test_the_estimate_counts_the_reference_above_the_threshold() -> None:
    scores, reference = np.arange(10.0), np.arange(0.5, 20.5)
    (point,) = curve(scores, reference, fractions=(0.3,), levels=())
    assert point.threshold == 7.0
    assert point.estimated_fdr == 1.0  # 10 * (1 + 13) / (21 * 3), which is above 1
    (point,) = curve(scores, -reference, fractions=(0.3,), levels=())
    assert point.estimated_fdr == pytest.approx(10 * 1 / (21 * 3))


def test_without_a_reference_the_curve_has_fractions_and_no_estimate() -> None:
    points = curve(np.arange(100.0))
    assert all(point.fdr is None and point.estimated_fdr is None for point in points)
    assert [point.dropped for point in points] == [round(p.drop_fraction * 100) for p in points]


# the bound


def simulate(draws: int, n: int, clean: int, harmful: int, q: float, *, ties: bool) -> np.ndarray:
    """Shares of clean rows among the dropped; harmful rows score 3 standard deviations higher."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(draws):
        scores = rng.normal(size=n + clean + harmful)
        scores[n + clean :] += 3
        if ties:
            scores = np.round(scores)
        dropped = fdr(scores[n:], scores[:n], q).drop
        shares.append((dropped < clean).mean() if len(dropped) else 0.0)
    return np.array(shares)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("clean", "harmful"), [(100, 0), (90, 10), (50, 50)])
@pytest.mark.parametrize("n", [30, 200])
def test_the_mean_share_of_clean_rows_stays_below_the_level(n, clean, harmful, ties) -> None:
    q = 0.2
    shares = simulate(1500, n, clean, harmful, q, ties=ties)
    bound = q * clean / (clean + harmful)
    error = shares.std() / math.sqrt(len(shares))
    assert shares.mean() <= bound + 3 * error
    if not ties and harmful == 50:  # and it is no empty promise: it comes near
        assert shares.mean() > bound / 2


def test_copies_that_have_nothing_to_do_with_scores_do_not_break_the_bound() -> None:
    """Others do, which is why equal rows count once: see `test_reference_copies`."""
    rng = np.random.default_rng(0)
    times = rng.integers(1, 30, size=40)  # fixed before any score is known
    shares = []
    for _ in range(1500):
        scores = rng.normal(size=100 + 40)
        shares.append(len(fdr(np.repeat(scores[100:], times), scores[:100], 0.2).drop) > 0)
    assert np.mean(shares) <= 0.2 + 3 * np.std(shares) / math.sqrt(len(shares))


def test_repeated_reference_rows_would_break_the_bound() -> None:
    """Why a reference is taken with each row once."""
    rng = np.random.default_rng(0)
    any_dropped = []
    for _ in range(500):
        clean, data = rng.normal(size=30), rng.normal(size=100)
        any_dropped.append(len(fdr(data, np.repeat(clean, 20), 0.2).drop) > 0)
    assert np.mean(any_dropped) > 0.5
