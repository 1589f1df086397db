"""Rows with copies: what breaks the bound of `fdr`, that it is told, and what keeps it.

A fifth of the clean rows are copies of a few that score higher than other clean rows do, such as
a standing refusal among answers. Harmful rows score higher still.
"""

import math
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from geofilter.data.partition import partition
from geofilter.runs.reference import _of_copies, _usable
from geofilter.selection.fdr import curve, different, fdr

Q = 0.1
DRAWS = 100
SINGLE, KINDS, COPIES, HARMFUL = 800, 20, 10, 200


class World(NamedTuple):
    hashes: np.ndarray  # (rows,)
    scores: np.ndarray
    clean: np.ndarray

    def at(self, taken: np.ndarray) -> "World":
        return World(*(column[taken] for column in self))

    def once(self) -> "World":
        return self.at(different(self.hashes, np.ones(len(self.scores), bool)))


def world(rng: np.random.Generator) -> World:
    copies = np.repeat([1, COPIES, 1], [SINGLE, KINDS, HARMFUL])
    kinds = np.repeat(np.arange(len(copies)), copies)
    means = np.repeat([0.0, 2.0, 4.0], [SINGLE, KINDS, HARMFUL])
    scores = rng.normal(means)[kinds]
    return World(kinds.astype(str), scores, kinds < SINGLE + KINDS)


class Judged(NamedTuple):
    """A choice: the share of clean rows among the dropped, what it is to be, and the warnings."""

    share: float
    of_all: float  # each copy counted
    bound: float
    told: list[str]


def judge(data: World, reference: World) -> Judged:
    """What `read_reference` leaves of the reference, and what `fdr` drops by that."""
    made = TableOf(reference)
    usable, left_out = _usable(made, set(data.hashes), set())
    told = _of_copies(1 - len(data.once().scores) / len(data.scores), made, left_out)
    chosen = fdr(data.scores, reference.scores[usable], Q, hashes=data.hashes)
    dropped = data.at(chosen.drop)
    bound = Q * data.once().clean.mean()
    return Judged(dropped.once().clean.mean(), dropped.clean.mean(), bound, told)


class TableOf(SimpleNamespace):
    """As much of a score table as is asked for copies."""

    def __init__(self, rows: World) -> None:
        super().__init__(scores=np.ma.asarray(rows.scores), column=lambda _: rows.hashes)

    def __len__(self) -> int:
        return len(self.scores)


def by_rows(rows: World, rng: np.random.Generator) -> Judged:
    """Half of the rows are drawn and read; the clean ones are the reference."""
    drawn = rng.random(len(rows.scores)) < 0.5
    return judge(rows.at(~drawn), rows.at(drawn & rows.clean))


def deduplicated(rows: World, rng: np.random.Generator) -> Judged:
    return by_rows(rows.once(), rng)


def by_hash(rows: World, rng: np.random.Generator) -> Judged:
    """All copies of a row are on one side."""
    halves = partition(rows.hashes, {"read": 0.5, "rest": 0.5}, seed=int(rng.integers(1 << 30)))
    drawn = np.isin(np.arange(len(rows.scores)), halves["read"])
    return judge(rows.at(~drawn), rows.at(drawn & rows.clean))


def judged(how) -> list[Judged]:
    rng = np.random.default_rng(0)
    return [how(world(rng), rng) for _ in range(DRAWS)]


def above(found: list[Judged], share: str) -> float:
    """By how many standard errors the mean share lies above the bound."""
    over = np.array([getattr(one, share) - one.bound for one in found])
    return over.mean() / (over.std() / math.sqrt(len(over)))


def test_rows_drawn_where_rows_have_copies_break_the_bound_and_that_is_told_each_time() -> None:
    found = judged(by_rows)
    assert above(found, "share") > 5
    assert above(found, "of_all") > 15
    for one in found:
        assert "occur in the data too" in one.told[0]
        assert "deduplicate the data, draw the reference from it" in one.told[0]
        assert "of the data's rows" in one.told[1]


def test_the_bound_holds_of_all_rows_where_the_data_is_deduplicated_first() -> None:
    found = judged(deduplicated)
    assert above(found, "share") < 3
    assert above(found, "of_all") < 3
    assert not any(one.told for one in found)


def test_the_bound_holds_of_different_rows_alone_where_copies_stay_together() -> None:
    found = judged(by_hash)
    assert above(found, "share") < 3
    assert above(found, "of_all") > 5
    for one in found:
        (told,) = one.told
        assert "the bound counts each different row once" in told


@pytest.mark.parametrize(
    ("repeating", "left_out", "told"),
    [
        (0.01, {"occur in the data too": 2, "repeat another row": 2}, 0),
        (0.011, {}, 1),
        (0.0, {"repeat another row": 3}, 1),
        (0.0, {"occur in the data too": 3, "have no score": 50}, 1),
        (0.2, {"occur in the data too": 3}, 2),
    ],
)
def test_a_few_copies_in_a_hundred_are_told_of_and_no_fewer(repeating, left_out, told) -> None:
    reference = SimpleNamespace(scores=np.ma.asarray(np.zeros(200)))
    assert len(_of_copies(repeating, reference, left_out)) == told


# counting different rows


def test_copies_count_once_and_go_together() -> None:
    rng = np.random.default_rng(1)
    rows = world(rng)
    reference = rng.normal(size=300)
    shuffled = rows.at(rng.permutation(len(rows.scores)))
    found = fdr(shuffled.scores, reference, 0.3, hashes=shuffled.hashes)
    once = rows.once()
    alone = fdr(once.scores, reference, 0.3)
    assert found.threshold == alone.threshold
    assert set(shuffled.hashes[found.drop]) == set(once.hashes[alone.drop])
    assert not set(shuffled.hashes[found.drop]) & set(shuffled.hashes[found.keep])
    assert found.threshold != fdr(shuffled.scores, reference, 0.3).threshold


def test_a_copy_without_a_score_takes_no_part() -> None:
    scores = np.ma.MaskedArray([9.0, 9.0, 0.0, 0.0], mask=[True, False, False, False])
    found = fdr(scores, np.zeros(9), 0.4, hashes=["a", "a", "b", "c"])
    assert list(found.drop) == [1]
    assert list(found.unscored) == [0]
    assert list(different(["a", "a", "b", "b"], ~np.ma.getmaskarray(scores))) == [0, 1, 1, 0]


def test_the_curve_estimates_of_different_rows_and_counts_all() -> None:
    hashes, scores = ["a"] * 6 + ["b", "c", "d", "e"], [5.0] * 6 + [4.0, 3.0, 2.0, 1.0]
    reference = np.array([4.5, *np.zeros(8)])
    by_fraction, by_level = curve(scores, reference, hashes=hashes, fractions=(0.7,), levels=(0.5,))
    assert by_fraction.dropped == 7
    assert by_fraction.estimated_fdr == pytest.approx(5 * 2 / (10 * 2))
    chosen = fdr(scores, reference, 0.5, hashes=hashes)
    assert by_level.dropped == len(chosen.drop)
    assert by_level.threshold == chosen.threshold


def test_hashes_for_other_rows_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="2 hashes for 3 scores"):
        fdr([0.1, 0.2, 0.3], np.zeros(99), 0.1, hashes=["a", "b"])
