"""Weights that are rounded on loading: how it is asked for, and what is another model then."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import nn

from geofilter.errors import MissingExtraError, ModelError
from geofilter.model import loading, quantized
from geofilter.model.blocks import find_blocks
from geofilter.model.causal import load_causal
from geofilter.model.quantized import Rounding
from geofilter.runs.prepare import load_model
from geofilter.runs.provenance import meaning, stated_rounding, versions
from geofilter.settings import LOAD_IN, Settings
from geofilter.support.manifest import Manifest
from helpers.tiny_models import save_model, tiny_network

CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def asked(monkeypatch):
    """What transformers is asked for, as if the CPU were a GPU; the weights stay as they are."""
    seen = []
    monkeypatch.setattr(
        quantized, "rounding", lambda load_in, device: load_in and Rounding(load_in, device)
    )
    for kind in (transformers.AutoModel, transformers.AutoModelForCausalLM):

        def load(*names, real=kind.from_pretrained, **options):
            seen.append([options.pop(name, None) for name in ("quantization_config", "device_map")])
            return real(*names, **options)

        monkeypatch.setattr(kind, "from_pretrained", load)
    return seen


def test_every_choice_of_the_settings_can_be_loaded_and_no_other(monkeypatch):
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda name: name)
    assert [quantized.rounding(one, CUDA) for one in (None, *LOAD_IN)] == [
        None,
        *(Rounding(one, CUDA) for one in LOAD_IN),
    ]
    with pytest.raises(ModelError, match="load_in '2bit' is not known; choose 4bit or 8bit"):
        quantized.rounding("2bit", CUDA)


def test_without_cuda_and_without_the_package_one_line_says_what_to_do(folder, monkeypatch):
    for load in (loading.load, load_causal):
        with pytest.raises(ModelError, match="and the device is cpu; leave it out, or run"):
            load(folder, device="cpu", dtype=None, load_in="4bit")
    monkeypatch.setattr(quantized.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geofilter\[quantize\]'"):
        quantized.rounding("8bit", CUDA)


def test_the_blocks_and_the_whole_are_rounded_alike_in_the_dtype_of_the_model(folder, asked):
    options = {"device": "cpu", "dtype": "bfloat16", "load_in": "4bit"}
    cut, whole = loading.load(folder, **options), loading.load(folder, **options, whole=True)
    load_causal(folder, **options)
    assert len(find_blocks(cut.network).blocks) < len(find_blocks(whole.network).blocks)
    for config, where in asked:
        assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, "nf4")
        assert config.bnb_4bit_compute_dtype == torch.bfloat16
        assert where == {"": "cpu"}
    assert len(asked) == 3
    asked.clear()
    loading.load(folder, device="cpu", load_in="8bit")
    assert asked[0][0].load_in_8bit
    loading.load(folder, device="cpu")
    assert asked[1] == [None, None]


def test_what_is_rounded_is_another_model_and_the_record_says_so(folder, asked):
    plain, rounded = Settings(folder, device="cpu"), Settings(folder, device="cpu", load_in="4bit")
    models = [load_model(settings) for settings in (plain, rounded)]
    assert models[1].name == f"{folder} (4bit)"
    weights = [model.fingerprint["weights"] for model in models]
    assert weights[1] == f"{weights[0]}-4bit"
    assert (stated_rounding(plain), stated_rounding(rounded)) == ({}, {"load_in": "4bit"})
    assert set(versions(rounded)) - set(versions(plain)) == {"bitsandbytes"}
    stated = Manifest(dict(stated_rounding(rounded)))
    assert meaning(stated).decides == {"load_in": "4bit"}


def test_weights_that_are_rounded_already_are_refused(folder, asked, tmp_path):
    packed = Path(save_model(tmp_path / "packed"), "config.json")
    how = {"quantization_config": {"quant_method": "mxfp4"}}
    packed.write_text(json.dumps(json.loads(packed.read_text()) | how))
    with pytest.raises(ModelError, match=r"rounded already \(mxfp4\); leave out --load-in"):
        loading.load(str(packed.parent), device="cpu", load_in="4bit")


class Rounded(nn.Linear):
    """As bitsandbytes keeps a matrix: whole numbers, which a product makes numbers of."""

    def __init__(self, plain):
        super().__init__(plain.in_features, plain.out_features, bias=False)
        whole = (plain.weight * 32).round().to(torch.int8)
        self.weight = nn.Parameter(whole, requires_grad=False)

    def forward(self, inputs):
        return inputs @ (self.weight.float() / 32).T


def test_an_adapter_is_added_to_what_rounded_layers_give(tmp_path, monkeypatch):
    base = tiny_network()
    base.name_or_path = save_model(tmp_path / "base")
    names = ["q_proj", "down_proj", "embed_tokens"]
    around = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, target_modules=names))
    around.save_pretrained(tmp_path / "adapter")

    def round_all(network, *, back):
        for parent in list(network.modules()):
            for name, layer in parent.named_children():
                if type(layer) is nn.Linear and name != "lm_head":
                    rounded = Rounded(layer)
                    layer.weight = nn.Parameter(rounded.weight.float() / 32, requires_grad=False)
                    setattr(parent, name, layer if back else rounded)
        return network

    def load(*, back):
        real = loading._load_whole
        with monkeypatch.context() as patched:
            patched.setattr(loading, "_load_whole", lambda *how: round_all(real(*how), back=back))
            return loading.load(str(tmp_path / "adapter"), device="cpu", whole=True)

    ids = torch.tensor([[1, 7, 19, 33, 8]])
    with torch.no_grad():
        merged, aside = (load(back=back).network(ids).logits for back in (True, False))
        without = round_all(tiny_network(), back=False)(ids).logits
    torch.testing.assert_close(aside, merged, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(aside, without, rtol=1e-2, atol=1e-2)
    first = load(back=False).fingerprint["weights"]
    monkeypatch.setattr("geofilter.model.adapter.Adapter.scale", lambda *_: 0.1)
    assert load(back=False).fingerprint["weights"] != first
