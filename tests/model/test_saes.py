"""SAEs of every release format give sae-lens's latents, and hostile files give one line."""

import json
import pickle

import numpy as np
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.loading.pretrained_saes_directory import (
    get_norm_scaling_factor,
    get_pretrained_saes_directory,
)
from sae_lens.saes import sae as sae_module
from safetensors.torch import save_file

from geofilter.errors import ModelError
from geofilter.model import saes
from geofilter.model.loading import load
from helpers.tiny import bpe_tokenizer, word_tokenizer
from helpers.tiny_models import D_MODEL, save_model, save_sae, tiny_sae

D_SAE = 96


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder `REPOSITORY/FILE` that stands for the hub."""

    def fetch(repo_id, filename, subfolder=None, **_options):
        path = tmp_path / repo_id / (subfolder or "") / filename
        if not path.exists():
            raise EntryNotFoundError(filename)
        return str(path)

    def shapes(repo, file):
        with loaders.safe_open(tmp_path / repo / file, framework="pt") as handle:
            return {name: handle.get_slice(name).get_shape() for name in handle.keys()}  # noqa: SIM118

    monkeypatch.setattr(loaders, "hf_hub_download", fetch)
    monkeypatch.setattr(loaders, "get_safetensors_tensor_shapes", shapes)

    def place(file):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    return place


def weights(d_in=D_MODEL, d_sae=D_SAE, seed=0):
    """W_enc (d_in, d_sae), W_dec (d_sae, d_in), b_enc, b_dec."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(d_in, d_sae, generator=generator) / d_in**0.5,
        torch.randn(d_sae, d_in, generator=generator),
        0.1 * torch.randn(d_sae, generator=generator),
        0.1 * torch.randn(d_in, generator=generator),
    )


def folder_of(release, sae_id):
    return get_pretrained_saes_directory()[release].saes_map[sae_id]


def stream(d_in=D_MODEL):
    return torch.randn(20, d_in, generator=torch.Generator().manual_seed(9))


def loaded(place, block):
    sae = saes.load_sae(place, "cpu")
    assert saes.sae_block(sae, "SAE") == block
    assert sae.W_dec.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in sae.parameters())
    return sae


def assert_latents(sae, expected, hidden):
    """`expected` where it is not at a threshold, to float32's rounding."""
    latents = sae.encode(hidden)
    assert (latents >= 0).all()
    assert 0.001 < (latents > 0).float().mean() < 0.9
    torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-5)


def jumped(before, threshold):
    return torch.where(before > threshold, before.relu(), 0.0)


@pytest.mark.slow
def test_gemma_scope(hub):
    encoder, decoder, b_enc, b_dec = weights(2304, 16384)
    threshold = torch.linspace(1, 3, 16384)
    arrays = {"W_enc": encoder, "W_dec": decoder, "b_enc": b_enc, "b_dec": b_dec}
    folder = folder_of("gemma-scope-2b-pt-res-canonical", "layer_7/width_16k/canonical")
    path = hub(f"google/gemma-scope-2b-pt-res/{folder}/params.npz")
    np.savez(path, threshold=threshold.numpy(), **{n: t.numpy() for n, t in arrays.items()})
    sae = loaded("gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical", 7)
    assert_latents(sae, jumped(stream(2304) @ encoder + b_enc, threshold), stream(2304))


def llama_scope(hub, norm=3.5):
    encoder, decoder, b_enc, b_dec = weights()
    settings = {
        "d_model": D_MODEL,
        "d_sae": D_SAE,
        "hook_point_in": "blocks.9.hook_resid_post",
        "jump_relu_threshold": 0.8,
        "dataset_average_activation_norm": {"in": norm, "out": norm},
    }
    folder = "fnlp/Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L9R-8x"
    hub(f"{folder}/hyperparams.json").write_text(json.dumps(settings))
    tensors = {
        "encoder.weight": encoder.T.contiguous(),
        "encoder.bias": b_enc,
        "decoder.weight": decoder.T.contiguous(),
        "decoder.bias": b_dec,
    }
    save_file(tensors, hub(f"{folder}/checkpoints/final.safetensors"))
    return encoder, b_enc


