"""The catalogue: every SAE it names exists and reads the block of the model it is named for."""

import json
import re
from pathlib import Path

import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from geofilter.model.catalogue import AXES, CATALOGUE, DEPTH
from geofilter.model.saes import block_of_hook
from geofilter.model.sizes import Architecture

ROOT = Path(__file__).parents[2]
HUB = [entry for entry in CATALOGUE.values() if entry.architecture is not None]
WITH_SAE = [entry for entry in HUB if entry.sae]
LISTED = [entry for entry in WITH_SAE if entry.sae_is_fetched(entry.default_block)]
# What sae-lens calls a model, where it is not the name of its repository.
CALLED = {"gpt2": "gpt2-small"}


def test_the_models_of_the_paper_and_their_neighbours_are_there():
    paper = {"gemma-2-2b", "gemma-2-9b", "gemma-2-27b", "llama-3.1-8b", "gpt-oss-20b"}
    beyond = {"gemma-2-9b-it", "llama-3.1-8b-instruct", "qwen2.5-7b-instruct", "minilm"}
    assert paper | beyond | {"organism"} < set(CATALOGUE)
    assert any(name.startswith("qwen3-") for name in CATALOGUE)
    assert any(name.startswith("gemma-3-") for name in CATALOGUE)


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: entry.name)
def test_every_sae_is_in_the_directory_and_made_for_this_model_and_block(entry):
    directory = get_pretrained_saes_directory()
    for block, place in entry.sae.items():
        release, _, sae_id = place.partition("/")
        listed = directory[release]
        assert sae_id in listed.saes_map, place
        assert listed.model.rpartition("/")[2] == CALLED.get(
            entry.name, entry.model.rpartition("/")[2]
        )
        assert block in map(int, re.findall(r"\d+", listed.saes_map[sae_id]))
        assert re.search(rf"(?:layer_?|^l|^blocks\.){block}(?!\d)", sae_id), place


def test_axes_name_their_block():
    for block, place in CATALOGUE["minilm"].sae.items():
        assert place == f"{AXES}{block}"
        assert block_of_hook(f"blocks.{block}.hook_resid_post") == block


@pytest.mark.parametrize("entry", HUB, ids=lambda entry: entry.name)
def test_a_default_block_is_measured_or_as_near_to_the_rules_depth_as_there_are_saes(entry):
    blocks = entry.architecture.blocks
    assert entry.default_block < blocks
    if entry.block is None:
        distances = {b: abs(b + 1 - DEPTH * blocks) for b in entry.sae or range(blocks)}
        assert distances[entry.default_block] <= min(distances.values()) + 0.5


@pytest.mark.parametrize(
    "entry", [e for e in CATALOGUE.values() if e.evidence], ids=lambda entry: entry.name
)
def test_the_evidence_of_a_default_is_in_the_results_that_it_names(entry):
    found = entry.evidence
    assert found.low <= found.auroc <= found.high
    text = (ROOT / found.file).read_text(encoding="utf-8")
    for figure in (found.auroc, found.low, found.high):
        assert str(figure) in text


def test_the_organisms_default_is_the_best_of_its_selection_split():
    results = ROOT / "benchmarks" / "results"
    scores = json.loads((results / "organism_scores.json").read_text())["models"]["base"]
    pushes = json.loads((results / "organism_spillover.json").read_text())["areas"]
    found = {
        (scorer, int(block)): area["all"][0]
        for block, splits in scores.items()
        for scorer, area in splits["selection"].items()
    }
    for block in range(4):
        areas = pushes[f"base, block {block}"]["selection"]["dense, all, cosine"]
        found["spillover", block] = areas["all"][0]
    entry = CATALOGUE["organism"]
    assert max(found, key=found.get) == (entry.scorer, entry.default_block)
    assert entry.evidence.low >= 0.90


@pytest.mark.parametrize("entry", WITH_SAE, ids=lambda entry: entry.name)
def test_default_blocks_have_an_sae_and_are_not_the_only_ones(entry):
    assert entry.default_block in entry.sae
    assert max(entry.sae) < entry.architecture.blocks
    assert len(entry.sae) > 1


