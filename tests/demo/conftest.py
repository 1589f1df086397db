"""The acts share a cache, so that the organism's pack is made once."""

import pytest


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))