def test_llama_scope_whose_normalisation_is_folded_in(hub):
    # Inputs are brought to an average norm of sqrt(d_model), then compared to 0.8.
    scale = get_norm_scaling_factor("llama_scope_lxr_8x", "l9r_8x")
    norm = D_MODEL**0.5 / scale
    encoder, b_enc = llama_scope(hub, norm)
    sae = loaded("llama_scope_lxr_8x/l9r_8x", 9)
    hidden = stream() / scale
    assert sae.cfg.normalize_activations == "none"
    # sae-lens compares the pre-activation to the threshold times the scale.
    expected = jumped(hidden * scale @ encoder + b_enc, 0.8 * scale)
    torch.testing.assert_close(sae.encode(hidden), expected, rtol=1e-4, atol=1e-5)


def test_normalisation_that_was_not_folded_in_is_refused(hub, monkeypatch):
    llama_scope(hub)
    monkeypatch.setattr(sae_module, "get_norm_scaling_factor", lambda *_: None)
    with pytest.warns(UserWarning, match="norm_scaling_factor not found"):
        sae = saes.load_sae("llama_scope_lxr_8x/l9r_8x", "cpu")
    with pytest.raises(ModelError, match="expected_average_only_in"):
        saes.sae_block(sae, "SAE")


ANDYRDT = "gpt-oss-20b-andyrdt/resid_post_layer_7_trainer_0"
ANDYRDT_FOLDER = "andyrdt/saes-gpt-oss-20b/resid_post_layer_7/trainer_0"


def batch_top_k(hub):
    trainer = {
        "dict_class": "BatchTopKSAE",
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "k": 8,
        "layer": 7,
        "lm_name": "openai/gpt-oss-20b",
    }
    config = {"trainer": trainer, "buffer": {"ctx_len": 2048}}
    hub(f"{ANDYRDT_FOLDER}/config.json").write_text(json.dumps(config))
    return hub(f"{ANDYRDT_FOLDER}/ae.pt")


def test_batch_top_k_of_dictionary_learning(hub):
    encoder, decoder, b_enc, b_dec = weights()
    state = {
        "encoder.weight": encoder.T.contiguous(),
        "encoder.bias": b_enc,
        "decoder.weight": decoder.T.contiguous(),
        "b_dec": b_dec,
        "k": torch.tensor(8),
        "threshold": torch.tensor(0.7),
    }
    torch.save(state, batch_top_k(hub))
    sae = loaded(ANDYRDT, 7)
    assert_latents(sae, jumped((stream() - b_dec) @ encoder + b_enc, 0.7), stream())


def test_qwen_scope(hub, monkeypatch):
    model = {"Qwen3-1.7B-Base": ("Qwen/Qwen3-1.7B-Base", D_MODEL)}
    monkeypatch.setattr(loaders, "QWEN_SCOPE_MODEL_INFO", model)
    monkeypatch.setattr(
        loaders, "_parse_qwen_scope_repo_id", lambda _: ("Qwen3-1.7B-Base", D_SAE, 8)
    )
    encoder, decoder, b_enc, b_dec = weights()
    state = {
        "W_enc": encoder.T.contiguous(),
        "W_dec": decoder.T.contiguous(),
        "b_enc": b_enc,
        "b_dec": b_dec,
    }
    torch.save(state, hub("Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50/layer9.sae.pt"))
    sae = loaded("qwen-scope-3-1.7b-base-w32k-l50/layer9", 9)
    before = stream() @ encoder + b_enc
    best = before.topk(8, dim=1)
    expected = torch.zeros_like(before).scatter(1, best.indices, best.values.relu())
    assert_latents(sae, expected, stream())


def test_gemma_scope_2(hub):
    encoder, decoder, b_enc, b_dec = weights()
    threshold = torch.linspace(0.2, 1, D_SAE)
    folder = "google/gemma-scope-2-4b-it/resid_post/layer_9_width_16k_l0_medium"
    config = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-4b-it",
        "hf_hook_point_in": "model.layers.9.output",
    }
    hub(f"{folder}/config.json").write_text(json.dumps(config))
    tensors = {"w_enc": encoder, "w_dec": decoder, "b_enc": b_enc, "b_dec": b_dec}
    save_file({**tensors, "threshold": threshold}, hub(f"{folder}/params.safetensors"))
    sae = loaded("gemma-scope-2-4b-it-res/layer_9_width_16k_l0_medium", 9)
    assert_latents(sae, jumped(stream() @ encoder + b_enc, threshold), stream())
    assert saes.misgivings(sae, "SAE", "google/gemma-3-4b-it", bpe_tokenizer()) == []


