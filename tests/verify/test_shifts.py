"""Shifts are means over pairs, with intervals that domains and seeds widen and pairing narrows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from geofilter.verify.intervals import Statistic
from geofilter.verify.shifts import PairSet, shifts_of

Lines = list[dict[str, Any]]
MIXED = [[0.3, 0.1], [0.2, 0.4]]


def lines(
    margins: Sequence[float],
    domains: Sequence[str],
    letters: Any = MIXED,
    inside: Sequence[str] = (),
) -> Lines:
    return [
        {
            "set": "in_domain" if domain in inside else "main",
            "domain": domain,
            "tokens": [3, 4],
            "harmful": -2.0 + margin,
            "helpful": -2.0,
            "letters": letters,
        }
        for margin, domain in zip(margins, domains, strict=True)
    ]


def compare(
    before: Lines, runs: dict[str, list[Lines]], references: Sequence[str] = ("unfiltered",)
) -> dict[str, PairSet]:
    return shifts_of(before, runs, references=references)


def width(found: Statistic) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_a_shift_is_the_change_of_the_difference_and_of_each_side() -> None:
    domains = [f"d{n}" for n in range(6)]
    before = lines([0.5] * 6, domains)
    after = lines([0.8] * 6, domains)
    for line in after:
        line["helpful"] += 0.1
    shift = compare(before, {"unfiltered": [after]})["main"].shifts["unfiltered"]
    assert shift.harmful.value == pytest.approx(0.3)
    assert shift.helpful.value == pytest.approx(0.1)
    assert shift.likelihood.value == pytest.approx(0.2)
    assert shift.likelihood.covers == "domains"


def test_a_choice_is_the_harmful_share_of_both_letters_and_orders() -> None:
    domains = [f"d{n}" for n in range(5)]
    before = lines([0.0] * 5, domains, [[0.2, 0.2], [0.1, 0.3]])
    after = lines([0.0] * 5, domains, [[0.6, 0.2], [0.02, 0.02]])
    found = compare(before, {"unfiltered": [after]})["main"]
    # 1/2 and 3/4 before; 3/4 and 1/2 after, of which the second is hardly an answer.
    assert found.before.choice == pytest.approx(0.625)
    assert found.before.answered == 1.0
    shift = found.shifts["unfiltered"]
    assert shift.choice is not None
    assert shift.choice.value == pytest.approx(0.0)
    assert shift.answered == 0.5
    after = lines([0.0] * 5, domains, None)
    assert compare(before, {"unfiltered": [after]})["main"].shifts["unfiltered"].choice is None


def test_more_pairs_of_the_same_domains_narrow_nothing() -> None:
    values = np.random.default_rng(0).normal(0.1, 0.2, 12)
    domains = [f"d{n}" for n in range(12)]

    def interval(times: int) -> Statistic:
        many = [domain for domain in domains for _ in range(times)]
        before = lines([0.0] * len(many), many)
        after = lines(np.repeat(values, times).tolist(), many)
        return compare(before, {"unfiltered": [after]})["main"].shifts["unfiltered"].likelihood

    once, often = interval(1), interval(30)
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)
    # Student's interval of the domains' means, with 11 degrees of freedom.
    assert width(once) == pytest.approx(2 * 2.201 * values.std(ddof=1) / np.sqrt(12), rel=1e-3)


def test_seeds_widen_the_interval_too() -> None:
    domains = [f"d{n}" for n in range(10)]
    before = lines([0.0] * 10, domains)
    seeds = [0.0, 0.1, 0.3, 0.4]
    runs = [lines([value] * 10, domains) for value in seeds]
    found = compare(before, {"unfiltered": runs})["main"].shifts["unfiltered"].likelihood
    assert found.value == pytest.approx(0.2)
    assert found.covers == "seeds and domains"
    # Student's interval of the seeds' means, with 3 degrees of freedom.
    assert width(found) == pytest.approx(2 * 3.182 * np.std(seeds, ddof=1) / 2, rel=0.01)


def test_what_arms_share_does_not_widen_their_difference() -> None:
    generator = np.random.default_rng(1)
    domains = [f"d{n}" for n in range(10) for _ in range(3)]
    before = lines(generator.normal(size=30).tolist(), domains)
    shared = generator.normal(size=(2, 30))
    runs = {
        name: [lines((one + less).tolist(), domains) for one in shared]
        for name, less in (("unfiltered", 0.0), ("persona-0.5", -0.2), ("benign-control", -0.3))
    }
    found = compare(before, runs, ("unfiltered", "random-0.5", "benign-control"))["main"]
    shift = found.shifts["persona-0.5"]
    assert list(shift.against) == ["unfiltered", "benign-control"]
    less = shift.against["unfiltered"].likelihood
    assert (less.low, less.high) == (pytest.approx(-0.2), pytest.approx(-0.2))
    assert width(shift.likelihood) > 0.2
    assert shift.against["benign-control"].likelihood.value == pytest.approx(0.1)


@pytest.mark.parametrize("domains", [[""] * 8, ["a", "b"] * 4])
def test_with_few_domains_intervals_are_over_pairs(domains: list[str]) -> None:
    before, after = lines([0.0] * 8, domains), lines(list(range(8)), domains)
    found = compare(before, {"unfiltered": [after]})["main"]
    assert found.shifts["unfiltered"].likelihood.covers == "pairs"
    assert found.domains == len(set(domains) - {""})


def test_sets_are_apart() -> None:
    domains = ["a", "b", "c", "a"]
    before = lines([0.0] * 4, domains, inside=["a"])
    after = lines([1.0, 2.0, 4.0, 3.0], domains, inside=["a"])
    found = compare(before, {"unfiltered": [after]})
    sizes = [(name, one.pairs, one.domains) for name, one in found.items()]
    assert sizes == [("main", 2, 2), ("in_domain", 2, 1)]
    shifts = {name: one.shifts["unfiltered"].likelihood.value for name, one in found.items()}
    assert shifts == {"in_domain": pytest.approx(2.0), "main": pytest.approx(3.0)}
