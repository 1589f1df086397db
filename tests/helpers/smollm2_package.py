"""Whether the package that holds SmolLM2 is installed, for tests that need its file."""

from importlib import metadata

import pytest

from geofilter.model.catalogue import CATALOGUE

SHIPPED = CATALOGUE["smollm2-135m"].packaged
assert SHIPPED is not None


def _is_installed() -> bool:
    try:
        return bool(metadata.distribution(SHIPPED.package))
    except metadata.PackageNotFoundError:
        return False


needs_smollm2 = pytest.mark.skipif(not _is_installed(), reason=f"pip install {SHIPPED.requirement}")
