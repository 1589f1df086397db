"""Tiny GGUF files, written from tiny networks the way llama.cpp's converter does."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

BLOCKS = 7  # Gemma 3's sixth block looks further back than the others
CONTEXT = 64
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ["<unk>", "<|im_start|>", "<|im_end|>", "<pad>"]
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!'-"
_MERGES = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "Ġ Ġ", "i n", "Ġ 1"]


def byte_level_vocabulary() -> list[str]:
    """Tokens of GPT-2's kind: special ones, bytes, and what the merges make."""
    merged = [merge.replace(" ", "") for merge in _MERGES]
    return [*_SPECIAL, *bytes_to_unicode().values(), *merged]


def sentence_vocabulary() -> list[str]:
    """Tokens of SentencePiece's kind: special ones, bytes, letters, and a few words."""
    numbers = [f"<0x{number:02X}>" for number in range(256)]
    return [*_SPECIAL, *numbers, "▁", *_LETTERS, "he", "ll", "hell", "hello", "▁w", "or", "▁wor"]


VOCABULARY = len(byte_level_vocabulary())
SENTENCES = len(sentence_vocabulary())

_WIDE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda **more: LlamaConfig(vocab_size=VOCABULARY, **_WIDE, **more),
    "qwen2": lambda **more: Qwen2Config(
        vocab_size=VOCABULARY, tie_word_embeddings=True, **_WIDE, **more
    ),
    "qwen3": lambda **more: Qwen3Config(vocab_size=VOCABULARY, head_dim=128, **_WIDE, **more),
    "gemma3": lambda **more: Gemma3TextConfig(
        vocab_size=SENTENCES, head_dim=16, sliding_window=4, **_WIDE, **more
    ),
}


def network(kind: str, **more: Any) -> Any:
    torch.manual_seed(0)
    built = AutoModelForCausalLM.from_config(CONFIGS[kind](**more))
    with torch.no_grad():  # the usual 0.02 leaves words and attention without effect
        for parameter in built.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return built.eval().requires_grad_(False)


def write_gguf(
    path: Path,
    kind: str,
    source: Any,
    stored: str = "F32",
    *,
    tokenizer: bool = True,
    pre: str = "gpt-2",
    values: dict[str, Any] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    without: tuple[str, ...] = (),
    architecture: str | None = None,
) -> Path:
    """Write `source` to `path`, its matrices as type `stored`.

    `values` are more of the header, `tensors` are more tensors; `without` are left out.
    """
    config = source.config
    writer = gguf.GGUFWriter(path, architecture or kind)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if kind in ("gemma3", "qwen3"):
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    if kind == "gemma3":
        writer.add_sliding_window(config.sliding_window)
    for key, value in (values or {}).items():
        add = writer.add_string if isinstance(value, str) else writer.add_uint32
        (writer.add_float32 if isinstance(value, float) else add)(key, value)
    if tokenizer:
        _add_tokenizer(writer, kind, pre)
    table = gguf.get_tensor_name_map(
        next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == kind), BLOCKS
    )
    for name, tensor in source.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        module, _, leaf = name.rpartition(".")
        own = f"{table.get_name(module)}.{leaf}"
        if own not in without:
            _add_tensor(writer, own, _changed(kind, own, tensor, config), stored)
    for own, array in (tensors or {}).items():
        writer.add_tensor(own, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _changed(kind: str, name: str, tensor: torch.Tensor, config: Any) -> np.ndarray:
    """What the converter stores: rows of queries and keys reordered, Gemma's norms plus 1."""
    if kind == "llama" and name.endswith((".attn_q.weight", ".attn_k.weight")):
        keys = name.endswith(".attn_k.weight")
        heads = config.num_key_value_heads if keys else config.num_attention_heads
        half = tensor.shape[0] // heads // 2
        tensor = tensor.reshape(heads, 2, half, -1).transpose(1, 2).reshape(tensor.shape)
    if kind == "gemma3" and name.endswith("norm.weight"):
        tensor = tensor + 1
    return tensor.contiguous().numpy()


def _add_tensor(writer: Any, name: str, array: np.ndarray, stored: str) -> None:
    if array.ndim == 1 or stored == "F32":
        writer.add_tensor(name, array)
        return
    kind = GGMLQuantizationType[stored]
    writer.add_tensor(name, quants.quantize(array, kind), raw_dtype=kind)


def _add_tokenizer(writer: Any, kind: str, pre: str) -> None:
    sentences = kind == "gemma3"
    tokens = sentence_vocabulary() if sentences else byte_level_vocabulary()
    writer.add_tokenizer_model("llama" if sentences else "gpt2")
    writer.add_token_list(tokens)
    types = [3 if token in _SPECIAL else 1 for token in tokens]
    if sentences:
        types = [6 if token.startswith("<0x") else types[at] for at, token in enumerate(tokens)]
        writer.add_token_scores([-float(place) for place in range(len(tokens))])
        writer.add_add_bos_token(True)
    else:
        writer.add_tokenizer_pre("qwen2" if kind.startswith("qwen") else pre)
        writer.add_token_merges(_MERGES)
        writer.add_add_bos_token(False)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(3)
    writer.add_chat_template(TEMPLATE)
