"""A second name for a file, with links of each kind and without any."""

import os
from pathlib import Path

import pytest

from geofilter.support.links import stand_in


def refuse(*_: object) -> None:
    raise OSError(1314, "a required privilege is not held by the client")


@pytest.mark.parametrize("missing", [(), ("symlink",), ("symlink", "link")])
def test_the_name_gives_the_content_whatever_links_there_are(
    missing: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "target").write_bytes(b"whole")
    for kind in missing:
        monkeypatch.setattr(os, kind, refuse)
    stand_in(tmp_path / "link", tmp_path / "target")
    assert (tmp_path / "link").read_bytes() == b"whole"
    assert (tmp_path / "link").is_symlink() == (not missing)
