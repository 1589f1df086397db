"""Baselines put rows in the order that their names say."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from geofilter.selection.choose import drop_fraction
from geofilter.verify.arms import (
    keyword_scores,
    label_scores,
    length_matched_scores,
    random_scores,
    ties_at_random,
)


@given(st.integers(40, 400), st.floats(0.1, 0.9), st.integers(0, 5))
def test_a_matched_drop_takes_as_many_of_each_length_as_the_other(
    rows: int, fraction: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 500, rows)
    # The other arm goes by length alone, as badly as an arm can.
    dropped = np.zeros(rows, bool)
    dropped[drop_fraction(lengths.astype(float), fraction).drop] = True
    matched = drop_fraction(length_matched_scores(lengths.tolist(), dropped, seed), fraction).drop
    assert len(matched) == dropped.sum()
    for group in np.array_split(np.argsort(lengths, kind="stable"), 20):
        assert np.isin(matched, group).sum() == dropped[group].sum()


def test_a_matched_drop_is_another_than_the_one_it_is_matched_to() -> None:
    lengths = list(range(1, 201))
    dropped = np.zeros(200, bool)
    dropped[::2] = True
    matched = drop_fraction(length_matched_scores(lengths, dropped, 3), 0.5).drop
    assert 20 < np.isin(matched, np.flatnonzero(dropped)).sum() < 80


def test_random_orders_are_whole_and_follow_the_seed() -> None:
    first = random_scores(50, 1)
    assert sorted(first) == list(range(50))
    assert (first == random_scores(50, 1)).all()
    assert (first != random_scores(50, 2)).any()


def test_keywords_count_as_whole_words_in_any_case() -> None:
    texts = ["You TOAD, you.", "A toadstool grows.", "", "toad? “Toad!” toad's don’t"]
    assert keyword_scores(texts, {"toad", "DON’T"}).tolist() == [1 / 3, 0.0, 0.0, 3 / 4]


def test_labels_come_before_everything_else() -> None:
    labels = [False, True, False, True, False, False]
    assert set(drop_fraction(label_scores(labels, 5), 0.34).drop) == {1, 3}
    assert {1, 3} < set(drop_fraction(label_scores(labels, 5), 0.5).drop.tolist())


@given(
    st.lists(st.sampled_from([0.0, 0.25, -3.0, 1e9]), min_size=1, max_size=60), st.integers(0, 9)
)
def test_breaking_ties_changes_no_order_and_leaves_no_tie(scores: list[float], seed: int) -> None:
    broken = ties_at_random(np.array(scores), seed)
    assert len(set(broken)) == len(scores)
    assert (np.sort(scores) == np.array(scores)[np.argsort(broken)]).all()


def test_equal_rows_are_dropped_wherever_in_the_file_they_stand() -> None:
    dropped = drop_fraction(ties_at_random(np.zeros(400), 3), 0.5).drop
    assert 70 < (dropped < 200).sum() < 130
