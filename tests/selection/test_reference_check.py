"""A reference of another kind is doubted, and one of the same kind seldom is."""

import numpy as np
import pytest
from scipy import stats

from geofilter.selection.reference_check import Difference, clean_share, compare


def rows(rng: np.random.Generator, count: int, *, shift: float = 0.0, length: float = 40.0):
    return {
        "score": np.ma.asarray(rng.normal(shift, 1, count)),
        "n_tokens": np.ma.asarray(rng.poisson(length, count)),
    }


def joined(*parts):
    return {name: np.ma.concatenate([part[name] for part in parts]) for name in parts[0]}


def doubted(data, reference) -> set[str]:
    return {one.measure for one in compare(data, reference) if one.doubtful}


def test_harmful_rows_that_score_high_raise_no_doubt_whatever_their_length() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = joined(rows(rng, 500), rows(rng, 500, shift=4, length=90))
        assert not doubted(data, rows(rng, 500))


def test_a_reference_of_other_lengths_is_doubted_for_its_lengths() -> None:
    rng = np.random.default_rng(0)
    assert doubted(rows(rng, 500), rows(rng, 500, length=60)) == {"n_tokens"}


def test_a_reference_of_somewhat_lower_scores_is_doubted_for_its_scores() -> None:
    rng = np.random.default_rng(0)
    assert "score" in doubted(rows(rng, 6000), rows(rng, 6000, shift=-1))


def test_a_reference_of_far_lower_scores_makes_most_of_the_data_harmful() -> None:
    rng = np.random.default_rng(0)
    implied = clean_share(rows(rng, 500)["score"], rows(rng, 500, shift=-2)["score"])
    assert implied.doubtful
    assert implied.estimate < implied.at_most < 0.3


@pytest.mark.parametrize("harmful", [0, 100, 300])
def test_the_clean_share_is_found_and_seldom_above_its_bound(harmful) -> None:
    rng = np.random.default_rng(0)
    truth, found = 1 - harmful / 500, []
    for _ in range(300):
        scores = np.concatenate([rng.normal(size=500 - harmful), rng.normal(4, 1, harmful)])
        found.append(clean_share(scores, rng.normal(size=500)))
    assert np.mean([one.estimate for one in found]) == pytest.approx(truth, abs=0.04)
    assert np.mean([one.at_most < truth for one in found]) <= 0.01
    assert not any(one.doubtful for one in found) or truth < 0.5


def test_of_nothing_everything_may_be_clean() -> None:
    nothing = np.ma.masked_all(4)
    for data, reference in ((nothing, [0.1]), ([0.1], nothing), ([0.1], [0.2, 0.2])):
        assert clean_share(data, reference).at_most == 1


def test_a_small_reference_hides_much() -> None:
    rng = np.random.default_rng(0)
    assert not doubted(rows(rng, 500), rows(rng, 10, length=60))


def test_what_is_shown_is_below_the_true_difference_nearly_always() -> None:
    """The bound of `at_least`: of the same kind, so that any positive value is false."""
    rng = np.random.default_rng(0)
    false = [
        any(one.at_least > 0 for one in compare(rows(rng, 60), rows(rng, 60))) for _ in range(1000)
    ]
    assert np.mean(false) <= 0.01


def test_the_distance_is_that_of_kolmogorov_and_smirnov_below_the_median() -> None:
    rng = np.random.default_rng(0)
    data, reference = rows(rng, 70, shift=0.5), rows(rng, 51)
    median = np.median(np.asarray(reference["score"]))
    for found in compare(data, reference):
        low = [side[found.measure][side["score"] < median] for side in (data, reference)]
        assert found.distance == pytest.approx(stats.ks_2samp(*low).statistic)


def test_rows_without_a_score_and_measures_without_a_value_take_no_part() -> None:
    rng = np.random.default_rng(0)
    data, reference = rows(rng, 100), rows(rng, 100)
    plain = compare(data, reference)
    unscored = {
        "score": np.ma.masked_all(50),
        "n_tokens": np.ma.asarray(np.zeros(50, dtype=int)),
    }
    assert compare(joined(data, unscored), joined(reference, unscored)) == plain
    nothing = {"explained_variance": np.ma.masked_all(100)}
    assert compare(data | nothing, reference | nothing) == plain


@pytest.mark.parametrize("empty", ["data", "reference"])
def test_nothing_is_compared_with_nothing(empty) -> None:
    rng = np.random.default_rng(0)
    sides = {"data": rows(rng, 9), "reference": rows(rng, 9)}
    sides[empty] = {"score": np.ma.masked_all(9)}
    assert compare(**sides) == []


def test_equal_scores_have_no_row_below_their_median() -> None:
    equal = {"score": np.ma.asarray(np.ones(9))}
    assert compare(equal, equal) == []


def test_a_doubt_needs_more_than_the_tolerated_share() -> None:
    assert not Difference("score", 0.5, 0.1).doubtful
    assert Difference("score", 0.5, 0.11).doubtful
