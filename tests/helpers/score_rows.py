"""Score rows and a manifest made by hand: shared by the tests of the table and its parts."""

import pytest

from geofilter.errors import GeofilterError
from geofilter.scoring.table import FeatureShare, ScoreRow
from geofilter.support.manifest import Manifest

MANIFEST = Manifest({"data": "d" * 64, "scorer": {"name": "nearest"}}, {"started": "then"})


def unscored_row(row: int, status: str = "empty", reason: str = "nothing there") -> ScoreRow:
    return ScoreRow(row, f"{row:032x}", None, status, reason, 0)


def scored_row(row: int, score: float) -> ScoreRow:
    return ScoreRow(
        row, f"{row:032x}", score, "scored", None, 3, 7, 0.5, (FeatureShare(7, 1.0, 0.5),)
    )


def one_line(error: pytest.ExceptionInfo[GeofilterError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert ";" in message, "no remedy"
    return message
