"""Where a default pack comes from: the package, then the cache, then the contrast sets."""

from dataclasses import replace

import pytest

from geofilter.errors import OutputError
from geofilter.model import loading
from geofilter.packs import default_pack
from geofilter.packs.default_pack import SHIPPED, DefaultPack, save_default_pack
from geofilter.packs.pack import load_pack
from helpers.smollm2_package import needs_smollm2
from helpers.tiny_models import tiny_model, tiny_setting


@pytest.fixture
def setting(tmp_path, monkeypatch):
    monkeypatch.setattr(default_pack, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped").mkdir()
    return tiny_setting()


def test_a_pack_that_ships_is_read_before_one_in_the_cache(setting):
    model, pack = setting
    default = DefaultPack(model)
    assert default.cached() is None
    default.path.parent.mkdir(parents=True, exist_ok=True)
    pack.save(default.path)
    other = replace(pack, model_name="ships")
    other.save(default.shipped)
    assert default.cached().model_name == "ships"


def test_a_damaged_pack_that_ships_gives_way_to_the_cache(setting):
    model, pack = setting
    default = DefaultPack(model)
    default.shipped.write_bytes(b"cut off")
    default.path.parent.mkdir(parents=True, exist_ok=True)
    pack.save(default.path)
    assert default.cached().digest == pack.digest


def test_what_decides_a_pack_changes_the_name_of_one_that_ships(setting, monkeypatch):
    model, _ = setting
    first = DefaultPack(model).shipped
    assert DefaultPack(model).shipped == first
    names = {first, DefaultPack(model, "rtp").shipped}
    names.add(DefaultPack(tiny_model(sae=None)).shipped)
    monkeypatch.setattr(default_pack, "VERSION", default_pack.VERSION + 1)
    names.add(DefaultPack(model).shipped)
    assert len(names) == 4


def test_versions_of_libraries_decide_only_the_name_in_the_cache(setting, monkeypatch):
    model, _ = setting
    before = DefaultPack(model)
    monkeypatch.setattr(default_pack, "library_versions", lambda _: {"torch": "another"})
    after = DefaultPack(model)
    assert (before.shipped, before.path != after.path) == (after.shipped, True)


def test_the_pack_that_a_run_takes_is_written_to_a_file_and_over_none(
    setting, tmp_path, monkeypatch
):
    model, pack = setting
    pack.save(DefaultPack(model).shipped)
    monkeypatch.setattr(default_pack, "load", lambda *_, **__: model)
    place = tmp_path / "toxic.pack"
    save_default_pack("tiny", place)
    assert load_pack(place).digest == pack.digest
    assert place.read_bytes() == DefaultPack(model).shipped.read_bytes()
    with pytest.raises(OutputError, match=r"toxic\.pack"):
        save_default_pack("tiny", place)


@pytest.mark.slow
@needs_smollm2
def test_smollm2_has_the_pack_that_ships():
    """Where this fails the pack has to be made again: see `tools/default_packs.py`."""
    default = DefaultPack(loading.load("smollm2-135m"))
    assert [default.shipped] == list(SHIPPED.glob("smollm2-135m-*.pack"))
    pack = load_pack(default.shipped)
    assert pack.digest == default.cached().digest
    assert pack.provenance["paired"]
