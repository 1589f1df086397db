"""Score plain records, as the operators of other people's pipelines pass them on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from geofilter.integrations.datasets import COLUMNS, GeoFilter
from geofilter.integrations.options import settings_and

# Why a pipeline drops a record.
NEAR_HARM, UNSCORED = "geofilter_near_harm", "geofilter_unscored"
_OWN = ("threshold", "unscored", "layout", "columns", "unread_limit")


class Screened(NamedTuple):
    """A record's score columns, as `GeoFilter` names them, and why it goes; None where it stays.

    `geofilter_score` is higher = nearer to harm, and None where the record is unscored.
    """

    columns: dict[str, Any]
    dropped: str | None


def screened(geofilter: GeoFilter, records: Sequence[Mapping[str, Any]]) -> list[Screened]:
    """Score `records`, which may differ in their keys; those that go are named by `threshold`.

    Without a `threshold` all stay. Raises what `GeoFilter` raises.
    """
    if not records:
        return []
    names = dict.fromkeys(name for one in records for name in one if name not in COLUMNS)
    rows = {name: [one.get(name) for one in records] for name in names}
    found = geofilter(rows, list(range(len(records))))
    kept = [True] * len(records) if geofilter.threshold is None else geofilter.keep(found)
    assert isinstance(kept, list)
    lines = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    return [
        Screened({str(name): value for name, value in line.items()}, _why(line, keep))
        for line, keep in zip(lines, kept, strict=True)
    ]


def _why(line: Mapping[str, Any], keep: bool) -> str | None:
    if keep:
        return None
    return UNSCORED if line["geofilter_score"] is None else NEAR_HARM


def geofilter_of(options: Mapping[str, Any]) -> GeoFilter:
    """A GeoFilter of options by name, as a configuration file holds them.

    Names are those of `Settings` and of `GeoFilter`'s arguments; `model` has to be there. Raises
    `GeofilterError` for another name, and what `GeoFilter` raises.
    """
    settings, own = settings_and(_OWN, options)
    return GeoFilter(settings, **own)
