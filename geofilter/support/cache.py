"""Where geofilter keeps what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/geofilter`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable says to ignore a relative path.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "geofilter"