# What the hub says of whole checkpoints, in bytes, norms and biases left out.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gemma-2-2b", 2.614e9),
        ("gemma-2-9b", 9.242e9),
        ("gemma-2-27b", 27.227e9),
        ("gemma-3-1b-it", 1.000e9),
        ("llama-3.1-8b", 8.030e9),
        ("qwen2.5-7b-instruct", 7.616e9),
        ("qwen3-8b-base", 8.191e9),
        ("gpt-oss-20b", 20.915e9),
        ("minilm", 22.7e6),
        ("smollm2-135m", 134.5e6),
        ("gpt2", 123.7e6),
        ("pythia-70m", 70.4e6),
        ("pythia-160m", 162.3e6),
        ("pythia-410m", 405.3e6),
        ("gemma-3-270m", 268.1e6),
        ("llama-3.2-1b-instruct", 1.236e9),
        ("qwen2.5-0.5b-instruct", 0.494e9),
        ("qwen2.5-1.5b-instruct", 1.544e9),
        ("qwen3.5-2b-base", 1.88e9),
        ("gemma-3-27b-it", 27.0e9),
    ],
)
def test_the_sum_over_all_blocks_is_the_models_published_size(name, parameters):
    architecture = CATALOGUE[name].architecture
    head = 0 if architecture.tied else architecture.embedding()
    total = architecture.parameters(architecture.blocks - 1) + head
    assert total == pytest.approx(parameters, rel=0.02)


# What the hub says of the one file of weights, in bytes.
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gpt2", 548_105_171),
        ("pythia-70m", 166e6),
        ("pythia-160m", 375e6),
        ("pythia-410m", 911e6),
        ("smollm2-135m", 269_060_552),
        ("gemma-3-270m", 536e6),
        ("gemma-3-1b-it", 2.00e9),
        ("llama-3.2-1b-instruct", 2.47e9),
        ("qwen2.5-0.5b-instruct", 988_097_824),
        ("qwen2.5-1.5b-instruct", 3_087_467_144),
        ("qwen3.5-2b-base", 4.55e9),
        ("minilm", 90.9e6),
    ],
)
def test_one_file_is_as_large_as_published_with_masks_and_towers_in_it(name, size):
    architecture = CATALOGUE[name].architecture
    assert not architecture.sharded
    assert architecture.download_bytes(0) == pytest.approx(size, rel=0.02)


def test_packed_experts_are_counted_packed_on_disk_and_unpacked_in_memory():
    entry = CATALOGUE["gpt-oss-20b"]
    whole = entry.architecture.download_bytes(entry.architecture.blocks - 1)
    assert whole == pytest.approx(13.76e9, rel=0.02)
    assert entry.memory_bytes() > entry.download_bytes()


def test_downloads_are_whole_files_and_never_more_than_there_is():
    small = Architecture(1000, 10, 4000, 10, 10, 100, 10_000, stored=2)
    assert small.download_bytes(0) == small.download_bytes(9) == small.stored_bytes(9)
    large = CATALOGUE["gemma-2-9b"].architecture
    assert large.stored_bytes(13) <= large.download_bytes(13) < large.stored_bytes(41)
    assert large.download_bytes(13) % 5_000_000_000 == 0
    one_file = CATALOGUE["gemma-3-1b-it"].architecture
    assert one_file.download_bytes(0) == one_file.stored_bytes(25)


def test_the_table_is_readable_and_the_json_complete(geofilter):
    table = geofilter("models")
    assert table.code == 0
    assert max(map(len, table.out.splitlines())) <= 100
    assert "gemma-2-2b*" in table.out
    listed = {each["name"]: each for each in json.loads(geofilter("models --json").out)}
    assert list(listed) == list(CATALOGUE)
    for name, entry in CATALOGUE.items():
        assert listed[name]["sae"] == {str(block): place for block, place in entry.sae.items()}
        assert listed[name]["memory_bytes"] > 0
        assert listed[name]["download_bytes"] > 0


def test_what_an_encoder_cannot_see_is_said_where_it_is_chosen(geofilter):
    assert "not subtly bad advice" in geofilter("models").out
