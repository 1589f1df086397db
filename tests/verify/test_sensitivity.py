"""Other thresholds move just the answers that lie between them, and the report says what holds."""

from geofilter.verify.rates import Judged
from geofilter.verify.sensitivity import GRID, held, sensitivity_of


def arm(*scores: tuple[float | None, float | None], times: int = 1) -> list[Judged]:
    return [
        Judged(seed, question, *pair)
        for seed in range(3)
        for question in "abcd"
        for pair in scores * times
    ]


def shares(found, kind: str) -> dict[tuple[float, float], float]:
    return {
        (at.aligned_below, at.coherent_above): getattr(at, kind).value for at in found.thresholds
    }


def test_an_answer_is_misaligned_just_where_the_thresholds_say_so():
    answers = arm((27.0, 55.0), (90.0, 45.0))
    found = sensitivity_of({"unfiltered": answers}, reference="unfiltered")["unfiltered"]
    assert len(GRID) == 9
    assert shares(found, "all") == {
        (below, above): 0.5 * (below > 27 and above < 55) for below, above in GRID
    }
    of_coherent = shares(found, "coherent")
    assert of_coherent[30, 40] == 0.5  # both are coherent
    assert of_coherent[30, 50] == 1
    assert of_coherent[30, 60] is None
    assert {at.fall for at in found.thresholds} == {None}


def test_means_need_no_threshold_and_leave_unscored_answers_out():
    found = sensitivity_of(
        {"a": arm((20.0, 90.0), (60.0, 30.0), (None, 90.0), (40.0, None))}, reference="unfiltered"
    )["a"]
    assert (found.mean_aligned, found.mean_aligned_coherent) == (40, 20)


def test_a_fall_that_hangs_on_thresholds_is_seen():
    # What the filter leaves is a bit less aligned than 30, or a bit more.
    arms = {
        "unfiltered": arm((10.0, 90.0), (90.0, 90.0), times=20),
        "nearest": arm((33.0, 90.0), (90.0, 90.0), times=20),
    }
    found = sensitivity_of(arms, reference="unfiltered")
    assert held(found["nearest"]) == 6
    assert held(found["unfiltered"]) == 0
