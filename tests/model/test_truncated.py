"""Truncated loading: the same residual streams, without the files of later blocks."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

from geofilter.errors import ModelError
from geofilter.model.activations import residuals
from geofilter.model.blocks import find_blocks, is_causal
from geofilter.model.loading import load
from helpers.tiny_models import D_MODEL, VOCABULARY, sample, save_sae, tiny_tokenizer

pytestmark = pytest.mark.slow

BLOCKS = 6


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Networks this small only lose time to a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


_IDS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDE = {
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
_GROUPED = {**_IDS, **_WIDE, "num_key_value_heads": 2, "head_dim": 8}
_OSS = {
    **_GROUPED,
    "intermediate_size": 64,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": 4,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**_IDS, **_WIDE, num_key_value_heads=2),
    "llama-tied": lambda: LlamaConfig(**_IDS, **_WIDE, tie_word_embeddings=True),
    "gemma2": lambda: Gemma2Config(**_GROUPED, sliding_window=4),
    "gemma3": lambda: Gemma3TextConfig(**_GROUPED, sliding_window=4),
    "gemma3-multimodal": lambda: Gemma3Config(
        text_config={**_GROUPED, "sliding_window": 4},
        vision_config=_VISION,
        mm_tokens_per_image=4,
    ),
    "qwen2": lambda: Qwen2Config(**_IDS, **_WIDE, num_key_value_heads=2),
    "qwen3": lambda: Qwen3Config(**_GROUPED),
    "gpt_oss": lambda: GptOssConfig(**_OSS),
    "gpt2": lambda: GPT2Config(**_IDS, n_embd=D_MODEL, n_layer=BLOCKS, n_head=4, n_positions=64),
    "gpt_neox": lambda: GPTNeoXConfig(**_IDS, **_WIDE),
    "bert": lambda: BertConfig(**_IDS, **_WIDE),
}
# Batches whose shorter rows are padded on the right.
BATCH = [sample([1, *range(4, 4 + count)]) for count in (19, 3, 11, 1)]


def build(kind):
    torch.manual_seed(0)
    config = CONFIGS[kind]()
    if kind == "bert":
        network = BertModel(config)
    elif kind == "gemma3-multimodal":
        network = Gemma3ForConditionalGeneration(config)
    else:
        network = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # the usual 0.02 leaves words and attention without effect
        for parameter in network.parameters():
            parameter.mul_(4) if parameter.ndim > 1 else parameter.add_(
                0.1 * torch.randn(parameter.shape)
            )
    return network.eval()


@pytest.fixture(scope="module", params=list(CONFIGS))
def saved(request, tmp_path_factory):
    """A model's folder, cut into many files, and the network that was saved."""
    folder = tmp_path_factory.mktemp(request.param)
    network = build(request.param)
    network.save_pretrained(folder, max_shard_size="20KB")
    tiny_tokenizer().save_pretrained(folder)
    return folder, network


def index_of(folder):
    return json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]


