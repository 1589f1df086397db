"""One call makes a pack from files, as the command does."""

from pathlib import Path

import pytest

from geofilter import discover
from geofilter.errors import OutputError, PackError
from helpers.cli_folder import Geofilter

pytestmark = pytest.mark.slow

FILES = ("toxic.jsonl", "benign.jsonl", "model")


def test_the_call_makes_the_pack_that_the_command_makes(work: Path, geofilter: Geofilter) -> None:
    options = "--falsify --keep-lexical --polite-harm data.jsonl -o command.pack"
    files = "--toxic toxic.jsonl --benign benign.jsonl --model model --sae sae"
    assert geofilter(f"discover {files} {options}").code == 0
    phases = set()
    found = discover(
        *FILES,
        "call.pack",
        sae="sae",
        falsify=True,
        keep_lexical=True,
        polite_harm="data.jsonl",
        progress=lambda phase, done, of: phases.add(phase),
    )
    assert (work / "call.pack").read_bytes() == (work / "command.pack").read_bytes()
    assert found.given.harm is not None
    assert found.given.words is None
    assert phases == {"discover", "falsify"}


def test_without_a_place_for_it_nothing_is_written(work: Path) -> None:
    before = sorted(work.iterdir())
    assert len(discover(*FILES, sae="sae").pack) > 0
    assert sorted(work.iterdir()) == before


def test_what_cannot_be_done_is_said_before_anything_is_loaded(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofilter.packs.discover.load", None)
    with pytest.raises(OutputError, match=r"my\.pack"):
        discover(*FILES, "my.pack", sae="sae")
    with pytest.raises(PackError, match="need --falsify"):
        discover(*FILES, sae="sae", keep_lexical=True)
