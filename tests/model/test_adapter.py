"""Adapter folders: the weights that PEFT would give, in as many blocks as are read."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from geofilter.errors import ModelError
from geofilter.model import loading
from geofilter.model.blocks import find_blocks, run_to_block
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry
from geofilter.packs.default_pack import pack_inputs
from geofilter.runs.defaults import BY_RULE, block_of, scorer_of
from geofilter.runs.identity import identify
from geofilter.settings import Settings
from helpers.tiny_models import save_model, tiny_network, tiny_tokenizer

IDS = torch.tensor([[1, 7, 19, 33, 8, 40, 5, 5]])
LLAMA = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
# Kind of network and what its adapter is made of.
KINDS = {
    "plain": ("llama", {**LLAMA, "lora_alpha": 5}),
    "rank-stabilised, with patterns": (
        "llama",
        {
            **LLAMA,
            "use_rslora": True,
            "rank_pattern": {"layers.1.self_attn.q_proj": 3},
            "alpha_pattern": {"down_proj": 11, "self_attn.v_proj": 2},
        },
    ),
    "weights kept transposed": (
        "gpt2",
        {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True, "bias": "all"},
    ),
    "embedding and head": ("gemma2", {"target_modules": ["embed_tokens", "lm_head", "o_proj"]}),
    "modules saved whole": (
        "llama",
        {**LLAMA, "modules_to_save": ["embed_tokens", "lm_head", "input_layernorm"]},
    ),
    "some blocks": ("llama", {**LLAMA, "layers_to_transform": [0, 3]}),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """An adapter's folder, and the network with the adapter around it as PEFT has it."""
    return make(tmp_path_factory.mktemp("adapter"), *KINDS[request.param])


def make(folder, network="llama", options=LLAMA):
    save_model(folder / "base", network)
    base = tiny_network(network)
    base.name_or_path = str(folder / "base")
    torch.manual_seed(3)
    # Without the usual zeros in B; the modules that are saved whole move too.
    around = get_peft_model(base, LoraConfig(r=4, init_lora_weights=False, **options))
    with torch.no_grad():
        for name, parameter in around.named_parameters():
            if "modules_to_save" in name or (parameter.requires_grad and "bias" in name):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    around.save_pretrained(folder / "adapter")
    return folder / "adapter", around.eval()


@pytest.fixture
def adapter(tmp_path):
    return make(tmp_path)[0]


def change(adapter, **settings):
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def refusal(adapter):
    with pytest.raises(ModelError) as caught:
        loading.load(str(adapter))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_whole_network_gives_the_logits_of_pefts(pair):
    folder, around = pair
    model = loading.load(str(folder), whole=True)
    with torch.no_grad():
        found, wanted = model.network(IDS).logits, around(IDS).logits
        with around.disable_adapter():
            plain = around(IDS).logits
    assert not torch.allclose(plain, wanted, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [0, 2])
def test_the_blocks_that_are_read_give_the_residual_stream_of_pefts(pair, block):
    folder, around = pair
    model = loading.load(str(folder), block=block)
    assert len(find_blocks(model.network).blocks) == block + 1
    with torch.no_grad():
        wanted = around.get_base_model()(IDS, output_hidden_states=True).hidden_states[block + 1]
    torch.testing.assert_close(
        run_to_block(model.network, block, IDS), wanted, rtol=1e-5, atol=1e-5
    )


def test_name_note_and_fingerprint_say_that_it_is_another_model(adapter, tmp_path):
    model, base = loading.load(str(adapter)), loading.load(str(tmp_path / "base"))
    assert model.name == f"{adapter} (LoRA on {tmp_path / 'base'})"
    assert any("a LoRA adapter, put into its base model" in note for note in model.notes)
    assert model.fingerprint["weights"] != base.fingerprint["weights"]
    merged = AutoPeftModelForCausalLM.from_pretrained(adapter).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    tiny_tokenizer().save_pretrained(tmp_path / "merged")
    assert model.fingerprint == loading.load(str(tmp_path / "merged")).fingerprint
    whole = loading.load(str(adapter), whole=True)
    # An adapter that is trained on top must not seem to belong to the base model.
    assert get_peft_model(whole.network, LoraConfig(**LLAMA)).peft_config[
        "default"
    ].base_model_name_or_path == str(adapter)


def test_what_scores_changes_with_the_adapter_and_with_its_base(adapter, tmp_path):
    def now():
        return identify(Settings(str(adapter)))["model"]

    first = now()
    change(adapter, lora_alpha=3)
    second = now()
    save_model(tmp_path / "base", seed=5)
    assert len({first, second, now()}) == 3


