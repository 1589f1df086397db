"""Where results may go: never over what the command reads."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from geofilter.data.formats.places import Data, Name
from geofilter.data.formats.standard_output import STDOUT
from geofilter.data.formats.streams import PARQUET_SUFFIXES, split_suffix
from geofilter.data.formats.text_files import SUFFIXES
from geofilter.errors import OutputError
from geofilter.support.atomic import check_output
from geofilter.support.display import shown


def check_outputs(
    outputs: Iterable[Name | None], inputs: Iterable[Data | None], *, overwrite: bool
) -> None:
    """Refuse outputs that cannot be written, and those over a file that is read.

    `inputs` may be files, patterns and folders of rows. What is no name of any is passed over here:
    reading it says so. Raises `OutputError`.
    """
    names = [name for data in inputs for name in _names(data)]
    read = {os.path.realpath(one) for name in names for one in (name, *glob.glob(name))}
    for output in outputs:
        if output is None or output == STDOUT:
            continue
        path = os.path.realpath(check_output(output, overwrite=overwrite))
        if path in read or (os.path.dirname(path) in read and _is_of_rows(path)):
            raise OutputError(f"{shown(output)}: is read by this command; choose another output")


def _names(data: object) -> list[str]:
    several = data if isinstance(data, list | tuple) else (data,)
    return [os.fspath(name) for name in several if isinstance(name, str | os.PathLike)]


def _is_of_rows(path: str) -> bool:
    """Whether a folder that is named would be read with this file in it."""
    return split_suffix(Path(path))[0] in {*SUFFIXES, *PARQUET_SUFFIXES} and os.path.isfile(path)
