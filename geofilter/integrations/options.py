"""Options by name, as the configuration files of other people's pipelines hold them."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from geofilter.errors import GeofilterError
from geofilter.settings import Settings
from geofilter.support.display import quote


def settings_and(own: Sequence[str], options: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """The settings among `options`, and those of the names in `own`; what is None counts as absent.

    Raises `GeofilterError` for another name, and without a model.
    """
    fields = [field.name for field in dataclasses.fields(Settings)]
    known = (*fields, *own)
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"choose from {', '.join(known)}"
            raise GeofilterError(f"geofilter has no option {quote(name)}; {meant}")
    given = {name: value for name, value in options.items() if value is not None}
    if not given.get("model"):
        raise GeofilterError("geofilter needs a model: the one that is about to be trained")
    made = Settings(**{name: given[name] for name in fields if name in given})
    return made, {name: given[name] for name in own if name in given}
