"""Parts share no row, whatever the order, and a row stays in its part."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.data.partition import partition
from geofilter.errors import GeofilterError

HALVES = {"benign": 0.5, "reference": 0.5}
texts = st.lists(st.text(max_size=4), max_size=40)


@given(texts, st.integers(0, 5))
def test_every_row_is_in_one_part_and_equal_rows_are_in_the_same(hashes, seed) -> None:
    parts = partition(hashes, {"select": 0.2, "calibrate": 0.3, "test": 0.5}, seed=seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(hashes)))
    assert all(list(rows) == sorted(rows) for rows in parts.values())
    held = [{hashes[row] for row in rows} for rows in parts.values()]
    assert sum(map(len, held)) == len(set(hashes))


@given(texts, texts, st.randoms())
def test_a_row_stays_in_its_part_when_others_come_and_the_order_changes(hashes, more, random):
    together = [*hashes, *more]
    random.shuffle(together)
    before, after = partition(hashes, HALVES), partition(together, HALVES)
    for name in HALVES:
        assert {hashes[row] for row in before[name]} <= {together[row] for row in after[name]}


def test_parts_have_their_shares() -> None:
    parts = partition(map(str, range(20_000)), {"a": 0.7, "b": 0.2, "c": 0.1})
    sizes = [len(rows) / 20_000 for rows in parts.values()]
    assert sizes == pytest.approx([0.7, 0.2, 0.1], abs=0.015)


def test_another_seed_gives_an_independent_partition() -> None:
    names = [str(number) for number in range(20_000)]
    one, other = (set(partition(names, HALVES, seed=seed)["benign"]) for seed in (0, 1))
    assert len(one & other) / 20_000 == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize("shares", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}, {"a": 1.0, "b": 0.0}])
def test_wrong_shares_are_refused(shares) -> None:
    with pytest.raises(GeofilterError, match="not positive numbers that sum to 1; give such as"):
        partition(["row"], shares)
