"""Screen a trainer's own data file, and say where the kept rows are: `screen` from a configuration.

The score table is kept, so that a second start reads the scores of the first.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geofilter.errors import GeofilterError
from geofilter.integrations.options import settings_and
from geofilter.runs.screen import screen
from geofilter.support.display import shown

_CHOICE = ("drop_fraction", "threshold", "fdr", "reference", "unscored")
_READING = ("layout", "columns", "workers", "on_error", "unread_limit")


def kept_file(data: str | os.PathLike[str], kept: Path, options: Mapping[str, Any]) -> str:
    """Write the rows of `data` that stay to `kept`; returns how many stay of how many.

    `options` by name, as a configuration holds them: fields of `Settings`, with `model`, and
    arguments of `screen`; one of `drop_fraction`, `threshold` and `fdr` has to be there. The
    score table goes next to `kept`, and the folder is made. Raises `GeofilterError` for `data`
    that is no file, for an option of another name, and what `screen` raises.
    """
    if not os.path.isfile(data):
        raise GeofilterError(
            f"{shown(data)}: is no file here; download the data set, and name its file"
        )
    settings, own = settings_and((*_CHOICE, *_READING), options)
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = screen(
        os.fspath(data),
        settings,
        kept,
        scores=f"{kept}.scores.parquet",
        overwrite=True,
        **own,
    )
    chosen = done.filtered.selection
    return f"{len(chosen.keep):,} of {chosen.n_rows:,} rows kept"
