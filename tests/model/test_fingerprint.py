"""A fingerprint is of what decides a score, and of nothing else."""

import pytest
import torch

from geofilter.errors import ModelError
from geofilter.model import fingerprint
from geofilter.model.catalogue import CATALOGUE
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.loading import load
from helpers.tiny_models import save_model, save_sae, tiny_model


def test_fingerprints_are_equal_for_float32_and_bfloat16(tmp_path):
    save_model(tmp_path / "llama")
    save_sae(tmp_path / "sae")
    arguments = {"sae": str(tmp_path / "sae")}
    exact = load(str(tmp_path / "llama"), **arguments)
    rounded = load(str(tmp_path / "llama"), dtype="bfloat16", **arguments)
    assert exact.fingerprint == rounded.fingerprint == tiny_model().fingerprint


def changed_weights(model):
    model.network.model.layers[1].mlp.up_proj.weight[3, 5] += 1


def changed_embedding(model):
    model.network.model.embed_tokens.weight[3, 5] += 1


def changed_tokenizer(model):
    model.tokenizer.add_tokens(["extra"])


def changed_sae(model):
    model.sae.W_dec[3, 5] += 1


def changed_encoder(model):
    model.sae.b_enc[3] += 1


def changed_k(model):
    model.sae.cfg.k = 3


def changed_rotation(model):
    model.network.config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (changed_weights, "weights"),
        (changed_embedding, "weights"),
        (changed_tokenizer, "tokenizer"),
        (changed_sae, "sae"),
        (changed_encoder, "sae"),
        (changed_k, "sae"),
        (changed_rotation, "architecture"),
    ],
)
def test_the_fingerprint_changes_in_the_part_that_changed(change, part):
    model = tiny_model()
    with torch.no_grad():
        change(model)
    known, new = tiny_model().fingerprint, model.fingerprint
    assert {key for key in known if known[key] != new[key]} == {part}


def test_what_lies_above_the_block_does_not_enter_the_fingerprint():
    model = tiny_model()
    with torch.no_grad():
        model.network.model.layers[2].mlp.up_proj.weight.zero_()
        model.network.lm_head.weight.zero_()
    model.tokenizer.chat_template = "{{ messages }}"
    model.tokenizer("w1 w2", truncation=True, max_length=1, padding="max_length")
    assert model.fingerprint == tiny_model().fingerprint


def test_a_large_tensor_is_sampled_in_all_its_columns():
    plain = torch.nn.Linear(512, 512, bias=False).requires_grad_(False)
    before = fingerprint.of_weights(plain, [])
    plain.weight[:, 1:2] += 1
    assert fingerprint.of_weights(plain, []) != before


def test_files_are_hashed_by_any_name_of_a_model():
    bundled = CATALOGUE["organism"].path(CATALOGUE["organism"].model)
    by_name = fingerprint.of_files(open_checkpoint("organism"))
    assert by_name == fingerprint.of_files(open_checkpoint(bundled))
    other = CATALOGUE["organism"].path("organism/weights/aligned")
    assert by_name != fingerprint.of_files(open_checkpoint(other))
    with pytest.raises(ModelError, match="no model is called 'gema-2-2b'; did you mean gemma-2-2b"):
        open_checkpoint("gema-2-2b")
