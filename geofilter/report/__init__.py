"""The report: one HTML file about a scored data set, for people who look rather than read.

`contents.gather` gathers what it says, `write` writes it. It opens without a network and
holds no script; rows are hostile, and in it they are text and nothing else.
"""

import os
from typing import TYPE_CHECKING

from geofilter.support.atomic import writing

if TYPE_CHECKING:
    from geofilter.report.contents import Contents


def write(contents: "Contents", path: str | os.PathLike[str]) -> int:
    """Write the page to `path`, whole or not at all, and return its size in bytes.

    Raises `OutputError` when `path` exists or cannot be written.
    """
    from geofilter.report.page import render

    size = 0
    with writing(path) as handle:
        for piece in render(contents):
            size += handle.write(piece.encode("utf-8"))
    return size
