"""Feature packs: what is saved comes back, and what does not belong is refused."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save, save_file

from geofilter.errors import OutputError, PackError
from geofilter.packs.pack import FeaturePack, load_pack
from helpers.tiny_models import tiny_model, tiny_setting


@pytest.fixture(scope="module")
def model():
    return tiny_setting()[0]


@pytest.fixture(scope="module")
def pack():
    return tiny_setting()[1]


@pytest.fixture
def path(pack, tmp_path):
    pack.save(tmp_path / "toxic.pack")
    return tmp_path / "toxic.pack"


def fields_of(pack):
    return {field.name: getattr(pack, field.name) for field in dataclasses.fields(FeaturePack)}


def refusal(path):
    with pytest.raises(PackError) as caught:
        load_pack(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_a_saved_pack_comes_back_whole(pack, path):
    back = load_pack(path)
    for name, value in fields_of(pack).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(back, name), value)
            assert getattr(back, name).dtype == value.dtype
        elif name == "statistics":
            for field in dataclasses.fields(value):
                np.testing.assert_array_equal(
                    getattr(back.statistics, field.name), getattr(value, field.name)
                )
        else:
            assert getattr(back, name) == value, name
    assert back.digest == pack.digest
    assert back.to_bytes() == pack.to_bytes()


def test_labels_of_any_text_come_back(pack, tmp_path):
    labels = (("\x1b[2J", "\u202e", "日本", '"', "\x00"),) * len(pack)
    strange = dataclasses.replace(pack, labels=labels)
    strange.save(tmp_path / "strange.pack")
    assert load_pack(tmp_path / "strange.pack").labels == labels


def test_the_digest_changes_with_the_numbers_and_not_with_their_origin(pack):
    heavier = dataclasses.replace(pack, weights=pack.weights[::-1].copy())
    assert heavier.digest != pack.digest
    assert dataclasses.replace(pack, provenance={"toxic": "b.jsonl"}).digest == pack.digest


def test_an_existing_pack_is_kept_unless_overwriting_is_asked_for(pack, path):
    with pytest.raises(OutputError, match="exists"):
        pack.save(path)
    pack.save(path, overwrite=True)


def test_a_pack_that_cannot_be_written_leaves_nothing(pack, tmp_path):
    with pytest.raises(OutputError):
        pack.save(tmp_path / "missing" / "toxic.pack")
    assert list(tmp_path.iterdir()) == []


def test_a_pack_belongs_to_its_model(pack, model):
    pack.verify(model)
    pack.verify(tiny_model())


def other_weights():
    model = tiny_model()
    with torch.no_grad():
        model.network.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    return model


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (other_weights, "other than loaded: the model's weights)"),
        (lambda: tiny_model(block=2), "it reads block 1, not block 2)"),
        (lambda: tiny_model(sae="jumprelu"), "other than loaded: the SAE)"),
        (lambda: tiny_model("gpt2"), "the model's architecture, the model's weights)"),
        (
            lambda: tiny_model("gpt2", block=2),
            "it reads block 1, not block 2: the model's architecture)",
        ),
    ],
)
def test_another_model_or_sae_is_refused_and_the_difference_named(pack, other, difference):
    with pytest.raises(PackError, match=r"the pack was made with tiny-llama") as caught:
        pack.verify(other())
    assert difference in str(caught.value)
    assert "geofilter discover" in str(caught.value)
    assert ("--block 1" in str(caught.value)) == difference.endswith("block 2)")


def test_a_missing_pack(tmp_path):
    assert "no such pack; make one with geofilter discover" in refusal(tmp_path / "none.pack")
    assert "no such pack" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04pickle", b"PAR1" * 100, b"\xff" * 64])
def test_a_foreign_file(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)
    assert "is damaged or no feature pack" in refusal(tmp_path / "foreign")


def test_a_safetensors_file_of_another_kind(tmp_path):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    assert "but no feature pack" in refusal(tmp_path / "model.safetensors")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_truncated_pack_is_refused_at_every_length(pack, tmp_path_factory, data):
    content = pack.to_bytes()
    keep = data.draw(st.integers(0, len(content) - 1))
    path = tmp_path_factory.mktemp("cut") / "cut.pack"
    path.write_bytes(content[:keep])
    refusal(path)


def damaged(path, *, header=None, arrays=None, drop=None):
    """The pack at `path` with other parts."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as handle:
        known = json.loads(handle.metadata()["geofilter_pack"])
    tensors = load_file(path) | (arrays or {})
    if drop:
        known.pop(drop, None)
        tensors.pop(drop, None)
    text = json.dumps(known | (header or {}))
    path.write_bytes(save(tensors, metadata={"geofilter_pack": text}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"header": {"format": 2}}, "format 2, this version reads 1"),
        ({"header": {"pooling": "median"}}, "pooling 'median' is not one of mean, max"),
        ({"header": {"labels": []}}, "0 labels for 12 features"),
        ({"header": {"fingerprint": {}}}, "architecture"),
        ({"header": {"contrast": {"toxic_rows": 1}}}, "missing"),
        ({"drop": "labels"}, "labels"),
        ({"drop": "weights"}, "weights"),
        ({"arrays": {"weights": np.ones(3, np.float32)}}, "weights is float32[3]"),
        ({"arrays": {"weights": np.zeros(12, np.float32)}}, "must be positive"),
        ({"arrays": {"weights": np.full(12, np.nan, np.float32)}}, "weights holds NaN"),
        ({"arrays": {"ids": np.zeros(12, np.int32)}}, "not distinct latents of 0 to 95"),
        ({"arrays": {"ids": np.arange(90, 102, dtype=np.int32)}}, "not distinct latents"),
        ({"arrays": {"ids": np.arange(12, dtype=np.float32)}}, "ids is float32[12], not int32"),
        ({"arrays": {"directions": np.ones((12, 32), np.float32)}}, "not of length 1"),
        ({"arrays": {"directions": np.ones(12, np.float32)}}, "not enough values"),
    ],
)
def test_a_damaged_pack_is_one_line_with_the_reason(path, change, reason):
    damaged(path, **change)
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("persona_auroc", "high"),
        ("persona_auroc", None),
        ("persona_auroc_low", math.nan),
        ("explained_variance_floor", "x"),
        ("explained_variance", True),
        ("unknown_share_ceiling", [1]),
        ("toxic_rows", 1.5),
    ],
    ids=str,
)
def test_a_figure_that_is_no_number_makes_a_damaged_pack(path, name, value):
    contrast = dataclasses.asdict(load_pack(path).contrast)
    damaged(path, header={"contrast": contrast | {name: value}})
    assert f"{name} of its contrast rows is" in refusal(path)


def test_a_figure_beyond_all_floats_makes_a_damaged_pack(path):
    contrast = dataclasses.asdict(load_pack(path).contrast)
    damaged(path, header={"contrast": contrast | {"explained_variance": 10**400}})
    assert "is a damaged feature pack" in refusal(path)


def test_header_text_that_is_no_json(path):
    path.write_bytes(save(load_file(path), metadata={"geofilter_pack": "{"}))
    assert "is a damaged feature pack" in refusal(path)
    path.write_bytes(save(load_file(path), metadata={"geofilter_pack": "[" * 100_000}))
    assert "is a damaged feature pack" in refusal(path)


def test_a_pack_says_what_it_is_and_shows_a_notebook_its_features(pack):
    name = dataclasses.replace(pack, model_name="<b>\x1b")
    assert (
        repr(name) == f"<FeaturePack of <b>\\x1b, block {pack.block}: {len(pack)} toxic features>"
    )
    page = name._repr_html_()
    assert "<b>" not in page
    assert page.count("<tr>") == 1 + min(len(pack), 10)
    assert f"<td>{pack.ids[0]}</td>" in page