def test_a_base_model_may_be_one_of_the_catalogue_by_its_hub_id(adapter, tmp_path, monkeypatch):
    entry = CatalogueEntry("tiny", str(tmp_path / "base"), {}, "")
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    for base in ("tiny", entry.model):
        change(adapter, base_model_name_or_path=base)
        assert loading.load(str(adapter)).name == f"{adapter} (LoRA on tiny)"


def test_the_defaults_are_those_of_the_base_but_for_its_sae(adapter, tmp_path, monkeypatch):
    entry = CatalogueEntry(
        "tiny",
        str(tmp_path / "base"),
        {2: "RELEASE/ID"},
        "",
        scorer="spillover",
        block=2,
        scorer_blocks={"persona": 0},
        contrast="rtp",
        dtype="bfloat16",
        top_k=7,
    )
    monkeypatch.setitem(CATALOGUE, "tiny", entry)
    settings = Settings(str(adapter))
    assert scorer_of(settings).name == "spillover"
    assert block_of(Settings(str(adapter), scorer="persona")) == 0
    model = loading.load(str(adapter))
    assert (model.entry, model.block, model.sae) == (entry, 2, None)
    assert model.network.dtype == torch.bfloat16
    assert pack_inputs(model.entry) == pack_inputs(entry)
    monkeypatch.delitem(CATALOGUE, "tiny")
    assert scorer_of(settings).name == BY_RULE
    assert loading.load(str(adapter)).entry is None


def test_the_tokenizer_of_the_adapter_is_the_one_it_was_trained_with(adapter, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(adapter)
    assert loading.load(str(adapter)).tokenizer.chat_template == tokenizer.chat_template
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(adapter)
    assert "its tokenizer has" in refusal(adapter)


SETTINGS = {
    "DoRA": ({"use_dora": True}, "sets use_dora, which is not read here; merge it"),
    "another kind": ({"peft_type": "IA3"}, "of the kind IA3, and only LORA is read; merge it"),
    "a beginning": ({"init_lora_weights": "pissa"}, "was begun by pissa, which changes the base"),
    "a setting of tomorrow": ({"use_later": 1}, "sets use_later, which is not read here"),
    "no base": ({"base_model_name_or_path": None}, "names no base model; write it there"),
    "no such base": ({"base_model_name_or_path": "./no"}, "its base model is not found: ./no"),
    "no number": ({"lora_alpha": "x"}, "adapter_config.json is damaged (alpha is 'x')"),
    "no pattern": ({"alpha_pattern": {"(": 1}}, "alpha_pattern ( of adapter_config.json"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_is_not_understood_is_refused_by_name(adapter, case):
    settings, said = SETTINGS[case]
    change(adapter, **settings)
    assert said in refusal(adapter).replace("'('", "(")


def test_pickled_missing_and_damaged_weights_are_refused(adapter):
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    assert "is damaged or no safetensors file" in refusal(adapter)
    weights.unlink()
    assert "adapter_model.safetensors is missing" in refusal(adapter)
    (adapter / "adapter_model.bin").write_bytes(b"not even a pickle")
    assert "save the adapter again with safe_serialization=True" in refusal(adapter)
    (adapter / "adapter_config.json").write_text("{")
    assert "adapter_config.json is damaged" in refusal(adapter)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("layers.0.elsewhere.lora_A.weight", (4, 16), "has no second factor"),
        ("layers.0.elsewhere.weight", (4, 16), "has no place in the base model"),
        ("layers.0.input_layernorm.weight", (5,), "is of shape (5,) and"),
        ("layers.0.mlp.lora_magnitude_vector", (4,), "is of a kind that is not read"),
    ],
)
def test_a_tensor_without_a_place_is_refused(adapter, name, shape, said):
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path) | {f"base_model.model.model.{name}": torch.zeros(shape)}
    save_file(tensors, path)
    assert said in refusal(adapter)


def test_an_adapter_on_an_adapter_is_to_be_merged_first(adapter, tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        (second / file).write_bytes((adapter / file).read_bytes())
    change(second, base_model_name_or_path=str(adapter))
    assert "is an adapter itself; merge it with PEFT first" in refusal(second)


def test_an_adapter_of_another_model_is_refused(adapter, tmp_path):
    save_model(tmp_path / "other", "gpt2")
    change(adapter, base_model_name_or_path=str(tmp_path / "other"))
    assert "has no place in the base model; the adapter was made for another" in refusal(adapter)


def test_peft_itself_reads_what_the_tests_write(adapter, tmp_path):
    assert isinstance(PeftModel.from_pretrained(tiny_network(), adapter), PeftModel)
