"""Very short responses are named where they are chosen more than others, and only there."""

import numpy as np
import pytest

from geofilter.selection.short import short_note

LENGTHS = np.array([3] * 10 + [200] * 90)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (range(20), "10 of the 20 rows chosen have fewer than 10 response tokens, against 10%"),
        (range(8, 100, 4), None),  # as often as among all
        (range(6, 20), None),  # too few to say
        ([], None),
    ],
)
def test_only_short_rows_that_are_chosen_more_than_others_are_warned_of(chosen, said):
    marked = np.isin(np.arange(len(LENGTHS)), list(chosen))
    note = short_note(LENGTHS, marked)
    assert (note is None) == (said is None)
    if said is not None:
        assert note.startswith("warning: ")
        assert said in note


def test_where_all_responses_are_short_nothing_is_said():
    assert short_note(np.full(100, 3), np.arange(100) < 50) is None
