"""Every arm takes the same steps and the same response tokens, whatever it kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.verify.training.recipe import Budget, budget_of, schedule

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 12), st.integers(0, 3))
def test_an_epoch_of_all_rows_sees_each_row_once(lengths: list[int], batch: int, seed: int) -> None:
    budget = budget_of(lengths, batch=batch)
    steps = schedule(lengths, budget, seed=seed)
    assert budget.tokens == sum(lengths)
    assert len(steps) == budget.steps == -(-len(lengths) // batch)
    # A step takes one sample at least, so that late steps may begin a second round.
    seen = [place for step in steps for place in step]
    assert set(seen[: len(lengths)]) == set(range(len(lengths)))


@given(LENGTHS, LENGTHS, st.integers(1, 40), st.integers(0, 3))
def test_two_arms_differ_by_less_than_a_sample(
    mine: list[int], others: list[int], steps: int, seed: int
) -> None:
    # Enough tokens that no step has to take a sample that is not due.
    budget = Budget(steps, 60 * steps)
    for lengths in (mine, others):
        done = schedule(lengths, budget, seed=seed)
        assert len(done) == steps
        assert all(done)
        tokens = sum(lengths[place] for step in done for place in step)
        assert budget.tokens <= tokens < budget.tokens + max(lengths)


@given(LENGTHS, st.integers(1, 20))
def test_no_row_comes_again_before_all_came(lengths: list[int], steps: int) -> None:
    done = schedule(lengths, Budget(steps, 20 * steps), seed=1)
    seen = [place for step in done for place in step]
    for start in range(0, len(seen), len(lengths)):
        part = seen[start : start + len(lengths)]
        assert len(set(part)) == len(part)


def test_a_number_of_steps_takes_the_place_of_epochs() -> None:
    assert budget_of([10, 20, 30], batch=4, steps=6) == Budget(6, 24 * 20)
    assert budget_of([10, 20, 30], batch=2, epochs=1.5) == Budget(3, round(60 * 5 / 3))


def test_seeds_order_rows_differently_and_alike() -> None:
    lengths = list(range(1, 40))
    budget = budget_of(lengths, batch=8)
    assert schedule(lengths, budget, seed=1) == schedule(lengths, budget, seed=1)
    assert schedule(lengths, budget, seed=1) != schedule(lengths, budget, seed=2)


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        budget_of([], batch=4)