def test_a_repository_that_is_in_no_directory(hub, tmp_path):
    save_sae(hub("somebody/saes/block-1/cfg.json").parent, "jumprelu")
    sae = loaded("somebody/saes/block-1", 1)
    assert torch.equal(sae.encode(stream()), tiny_sae("jumprelu").encode(stream()))


def test_axes_are_the_residual_stream_in_both_signs():
    sae = saes.load_sae("axes/5", "cpu", D_MODEL)
    assert saes.sae_block(sae, "SAE") == 5
    hidden = stream()
    expected = torch.cat([hidden.clamp(min=0), (-hidden).clamp(min=0)], dim=1)
    assert torch.equal(sae.encode(hidden), expected)
    assert torch.equal(sae.decode(sae.encode(hidden)), hidden)
    with pytest.raises(ModelError, match="write axes/BLOCK"):
        saes.load_sae("axes/last", "cpu", D_MODEL)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def one_line(place):
    with pytest.raises(ModelError) as caught:
        saes.load_sae(place, "cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(content)])
def test_a_pickle_that_runs_code_runs_none(hub, tmp_path, write):
    witness = tmp_path / "witness"
    content = Hostile(witness) if write is torch.save else pickle.dumps(Hostile(witness))
    write(content, batch_top_k(hub))
    assert "sae-lens cannot load it" in one_line(ANDYRDT)
    assert not witness.exists()


def test_pickles_are_not_read_while_torch_is_told_to_run_what_they_say(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    witness = tmp_path / "witness"
    torch.save(Hostile(witness), batch_top_k(hub))
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set" in one_line(ANDYRDT)
    assert not witness.exists()


def test_arrays_of_objects_are_not_unpickled(hub, tmp_path):
    witness = tmp_path / "witness"
    folder = folder_of("gemma-scope-2b-pt-res-canonical", "layer_7/width_16k/canonical")
    path = hub(f"google/gemma-scope-2b-pt-res/{folder}/params.npz")
    np.savez(path, W_enc=np.array([Hostile(witness)], dtype=object))
    assert "sae-lens cannot load it" in one_line(
        "gemma-scope-2b-pt-res-canonical/layer_7/width_16k/canonical"
    )
    assert not witness.exists()


def test_misgivings_name_another_model_and_an_absent_beginning_of_sequence():
    sae = tiny_sae("jumprelu")
    plain = bpe_tokenizer(adds_bos=False)
    assert saes.misgivings(sae, "SAE", "org/model", plain) == []
    sae.cfg.metadata.model_name = "gemma-2-9b"
    sae.cfg.metadata.prepend_bos = True
    assert saes.misgivings(sae, "SAE", "google/gemma-2-9b", word_tokenizer()) == []
    (note,) = saes.misgivings(sae, "SAE", "google/gemma-2-9b-it", word_tokenizer())
    assert "made for gemma-2-9b, not for google/gemma-2-9b-it" in note
    (note,) = saes.misgivings(sae, "SAE", "google/gemma-2-9b", plain)
    assert "beginning-of-sequence token, which this tokenizer does not put" in note
    # Of these files sae-lens says it without knowing.
    assert saes.misgivings(sae, ANDYRDT, "google/gemma-2-9b", plain) == []
    plain.bos_token = None
    assert saes.misgivings(sae, "SAE", "google/gemma-2-9b", plain) == []


def test_notes_of_a_loaded_model_are_lines(tmp_path):
    model = load(save_model(tmp_path / "model"), sae=save_sae(tmp_path / "sae"))
    assert model.notes == ()
    assert model.revision is None
    assert model.sae_revision is None


def test_a_template_that_writes_the_first_token_is_enough():
    """The bundled model's tokenizer puts no token of its own; its chat template does."""
    assert load("organism").notes == ()
