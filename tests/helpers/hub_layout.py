"""What small repositories under real ids have in common: files, widths, tokenizers."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors.torch import save

from helpers.hub_repos import Files, Weights, checkpoint_files

WIDTH, INNER, CONTEXT = 64, 96, 256
# Large enough that each block leaves its mark.
STD = 0.1
# The content of what other programs read, and of what can run code.
UNWANTED = b"nobody should want this"
SLOW_TOKENIZER = ("vocab.json", "merges.txt")
CHATML_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def repository(
    config: Mapping[str, Any],
    weights: Weights,
    tokenizer: bytes,
    settings: Mapping[str, Any],
    *,
    others: tuple[str, ...] = (),
    template: str | None = None,
    shards: int = 1,
) -> Files:
    """The weights, in one file without an index or in several, the texts, and `others`."""
    files = checkpoint_files(config, weights, shards)
    if shards == 1:
        del files["model.safetensors.index.json"], files["model-00001-of-00001.safetensors"]
        files["model.safetensors"] = save(weights.tensors, metadata={"format": "pt"})
    files |= {
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": json.dumps(settings, indent=2).encode(),
        **dict.fromkeys(others, UNWANTED),
    }
    return files if template is None else files | {"chat_template.jinja": template.encode()}


def qwen_tokenizer(eos: str) -> dict[str, Any]:
    return {
        "bos_token": None,
        "eos_token": eos,
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "model_max_length": 131072,
        "tokenizer_class": "Qwen2Tokenizer",
    }
