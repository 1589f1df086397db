"""An SAE is trained on rows, saved for sae-lens, measured, and taken up after an interruption."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.errors import ModelError, OutputError
from geofilter.model.activations import TokenBudget
from geofilter.model.loading import load
from geofilter.model.sae_training import train
from geofilter.model.sae_training.measure import loss_recovered, quality
from geofilter.model.sae_training.plan import default_plan
from geofilter.model.sae_training.store import Store, streams_of
from geofilter.model.saes import load_sae
from helpers.tiny_models import (
    VOCABULARY,
    random_samples,
    sample,
    save_model,
    tiny_model,
    tiny_sae,
    tiny_tokenizer,
)

SMALL = {"latents": 48, "active": 8, "tokens": 3000, "passes": 4, "with_loss": False}


def write_rows(path: Path, rows: int, seed: int = 0) -> str:
    chance = np.random.default_rng(seed)
    with path.open("w") as out:
        for _ in range(rows):
            prompt, response = (
                " ".join(f"w{n}" for n in chance.integers(0, VOCABULARY - 4, size=12))
                for _ in range(2)
            )
            out.write(json.dumps({"prompt": prompt, "completion": response}) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> tuple[str, str]:
    """A model's folder and a file of rows; only to be read."""
    folder = tmp_path_factory.mktemp("sae")
    return save_model(folder / "model"), write_rows(folder / "rows.jsonl", 160)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_sae(str(folder), "cpu").state_dict())


@pytest.fixture(scope="module")
def trained(setting, tmp_path_factory) -> train.Trained:
    model, rows = setting
    output = tmp_path_factory.mktemp("out") / "saes"
    return train.train_saes(rows, model, output, blocks=[2, 0], **{**SMALL, "with_loss": True})


def test_each_block_has_an_sae_that_the_model_loads_and_that_explains_more_than_a_random_one(
    trained, setting
):
    model, _ = setting
    assert list(trained.folders) == [0, 2]
    for block, folder in trained.folders.items():
        loaded = load(model, sae=str(folder))
        assert loaded.block == block
        held = streams_of(loaded, trained.texts.held_out, [block], TokenBudget(1024))[:, 0]
        found, random = quality(loaded.sae, held), quality(tiny_sae(block=block), held)
        assert found.explained_variance > max(0.4, random.explained_variance)
        assert found.l0 == pytest.approx(8, abs=1)
        recorded = trained.quality[block]
        assert recorded.explained_variance == pytest.approx(found.explained_variance, abs=1e-5)


def test_the_file_says_what_it_was_trained_on_and_what_it_is_worth(trained):
    config = json.loads((trained.folders[2] / "cfg.json").read_text())["metadata"]
    assert config["hook_name"] == "blocks.2.hook_resid_post"
    assert config["model_name"] == trained.model
    assert config["dataset_path"] == "rows.jsonl"
    assert config["dataset_sha256"] == trained.texts.sha256
    assert config["training_tokens"] == trained.tokens
    for name, value in trained.quality[2].record().items():
        assert config[name] == value


def test_half_precision_halves_the_file_and_loads_in_float32(setting, tmp_path):
    model, rows = setting
    for half in (True, False):
        output = tmp_path / str(half)
        train.train_saes(rows, model, output, blocks=[1], half=half, **SMALL)
    full, rounded = weights(tmp_path / "False"), weights(tmp_path / "True")
    size = [
        (tmp_path / name / "sae_weights.safetensors").stat().st_size for name in ("True", "False")
    ]
    assert size[0] < 0.6 * size[1]
    for name, tensor in rounded.items():
        assert tensor.dtype == torch.float32
        assert torch.allclose(tensor, full[name], atol=1e-4, rtol=1e-3)


class Stop(Exception):
    pass


