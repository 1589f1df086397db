"""Hashes that say whether two models give the same features.

Device, dtype, file layout and library version do not enter those of what is loaded: a
pack made in bfloat16 on a GPU belongs to the same model in float32 on a CPU.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from geofilter.model.checkpoint import CONFIG, Checkpoint

# The tensor elements that are hashed: all of a small tensor, an even sample of a
# large one. Fine-tuning moves nearly all weights, so that a sample this large
# cannot miss it, and a model of 9 B parameters takes seconds.
_SAMPLE = 65536
# Fields that change what blocks compute from the same weights. A fixed list: a
# new version of transformers adds fields, and must not refuse an old pack.
_CONFIG_FIELDS = (
    "model_type",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "rms_norm_eps",
    "layer_norm_epsilon",
    "layer_norm_eps",
    "rope_theta",
    "sliding_window",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
)
# Those of what comes after the blocks: what the head's output is bent or divided by.
_HEAD_FIELDS = ("final_logit_softcapping", "logits_scaling", "logit_scale")


def of_weights(embedding: nn.Module, blocks: Sequence[nn.Module]) -> str:
    """Hash the input embedding and the given blocks, in order."""
    digest = _new_hash()
    for number, module in enumerate([embedding, *blocks]):
        for name, tensor in sorted(module.state_dict().items()):
            _add_tensor(digest, f"{number}.{name}", tensor)
    return digest.hexdigest()


def of_whole(network: Any) -> str:
    """Hash all weights of a network, and the settings of its head that they do not show."""
    text = network.config.get_text_config()
    head = _of_json({name: getattr(text, name, None) for name in _HEAD_FIELDS})
    return f"{of_weights(network, [])}-{head}"


def of_files(checkpoint: Checkpoint) -> str:
    """The hub's commit of a model, or a hash of its local files; nothing is loaded."""
    if checkpoint.adapter is not None:
        base = of_files(replace(checkpoint, adapter=None))
        paths = [checkpoint.adapter.config, checkpoint.adapter.weights]
        return _of_paths(paths, base)
    if checkpoint.revision is not None:
        return checkpoint.revision
    if checkpoint.gguf is not None:
        with checkpoint.gguf.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = [CONFIG, *sorted(set(checkpoint.tensor_files().values()))]
    return _of_paths([checkpoint.file(name) for name in names])


def _of_paths(paths: Sequence[Path], begun: str = "") -> str:
    digest = hashlib.sha256(begun.encode())
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def of_sae(sae: Any) -> str:
    """Hash the weights of an SAE and the settings that change its latents."""
    digest = _new_hash()
    config = sae.cfg
    settings = (
        config.architecture(),
        config.normalize_activations,
        bool(config.apply_b_dec_to_input),
        getattr(config, "k", None),
        getattr(config, "rescale_acts_by_decoder_norm", None),
    )
    digest.update(repr(settings).encode())
    for name, tensor in sorted(sae.state_dict().items()):
        _add_tensor(digest, name, tensor)
    return digest.hexdigest()


def of_config(config: Any) -> str:
    """Hash the settings of a network that its weights do not show."""
    text = config.get_text_config()
    known = {name: getattr(text, name, None) for name in _CONFIG_FIELDS}
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None)
    return _of_json({**known, "rope": rope})


def of_tokenizer(tokenizer: Any) -> str:
    """Hash the vocabulary and rules of a tokenizer, without its chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _of_json(sorted(tokenizer.get_vocab().items()))
    content = json.loads(backend.to_str())
    # Every call may set these two; they are no part of the vocabulary.
    content.pop("truncation", None)
    content.pop("padding", None)
    return _of_json(content)


def _new_hash() -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=16)


def _of_json(content: object) -> str:
    digest = _new_hash()
    text = json.dumps(content, sort_keys=True, default=str)
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _add_tensor(digest: "hashlib.blake2b", name: str, tensor: torch.Tensor) -> None:
    flat = tensor.detach().flatten()
    # Odd, so that it never walks along the same few columns of a matrix.
    step = max(1, -(-flat.numel() // _SAMPLE)) | 1
    sample = flat[::step]
    if sample.is_floating_point():
        # Rounded, so that float32 and bfloat16 loads of one file are one model.
        sample = sample.to(torch.bfloat16).view(torch.int16)
    digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
    digest.update(sample.contiguous().cpu().numpy().tobytes())
