"""A pack's repository on the hub: what it is called, and the one file of it that is read."""

import re
from pathlib import Path

from geofilter.errors import PackError
from geofilter.support import hub
from geofilter.support.display import shown

FILE = "pack.safetensors"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?")


def fetch_pack(repo: str, revision: str | None = None) -> Path:
    """The pack's file of a hub repository, in the hub's cache. Raises `ModelError`."""
    check_repository(repo)
    return hub.fetch(repo, FILE, revision=revision)


def check_repository(repo: str) -> None:
    """Raise `PackError` unless `repo` is of the form ORG/NAME."""
    if not is_repository(repo):
        raise PackError(
            f"{shown(repo)!r} is no hub repository; give ORG/NAME, such as my-org/my-pack"
        )


def is_repository(name: str) -> bool:
    """Whether `name` is of the form ORG/NAME."""
    parts = name.split("/")
    return len(parts) == 2 and all(map(_NAME.fullmatch, parts))