@pytest.mark.parametrize("phase", ["read", "train"])
def test_an_interrupted_training_goes_on_and_ends_with_the_same_sae(
    setting, tmp_path, monkeypatch, phase
):
    model, rows = setting
    monkeypatch.setattr(train, "_NOTE_EVERY", 0.0)
    buffer = {"buffer_mb": 1}
    train.train_saes(rows, model, tmp_path / "whole", blocks=[1], **SMALL, **buffer)

    def stop(label: str, done: int, of: int | None) -> None:
        if label.startswith(phase) and done >= of / 2:
            raise Stop

    seen: list[tuple[str, int]] = []
    with pytest.raises(Stop):
        train.train_saes(
            rows, model, tmp_path / "cut", blocks=[1], progress=stop, **SMALL, **buffer
        )
    assert not (tmp_path / "cut").exists()
    with pytest.raises(OutputError, match="other rows or options"):
        train.train_saes(rows, model, tmp_path / "cut", blocks=[0], **SMALL, **buffer)
    train.train_saes(
        rows,
        model,
        tmp_path / "cut",
        blocks=[1],
        progress=lambda label, done, _: seen.append((label, done)),
        **SMALL,
        **buffer,
    )
    assert seen[0][1] > 1
    assert not (tmp_path / "cut.part").exists()
    whole, cut = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_store_keeps_each_text_in_one_part_and_every_part_below_the_bound(tmp_path):
    texts, model = random_samples(50), tiny_model()
    store = Store(tmp_path / "a", texts, [0, 1], model.d_model, megabytes=1)
    assert [id(one) for part in store.parts for one in part] == list(map(id, texts))
    whole = streams_of(model, texts, [0, 1], TokenBudget(1024))
    mapped = store.open(0)
    done = 0
    while done < len(texts):
        done = store.fill(model, 0, done, mapped)
    assert torch.allclose(store.open(0).float(), whole.float(), atol=0.05, rtol=0.05)
    few = Store(tmp_path / "b", texts, [0, 1], 10**4, megabytes=2)  # 50 tokens at once
    assert len(few.parts) > 10
    assert all(few.tokens(part) <= 50 for part in range(len(few.parts)))


def test_special_tokens_the_template_and_the_first_token_do_not_count():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}w9 {{ m['content'] }} <eos> {% endfor %}"
        "{% if add_generation_prompt %}w9 {% endif %}"
    )
    turns = (Turn("user", "w1 w2"), Turn("assistant", "w3"))
    text = Encoder(tokenizer, max_length=32).own_text(Sample(turns=turns))
    words = tokenizer.convert_ids_to_tokens(text.ids[text.pooled])
    assert words == ["w1", "w2", "w3"]


def test_nothing_is_lost_by_an_sae_that_reconstructs_exactly():
    model = tiny_model()
    exact = load_sae("axes/1", "cpu", model.d_model)
    start = torch.tensor([[1, word] for word in range(4, 10)])
    said = model.network.generate(start, do_sample=False, max_new_tokens=20, pad_token_id=0)
    # What the model itself would say, so that it has something to lose.
    texts = [sample(row) for row in said.tolist()]
    assert loss_recovered(model, 1, exact, texts) == pytest.approx(1, abs=1e-4)
    worse = loss_recovered(model, 1, tiny_sae(), texts)
    assert worse is not None
    assert worse < 0.9


def test_a_note_says_that_an_sae_was_trained_on_other_weights(trained, setting, tmp_path):
    model, _ = setting
    folder = str(trained.folders[0])
    other = save_model(tmp_path / "other", seed=1)
    assert load(model, sae=folder).notes == ()
    (note,) = load(other, sae=folder).notes
    assert f"was trained on {model}" in note
    assert "geofilter sae train" in note


def test_a_block_that_does_not_exist_and_too_few_tokens_are_named(setting, tmp_path):
    model, rows = setting
    with pytest.raises(ModelError, match=r"--block 9: .* has blocks 0 to 3"):
        train.train_saes(rows, model, tmp_path / "x", blocks=[9])
    with pytest.raises(ModelError, match=r"at least .* are needed to train .* latents"):
        train.train_saes(rows, model, tmp_path / "x", blocks=[1], latents=5000)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelError, match=r"--k 99: more than the SAE's 8 latents"):
        default_plan(4, latents=8, active=99)
