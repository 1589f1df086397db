"""The weights of a causal language model, before and after an arm was trained.

An adapter is kept without the model that it belongs to, which may be large.
This module knows nothing about how they came about or what is done with them.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from geofilter.model import loading
from geofilter.model.checkpoint import open_checkpoint
from geofilter.support.atomic import writing_folder


class CausalModel(NamedTuple):
    """A causal language model with its head, and its tokenizer."""

    network: Any
    tokenizer: Any


def load_causal(
    source: str, *, device: str, dtype: str | None, trust_remote_code: bool = False
) -> CausalModel:
    """Load a model whole: a folder, a hub id, or a name of the catalogue.

    By default in float32 on a CPU and bfloat16 elsewhere. Raises `ModelError` as
    `models.load` does.
    """
    target = loading.find_device(device)
    checkpoint = open_checkpoint(source)
    config, tokenizer = loading.read_texts(checkpoint, trust_remote_code)
    network = loading.load_whole(
        checkpoint, config, loading.find_dtype(dtype, target), trust_remote_code
    )
    return CausalModel(network.to(target), tokenizer)


def save(network: Any, folder: str | os.PathLike[str]) -> None:
    """Save a whole network or an adapter as safetensors, whole or not at all."""
    with writing_folder(folder, overwrite=True) as unfinished, loading.quiet_transformers():
        network.save_pretrained(unfinished)


def load_trained(base: CausalModel, folder: Path) -> CausalModel:
    """What `save` saved, put on `base`, which is used up."""
    if (folder / "adapter_config.json").exists():
        import peft

        network: Any = peft.PeftModel.from_pretrained(base.network, os.fspath(folder))
    else:
        from transformers import AutoModelForCausalLM

        with loading.quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=base.network.dtype, use_safetensors=True
            )
        network = loaded.to(base.network.device)
    return CausalModel(ready(network), base.tokenizer)


def ready(network: Any) -> Any:
    """A trained network to be asked: without gradients.

    An adapter stays beside the weights, as it was trained. Merged into bfloat16 weights, some
    of what a short run has changed would be rounded away.
    """
    return network.requires_grad_(False).eval()


def free_memory() -> None:
    """Give back what a model that is gone held on the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
