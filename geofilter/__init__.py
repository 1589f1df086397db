"""Find the rows of a fine-tuning data set that lie nearest to a model's toxic features.

The names below are the reader's vocabulary, in the order of the data flow. Each is
imported when it is first used, so that `import geofilter` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geofilter.data.rows import open_rows
    from geofilter.errors import GeofilterError
    from geofilter.integrations.datasets import GeoFilter
    from geofilter.packs.discover import discover
    from geofilter.packs.pack import FeaturePack, load_pack
    from geofilter.runs.filter import filter_rows
    from geofilter.runs.rescore import rescore
    from geofilter.runs.score import score
    from geofilter.scoring.table import ScoreTable
    from geofilter.selection.choose import drop_fraction, threshold
    from geofilter.selection.fdr import fdr
    from geofilter.settings import Settings

__all__ = [
    "FeaturePack",
    "GeoFilter",
    "GeofilterError",
    "ScoreTable",
    "Settings",
    "discover",
    "drop_fraction",
    "fdr",
    "filter_rows",
    "load_pack",
    "open_rows",
    "rescore",
    "score",
    "threshold",
]

# The module below geofilter that each name comes from.
_MODULES = {
    "GeofilterError": "errors",
    "Settings": "settings",
    "open_rows": "data.rows",
    "discover": "packs.discover",
    "FeaturePack": "packs.pack",
    "load_pack": "packs.pack",
    "score": "runs.score",
    "rescore": "runs.rescore",
    "filter_rows": "runs.filter",
    "ScoreTable": "scoring.table",
    "drop_fraction": "selection.choose",
    "threshold": "selection.choose",
    "fdr": "selection.fdr",
    "GeoFilter": "integrations.datasets",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
