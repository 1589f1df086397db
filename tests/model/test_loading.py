"""Loading: what fits together is loaded, all else is refused in one line that helps."""

import json
import shutil

import numpy as np
import pytest
import torch

from geofilter.errors import ModelError
from geofilter.model import loading, saes
from geofilter.model.catalogue import block_at_depth
from geofilter.model.chosen import find_device, find_dtype
from geofilter.model.loading import CatalogueEntry, find_blocks, load
from helpers.tiny_models import (
    BLOCKS,
    CONFIGS,
    CONTEXT,
    D_MODEL,
    D_SAE,
    SAES,
    save_model,
    save_sae,
    tiny_network,
    tiny_sae,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "llama")
    save_sae(folder / "sae")
    return folder


@pytest.fixture
def copy(folders, tmp_path):
    """A model and an SAE of the test's own, to damage."""
    shutil.copytree(folders, tmp_path / "copy")
    return tmp_path / "copy"


def refusal(*arguments, **options):
    with pytest.raises(ModelError) as caught:
        load(*map(str, arguments), **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_model_folder_and_an_sae_folder_load(architecture, tmp_path):
    model = load(save_model(tmp_path / "model", architecture), sae=save_sae(tmp_path / "sae"))
    assert (model.block, model.d_model, model.d_sae) == (1, D_MODEL, D_SAE)
    assert model.max_context == CONTEXT
    assert model.causal
    assert model.tokenizer("w1 w2")["input_ids"] == [5, 6]
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert not model.network.training


@pytest.mark.parametrize("kind", SAES)
def test_latents_of_a_loaded_sae_are_those_of_the_saved_one(kind, tmp_path):
    loaded = saes.load_sae(save_sae(tmp_path, kind), "cpu")
    hidden = torch.randn(50, D_MODEL, generator=torch.Generator().manual_seed(0))
    assert torch.equal(loaded.encode(hidden), tiny_sae(kind).encode(hidden))


@pytest.mark.parametrize("kind", SAES[:-1])
def test_decoder_times_latents_is_the_reconstruction_without_its_bias(kind):
    sae = tiny_sae(kind)
    latents = sae.encode(torch.randn(20, D_MODEL, generator=torch.Generator().manual_seed(0)))
    expected = sae.decode(latents) - sae.b_dec
    np.testing.assert_allclose(latents @ saes.decoder(sae), expected, atol=1e-5)


def test_a_catalogue_name_brings_its_sae_and_contrast_sets(folders, monkeypatch):
    entry = CatalogueEntry(
        name="tiny",
        model=str(folders / "llama"),
        sae={1: str(folders / "sae"), 3: "elsewhere/block-3"},
        block=1,
        toxic="toxic.jsonl",
        benign="benign.jsonl",
        note="",
    )
    monkeypatch.setitem(loading.CATALOGUE, "tiny", entry)
    model = load("tiny")
    assert (model.name, model.block, model.entry) == ("tiny", 1, entry)
    on_disk = sum(file.stat().st_size for file in folders.rglob("*") if file.is_file())
    assert entry.download_bytes() == entry.memory_bytes() == on_disk
    assert "has no SAE for block 2; blocks with one: 1, 3" in refusal("tiny", block=2)


def test_catalogue_paths_point_into_the_package_where_they_exist_there():
    entry = loading.CATALOGUE["organism"]
    assert entry.path("errors.py").endswith("geofilter/errors.py")
    assert entry.path("google/gemma-2-9b") == "google/gemma-2-9b"


def test_an_unknown_name_shows_near_matches():
    message = refusal("organsm")
    assert "did you mean organism?" in message
    assert "known: organism" in message


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c"])
def test_a_missing_folder_is_called_one(name):
    assert "no such folder" in refusal(name, sae="x/y")


def test_a_folder_without_a_model(tmp_path):
    assert "is no model: it holds no config.json" in refusal(tmp_path, sae="x/y")


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "is a file; give the folder" in refusal(tmp_path / "model.safetensors", sae="x/y")


@pytest.mark.parametrize(("sae", "block"), [(None, None), ("none", None), ("none", 2)])
def test_a_model_that_no_sae_is_known_for_is_read_without_one(folders, sae, block):
    model = loading.load(str(folders / "llama"), sae=sae, block=block)
    assert (model.sae, model.sae_name, model.d_sae) == (None, "none", 0)
    assert (model.fingerprint["sae"], model.fingerprint["block"]) == ("none", str(block or 1))
    assert len(find_blocks(model.network).blocks) == model.block + 1
    assert model.decoder.shape == (0, model.d_model)
    deeper = loading.at_block(loading.load(str(folders / "llama"), whole=True), 3)
    assert (deeper.block, deeper.sae) == (3, None)


def test_a_block_that_the_model_lacks_is_named(folders):
    said = refusal(folders / "llama", block=4)
    assert "has blocks 0 to 3, and no block 4; choose one of them with --block" in said


@pytest.mark.parametrize(("blocks", "block"), [(1, 0), (2, 0), (4, 1), (12, 5), (30, 14), (42, 20)])
def test_without_an_sae_half_of_the_blocks_have_run(blocks, block):
    assert block_at_depth(blocks) == block


def test_pickled_weights_are_refused_unread(copy):
    (copy / "llama/model.safetensors").unlink()
    (copy / "llama/pytorch_model.bin").write_bytes(b"not even a pickle")
    message = refusal(copy / "llama", sae=str(copy / "sae"))
    assert "pickled (pytorch_model.bin)" in message


def test_a_folder_without_weights(copy):
    (copy / "llama/model.safetensors").unlink()
    assert "holds no weights" in refusal(copy / "llama", sae=str(copy / "sae"))


@pytest.mark.parametrize("part", ["llama/model.safetensors", "sae/sae_weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 100, 10_000])
def test_truncated_weights_are_called_damaged(copy, part, keep):
    content = (copy / part).read_bytes()
    assert keep < len(content)
    (copy / part).write_bytes(content[:keep])
    message = refusal(copy / "llama", sae=str(copy / "sae"))
    assert "is damaged or no safetensors file" in message
    assert part.split("/")[1] in message


@pytest.mark.parametrize("tensor", ["layers.1.mlp.up_proj.weight", "embed_tokens.weight"])
def test_weights_that_lack_tensors_are_not_filled_with_random_numbers(copy, tensor):
    from safetensors.torch import load_file, save_file

    path = copy / "llama/model.safetensors"
    tensors = load_file(path)
    del tensors[f"model.{tensor}"]
    save_file(tensors, path, metadata={"format": "pt"})
    for whole in (False, True):
        message = refusal(copy / "llama", sae=str(copy / "sae"), whole=whole)
        assert f"lack 1 tensors (model.{tensor}" in message


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "no-such-thing"}'])
def test_a_broken_config_is_one_line(copy, content):
    (copy / "llama/config.json").write_text(content)
    assert "cannot be loaded" in refusal(copy / "llama", sae=str(copy / "sae"))


def test_remote_code_is_refused_unless_allowed(copy):
    config = json.loads((copy / "llama/config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (copy / "llama/config.json").write_text(json.dumps(config))
    (copy / "llama/own.py").write_text("raise SystemExit('this code ran')")
    message = refusal(copy / "llama", sae=str(copy / "sae"))
    assert "runs code of its own, which is not allowed" in message


def test_a_folder_without_an_sae(folders, tmp_path):
    assert "holds no cfg.json" in refusal(folders / "llama", sae=str(tmp_path))


def test_an_unknown_sae_release(folders):
    assert "is no sae-lens release" in refusal(folders / "llama", sae="nowhere/at-all")
    assert "no such folder" in refusal(folders / "llama", sae="nowhere")


def test_an_unknown_sae_id_names_the_valid_ones(folders):
    message = refusal(folders / "llama", sae="gpt2-small-res-jb/blocks.99.hook_resid_pre")
    assert "blocks.0.hook_resid_pre" in message


def rewrite_sae(copy, metadata=(), **settings):
    path = copy / "sae/cfg.json"
    config = json.loads(path.read_text()) | settings
    config["metadata"] = {**config["metadata"], **dict(metadata)}
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("hook_name", "block"),
    [
        ("blocks.2.hook_resid_post", 2),
        ("blocks.2.hook_out", 2),
        ("blocks.3.hook_resid_pre", 2),
        ("blocks.3.hook_in", 2),
        ("model.layers.2", 2),
        ("transformer.h.2", 2),
        ("gpt_neox.layers.2", 2),
    ],
)
def test_hook_points_of_the_residual_stream_name_a_block(copy, hook_name, block):
    rewrite_sae(copy, {"hook_name": hook_name})
    assert load(str(copy / "llama"), sae=str(copy / "sae")).block == block


@pytest.mark.parametrize(
    "hook_name",
    [
        "blocks.1.hook_mlp_out",
        "blocks.1.attn.hook_z",
        "blocks.1.hook_resid_mid",
        "blocks.0.hook_resid_pre",
        "hook_embed",
        "model.layers.1.mlp",
        "blocks.1.hook_resid_post\x1b[2J",
    ],
)
def test_other_hook_points_are_refused_by_name(copy, hook_name):
    rewrite_sae(copy, {"hook_name": hook_name})
    message = refusal(copy / "llama", sae=str(copy / "sae"))
    assert hook_name.split("\x1b")[0] in message
    assert "\x1b" not in message


def test_an_sae_that_does_not_say_what_it_reads_is_refused(copy):
    rewrite_sae(copy, {"hook_name": None})
    assert "does not say which activations" in refusal(copy / "llama", sae=str(copy / "sae"))


def test_another_block_than_the_sae_reads_is_refused(folders):
    message = refusal(folders / "llama", sae=str(folders / "sae"), block=2)
    assert "reads block 1, not block 2" in message


def test_a_block_that_the_model_does_not_have_is_refused(copy):
    rewrite_sae(copy, {"hook_name": f"blocks.{BLOCKS}.hook_resid_post"})
    assert "has blocks 0 to 3" in refusal(copy / "llama", sae=str(copy / "sae"))


def test_an_sae_of_another_width_is_refused(folders, tmp_path):
    message = refusal(folders / "llama", sae=save_sae(tmp_path / "wide", d_in=48))
    assert "reads 48 dimensions" in message
    assert "has 32" in message


@pytest.mark.parametrize("name", ["expected_average_only_in", "covariance_whitening"])
def test_normalisation_that_needs_an_absent_constant_is_refused_by_name(copy, name):
    rewrite_sae(copy, normalize_activations=name)
    assert name in refusal(copy / "llama", sae=str(copy / "sae"))


@pytest.mark.parametrize("name", ["transcoder", "matching_pursuit", "temporal", "abstopk"])
def test_architectures_whose_latents_mean_something_else_are_refused(copy, name):
    rewrite_sae(copy, architecture=name)
    message = refusal(copy / "llama", sae=str(copy / "sae"))
    assert f"architecture '{name}' cannot be used; these can: standard" in message


@pytest.mark.parametrize("content", ["{", "[]", "", '{"d_in": 32}'])
def test_a_broken_sae_config_is_one_line(copy, content):
    (copy / "sae/cfg.json").write_text(content)
    assert "SAE" in refusal(copy / "llama", sae=str(copy / "sae"))


def test_signed_latents_are_refused_by_name():
    from sae_lens import SAE

    sae = SAE.from_dict({"architecture": "abstopk", "d_in": 8, "d_sae": 16, "k": 2})
    with pytest.raises(ModelError, match="architecture 'abstopk' cannot be used; these can"):
        saes.sae_block(sae, "SAE")


@pytest.mark.parametrize(
    ("cuda", "mps", "device", "dtype"),
    [
        (True, False, "cuda", torch.bfloat16),
        (False, True, "mps", torch.float32),
        (False, False, "cpu", torch.float32),
    ],
)
def test_auto_is_the_best_device_that_is_there(cuda, mps, device, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    found = find_device("auto")
    assert found.type == device
    assert find_dtype(None, found) == dtype


def test_an_unknown_dtype_and_device_are_refused(folders):
    arguments = {"sae": str(folders / "sae")}
    assert "choose float32 or bfloat16" in refusal(folders / "llama", dtype="int4", **arguments)
    assert "'warp' is unavailable" in refusal(folders / "llama", device="warp", **arguments)


def test_bfloat16_loads_as_such(folders):
    model = load(str(folders / "llama"), sae=str(folders / "sae"), dtype="bfloat16")
    assert model.network.dtype == torch.bfloat16
    assert model.sae.dtype == torch.float32


def test_blocks_of_a_language_model_are_found_beside_a_vision_tower():
    network = tiny_network()
    network.vision_tower = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(BLOCKS)])
    assert find_blocks(network).name == "model.layers"


def test_a_network_without_blocks_is_refused():
    network = tiny_network()
    network.model.layers = torch.nn.ModuleList()
    with pytest.raises(ModelError, match="'llama' has no list of 4 blocks"):
        find_blocks(network)
