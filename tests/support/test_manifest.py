"""Manifests tell runs with other numbers apart, and name why."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.support.display import escape
from geofilter.support.manifest import Manifest, difference, library_versions

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(), below, max_size=3),
    max_leaves=8,
)
arguments = st.dictionaries(st.text(), values, max_size=5)


@given(arguments, arguments)
def test_json_gives_the_manifest_back(decides: dict[str, object], facts: dict[str, object]) -> None:
    manifest = Manifest(decides, facts)
    again = Manifest.from_json(manifest.to_json())
    assert again == manifest
    assert again.hash == manifest.hash
    assert manifest.to_json().isascii()
    assert "\n" not in manifest.to_json()


@given(arguments, arguments)
def test_difference_is_empty_exactly_when_the_hashes_are_equal(
    left: dict[str, object], right: dict[str, object]
) -> None:
    a, b = Manifest(left), Manifest(right)
    assert (difference(a, b) == []) == (a.hash == b.hash)
    assert difference(a, a) == []


@given(arguments, arguments)
def test_difference_is_short_visible_lines(
    left: dict[str, object], right: dict[str, object]
) -> None:
    for entry in difference(Manifest(left), Manifest(right)):
        assert entry == escape(entry, limit=None)
        assert len(entry) < 1200


def test_difference_names_the_nested_key_and_both_values() -> None:
    before = Manifest({"model": "m", "scorer": {"name": "nearest", "pool": "mean"}})
    now = Manifest({"model": "m", "scorer": {"name": "activation", "pool": "mean"}, "pack": None})
    assert difference(before, now) == [
        "pack: absent before, null now",
        'scorer.name: "nearest" before, "activation" now',
    ]


def test_difference_shows_the_place_where_long_values_part() -> None:
    [entry] = difference(Manifest({"k": "x" * 500 + "A"}), Manifest({"k": "x" * 500 + "B"}))
    assert 'A" before' in entry
    assert 'B" now' in entry
    assert len(entry) < 120


def test_difference_counts_what_it_does_not_name() -> None:
    old, new = Manifest(dict.fromkeys("abcde", 1)), Manifest(dict.fromkeys("abcde", 2))
    assert difference(old, new, limit=2)[2:] == ["and 3 more"]


def test_true_and_one_are_told_apart() -> None:
    assert difference(Manifest({"last_turn": 1}), Manifest({"last_turn": True})) != []


def test_facts_and_the_order_of_keys_do_not_decide() -> None:
    left = Manifest({"a": 1, "b": (1, 2)}, {"started": "now"})
    right = Manifest({"b": [1, 2], "a": 1}, {"started": "later"})
    assert left.hash == right.hash
    assert difference(left, right) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_has_not_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Manifest({"a": value})


def test_values_that_json_has_not_are_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Manifest({"a": object()})


_NOT_MANIFESTS = ["", "[]", "{}", "nul", '{"decides":1,"facts":1,"hash":1}', "[" * 10**5]


@pytest.mark.parametrize("text", _NOT_MANIFESTS)
def test_foreign_text_is_no_manifest(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Manifest.from_json(text)


def test_changed_manifest_does_not_fit_its_hash() -> None:
    text = Manifest({"model": "gemma"}).to_json().replace("gemma", "llama")
    with pytest.raises(ValueError, match="own hash"):
        Manifest.from_json(text)


def test_absent_library_has_no_version() -> None:
    versions = library_versions(["numpy", "no-such-distribution-at-all"])
    assert versions["numpy"] is not None
    assert versions["no-such-distribution-at-all"] is None
