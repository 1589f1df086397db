"""A plugin for axolotl: the files of `datasets` are screened before axolotl reads them.

plugins:
  - geofilter.integrations.axolotl.GeoFilterPlugin
geofilter:
  drop_fraction: 0.2
"""

import logging
import os
from pathlib import Path
from typing import Any

from axolotl.integrations.base import BasePlugin
from pydantic import BaseModel

from geofilter.errors import GeofilterError
from geofilter.integrations.kept_file import kept_file

_FOLDER = "geofilter-kept"
_LOG = logging.getLogger(__name__)


class GeoFilterArgs(BaseModel):
    """The key that the plugin adds to axolotl's configuration; see `GeoFilterPlugin`."""

    geofilter: dict[str, Any] | None = None


class GeoFilterPlugin(BasePlugin):
    """Puts the file of the kept rows in the place of each file of `datasets`.

    The key `geofilter` of the configuration holds `drop_fraction`, `threshold` or `fdr` with
    `reference`; fields of `Settings`, by default the configuration's `base_model` as `model`; how
    rows are read (`layout`, `columns`); and `folder`, where kept rows and scores go, by default
    `geofilter-kept`. Run `axolotl preprocess` first where several processes train.

    Raises `GeofilterError` for a data set that is no file here, since it would be trained on as
    it is, and what `screen` raises.
    """

    def get_input_args(self) -> str:
        """Where axolotl finds the keys that the plugin adds."""
        return f"{__name__}.{GeoFilterArgs.__name__}"

    def register(self, cfg: Any) -> None:
        """Screen the files that the configuration names; it is not yet validated."""
        options = dict(cfg.get("geofilter") or {})
        folder = Path(options.pop("folder", _FOLDER))
        options.setdefault("model", cfg.get("base_model"))
        kept: dict[Path, str] = {}
        for entry in cfg.get("datasets") or ():
            place = str(entry.get("path"))
            path = folder / os.path.basename(place)
            if kept.setdefault(path, place) != place:
                raise GeofilterError(f"{place}: has the name of {kept[path]}; rename one")
            if path.resolve() == Path(place).resolve():
                raise GeofilterError(f"{place}: lies in the folder of kept rows; name another")
            _LOG.info("geofilter: %s: %s → %s", place, kept_file(place, path, options), path)
            entry["path"] = str(path)
