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
    from geofilter.model.loading import load
    from geofilter.packs.discover import discover
    from geofilter.packs.pack import FeaturePack, load_pack
    from geofilter.runs.engines.threads import score_file
    from geofilter.runs.prepare import Settings, prepare
    from geofilter.scoring.table import ScoreTable
    from geofilter.selection.choose import drop_fraction, threshold
    from geofilter.selection.fdr import fdr
    from geofilter.selection.write import write_split

__all__ = [
    "FeaturePack",
    "GeoFilter",
    "GeofilterError",
    "ScoreTable",
    "Settings",
    "discover",
    "drop_fraction",
    "fdr",
    "load",
    "load_pack",
    "open_rows",
    "prepare",
    "score_file",
    "threshold",
    "write_split",
]

_HOME = {
    "GeofilterError": "errors",
    "open_rows": "rows",
    "load": "models",
    "FeaturePack": "pack",
    "load_pack": "pack",
    "discover": "discovery",
    "Settings": "run",
    "prepare": "run",
    "score_file": "engines.local",
    "ScoreTable": "table",
    "drop_fraction": "selection",
    "threshold": "selection",
    "fdr": "conformal",
    "write_split": "split",
    "GeoFilter": "filter",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
