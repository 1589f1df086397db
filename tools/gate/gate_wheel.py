"""Builds the wheel of `geofilter-gate` from geofilter's own tree, with setuptools.

`pip install ./tools/gate` and `python -m build --wheel tools/gate` call it. The package lies two
folders up, where setuptools does not look, so that it is copied next to this folder's metadata
first, without weights. Its sources are those of geofilter: there is no sdist of its own.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from setuptools import build_meta

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Data that no check without a model reads.
_LEFT_OUT = ("__pycache__", "weights", "smollm2", "data")


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return []


def build_wheel(
    wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None
) -> str:
    """Build the wheel into `wheel_directory`; its name."""
    target = os.path.abspath(wheel_directory)
    with tree():
        return build_meta.build_wheel(target)


@contextmanager
def tree() -> Iterator[None]:
    """Work in a folder that holds the package, its license and the metadata of the gate."""
    before = Path.cwd()
    with TemporaryDirectory(prefix="geofilter-gate-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "geofilter", folder / "geofilter", ignore=_ignored)
        for file in (ROOT / "LICENSE", HERE / "README.md", HERE / "pyproject.toml"):
            shutil.copy(file, folder)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def _ignored(folder: str, names: list[str]) -> set[str]:
    """What is not copied from `folder`; the package `geofilter.data` is code."""
    top = Path(folder) == ROOT / "geofilter"
    return {name for name in names if name in _LEFT_OUT and not (top and name == "data")}