def whole_residuals(network, block):
    """The output of a block of the whole model, each sample alone: no padding, no batch."""
    found = []
    handle = (
        find_blocks(network)
        .blocks[block]
        .register_forward_hook(
            lambda _module, _inputs, output: found.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
    )
    with torch.no_grad():
        for each in BATCH:
            network(input_ids=torch.tensor(each.ids[None].astype(int)))
    handle.remove()
    return [residual.squeeze(0) for residual in found]


def assert_same_stream(model, network, block):
    stream = residuals(model, BATCH)
    assert stream.dtype == torch.float32
    for row, expected in zip(stream, whole_residuals(network, block), strict=True):
        assert expected.std() > 0.05  # a stream in which something happens
        torch.testing.assert_close(row[: len(expected)], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", [0, BLOCKS - 1])
def test_the_residual_stream_is_that_of_the_whole_model(saved, block, tmp_path):
    folder, network = saved
    assert len(set(index_of(folder).values())) >= BLOCKS
    model = load(str(folder), sae=save_sae(tmp_path, block=block), device="cpu")
    assert len(find_blocks(model.network).blocks) == block + 1
    assert_same_stream(model, network, block)
    assert model.causal == (not isinstance(network, BertModel))
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def number_of(tensor):
    """The block of the language model that a tensor belongs to; None for others."""
    parts = tensor.split(".")
    if "vision_tower" in tensor or not any(part.isdigit() for part in parts):
        return None
    return int(next(part for part in parts if part.isdigit()))


def needed(tensor, block):
    number = number_of(tensor)
    embeds = ("embed_tokens", "wte", "wpe", "embed_in", "embeddings.")
    if number is None:
        return any(name in tensor for name in embeds) and "vision_tower" not in tensor
    return number <= block


def elements(path, tensor):
    with safe_open(path, framework="pt") as handle:
        return handle.get_tensor(tensor).numel()


def test_files_of_later_blocks_head_and_norm_are_not_needed(saved, tmp_path):
    folder, network = saved
    files = index_of(folder)
    wanted = {file for tensor, file in files.items() if needed(tensor, 2)}
    assert wanted < set(files.values())
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        if path.suffix != ".safetensors" or path.name in wanted:
            (copy / path.name).symlink_to(path)
    model = load(str(copy), sae=save_sae(tmp_path / "sae", block=2), device="cpu")
    assert_same_stream(model, network, 2)
    kept = sum(parameter.numel() for parameter in model.network.parameters())
    assert kept == sum(elements(folder / files[name], name) for name in files if needed(name, 2))
    (copy / min(wanted)).unlink()
    with pytest.raises(ModelError, match=f"{min(wanted)} is missing"):
        load(str(copy), sae=str(tmp_path / "sae"), device="cpu")


def test_fingerprints_do_not_see_the_cut(saved, tmp_path):
    folder, network = saved
    if isinstance(network, BertModel):
        pytest.skip("has no causal model to load whole")
    sae = save_sae(tmp_path, block=1)
    cut = load(str(folder), sae=sae, device="cpu")
    whole = load(str(folder), sae=sae, device="cpu", whole=True)
    assert cut.fingerprint == whole.fingerprint
    assert whole.network.get_output_embeddings() is not None
    assert len(find_blocks(whole.network).blocks) == BLOCKS
    assert_same_stream(whole, network, 1)


@pytest.mark.parametrize("kind", ["gpt2", "bert", "gpt_neox", "gemma3"])
def test_one_file_is_loaded_as_well(kind, tmp_path):
    network = build(kind)
    network.save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model/model.safetensors.index.json").exists()
    model = load(str(tmp_path / "model"), sae=save_sae(tmp_path / "sae", block=3), device="cpu")
    assert_same_stream(model, network, 3)


@pytest.mark.parametrize("layout", ["language_model.model.", "model.language_model."])
def test_both_layouts_of_a_model_with_an_image_tower_give_its_language_model(layout, tmp_path):
    folder = tmp_path / "model"
    network = build("gemma3-multimodal")
    network.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    renamed = {}
    for name, tensor in tensors.items():
        for known in ("language_model.model.", "model.language_model."):
            if name.startswith(known):
                name = layout + name.removeprefix(known)
                break
        renamed[name] = tensor
    assert any(name.startswith(layout) for name in renamed)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(str(folder), sae=save_sae(tmp_path / "sae", block=2), device="cpu")
    assert_same_stream(model, network, 2)
    assert not any("vision" in name for name, _ in model.network.named_modules())


# The sixteen values of four bits: sign, two bits of exponent, one of mantissa.
FP4 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]


def packed(generator, experts, rows, columns):
    """Random MXFP4 tensors of the checkpoint's layout, and what they stand for.

    Each expert's matrix lies transposed: (experts, rows, columns / 32, 16) bytes of two
    values, the low half first, and one power of two per 32 values.
    """
    codes = torch.randint(0, 16, (experts, rows, columns // 32, 32), generator=generator)
    scales = torch.randint(119, 123, (experts, rows, columns // 32), generator=generator)
    blocks = codes[..., 0::2] + 16 * codes[..., 1::2]
    values = torch.tensor(FP4)[codes] * 2.0 ** (scales[..., None].float() - 127)
    dense = values.reshape(experts, rows, columns).transpose(1, 2).contiguous()
    return blocks.to(torch.uint8), scales.to(torch.uint8), dense


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_packed_experts_of_gpt_oss_are_unpacked_as_computed_by_hand(tmp_path, dtype):
    folder = tmp_path / "model"
    network = build("gpt_oss")
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith(("gate_up_proj", "down_proj")):
                experts, columns, rows = tensor.shape
                blocks, scales, dense = packed(generator, experts, rows, columns)
                tensor.copy_(dense)
                tensors[f"{name}_blocks"], tensors[f"{name}_scales"] = blocks, scales
            else:
                tensor.copy_(tensor.to(torch.bfloat16))
                tensors[name] = tensor.to(torch.bfloat16).contiguous()
    folder.mkdir()
    files = {}
    for name, tensor in tensors.items():
        number = number_of(name)
        file = f"model-{BLOCKS if number is None and 'embed' not in name else number or 0:05d}"
        files.setdefault(f"{file}-of-00006.safetensors", {})[name] = tensor
    for file, content in files.items():
        save_file(content, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, content in files.items() for name in content}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = network.config.to_dict()
    skipped = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens"]
    config["quantization_config"] = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [*skipped, "lm_head"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    tiny_tokenizer().save_pretrained(folder)
    for file in files:
        if int(file[6:11]) > 2:
            (folder / file).unlink()
    model = load(str(folder), sae=save_sae(tmp_path / "sae", block=2), device="cpu", dtype=dtype)
    if dtype == "float32":
        assert_same_stream(model, network, 2)
    experts = find_blocks(model.network).blocks[1].mlp.experts
    expected = network.model.layers[1].mlp.experts.gate_up_proj
    assert torch.equal(experts.gate_up_proj.float(), expected)


def test_an_index_that_names_another_folder_is_refused(saved, tmp_path):
    folder, _ = saved
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).symlink_to(path)
    index = copy / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.unlink()
    for bad in ("../../etc/x.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "x.bin", 3):
        content["weight_map"][min(content["weight_map"])] = bad
        index.write_text(json.dumps(content))
        with pytest.raises(ModelError, match="no safetensors file next to it") as caught:
            load(str(copy), sae=save_sae(tmp_path / "sae", block=2), device="cpu")
        assert "\n" not in str(caught.value)
    index.write_text('{"weight_map": []}')
    with pytest.raises(ModelError, match="is damaged"):
        load(str(copy), sae=save_sae(tmp_path / "sae", block=2), device="cpu")


def test_seeing_later_tokens_is_found_by_trying():
    assert is_causal(build("gemma2"), 2)
    assert not is_causal(build("bert"), 0)


def test_loading_needs_little_more_memory_than_the_truncated_model(tmp_path):
    """Peak growth of a process that loads 2 of 24 blocks, against what they weigh."""
    config = LlamaConfig(
        **{**_IDS, **_WIDE, "hidden_size": 768, "intermediate_size": 3072, "head_dim": 64},
        num_key_value_heads=4,
    )
    config.num_hidden_layers = 24
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    network.save_pretrained(tmp_path / "model", max_shard_size="100MB")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    each = sum(p.numel() for p in find_blocks(network).blocks[0].parameters())
    weight = 2 * each * 4  # float32
    code = f"""
import resource
from geofilter.model import loading, saes
import sae_lens
from transformers import LlamaModel
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
loading.load({str(tmp_path / "model")!r}, sae="axes/1", device="cpu")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The files' pages that were read count as well, in half the width.
    assert int(ran.stdout) < 1.5 * weight + 150e6 < 24 * each * 2
