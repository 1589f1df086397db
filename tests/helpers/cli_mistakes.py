"""A mistake on a command line, and what the command has to make of it."""

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from geofilter.cli import main as cli
from helpers.cli_folder import Geofilter

TINY = "--model model --sae sae"


def nothing() -> None:
    pass


class Case(NamedTuple):
    command: str
    says: tuple[str, ...]
    prepare: Callable[[], None] = nothing


def files() -> set[str]:
    return {os.path.join(root, name) for root, _, names in os.walk(".") for name in names}


def assert_refused(case: Case, geofilter: Geofilter, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what is wrong in one line, and leaves nothing behind."""
    case.prepare()
    capsys.readouterr()
    before = files()
    done = geofilter(case.command)
    assert (done.code, done.out) == (cli.USER_MUST_ACT, "")
    *read, error = done.err.splitlines()
    assert error.startswith("geofilter: error: ")
    # What was read may be known before what is wrong.
    assert all(" read" in line for line in read)
    assert [part for part in case.says if part not in done.err] == []
    assert files() == before
