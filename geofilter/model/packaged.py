"""Find a model that a Python package ships, by the package's list of files.

The package is never imported: nothing of it runs.
"""

from importlib import metadata
from pathlib import Path

from geofilter.errors import ModelError
from geofilter.model.catalogue import Packaged
from geofilter.support.display import escape


def installed(model: Packaged) -> Path | None:
    """The file of an installed package; None where the package is not installed.

    Raises `ModelError` where it is installed and its file is not there.
    """
    try:
        package = metadata.distribution(model.package)
    except metadata.PackageNotFoundError:
        return None
    for listed in package.files or ():
        if listed.as_posix() == model.file and (path := Path(str(listed.locate()))).is_file():
            return path
    raise ModelError(
        f"the package {model.package} {escape(package.version)} lacks its file {model.file}; "
        f"install it again: pip install --force-reinstall {model.requirement}"
    )


def version(model: Packaged) -> str:
    """The version of the package that is installed."""
    return metadata.version(model.package)
