"""What `--contrast` takes: names, places on the hub, and files."""

import json

import pytest

from geofilter.errors import DataError
from geofilter.model.catalogue import CATALOGUE
from geofilter.packs import named
from geofilter.packs.default_pack import pack_inputs
from geofilter.packs.named import identity


def test_what_decides_the_rows_is_known_without_fetching_them(tmp_path, monkeypatch):
    monkeypatch.setattr(named, "open_rows", None)
    places = ("pairs", "rtp", "hf://org/name", "hf://org/other", "hf://org/name@main")
    known = [json.dumps(identity(name)) for name in places]
    assert len(set(known)) == len(known)
    assert identity("hf://org/name") == identity("hf://datasets/org/name")


def test_a_name_on_the_hub_is_read_from_there(monkeypatch):
    asked = []
    monkeypatch.setattr(named, "read_pairs", lambda *place, **most: asked.append((place, most)))
    named.read_named("hf://org/name#test", "encoder")
    assert asked == [(("hf://datasets/org/name#test", "encoder"), {"most": 1000})]


def test_a_set_that_cannot_be_fetched_names_what_needs_no_network(monkeypatch):
    def fail(*_, **__):
        raise DataError("org/name: gone")

    monkeypatch.setattr(named, "read_pairs", fail)
    with pytest.raises(DataError, match="org/name: gone; --contrast pairs needs no network"):
        named.read_named("hf://org/name", "encoder")


def test_models_take_pairs_but_those_with_sets_of_their_own():
    shipped = identity("pairs")
    taken = {name: pack_inputs(entry)["contrast"] for name, entry in CATALOGUE.items()}
    others = {name for name, contrast in taken.items() if contrast != shipped}
    assert others == {"organism"}
    assert pack_inputs(None)["contrast"] == shipped
    assert pack_inputs(CATALOGUE["organism"], "pairs")["contrast"] == shipped
