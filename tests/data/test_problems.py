"""Why a row has no score travels between processes."""

import pickle

from geofilter.data.problems import Problem, Unscorable


def test_an_unscorable_row_survives_pickling() -> None:
    error = Unscorable(Problem("empty", "the response holds no token of its own"))
    again = pickle.loads(pickle.dumps(error))
    assert again.problem == error.problem
    assert str(again) == str(error) == "empty: the response holds no token of its own"
