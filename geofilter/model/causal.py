"""A causal language model loaded whole, with its head: to be asked, or trained."""

from typing import Any, NamedTuple

from geofilter.model import loading, quantized
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.chosen import find_device, find_dtype


class CausalModel(NamedTuple):
    """A causal language model with its head, and its tokenizer."""

    network: Any
    tokenizer: Any


def load_causal(
    source: str,
    *,
    device: str,
    dtype: str | None,
    load_in: str | None = None,
    trust_remote_code: bool = False,
) -> CausalModel:
    """Load a model whole: a folder, a hub id, or a name of the catalogue.

    By default in float32 on a CPU and bfloat16 elsewhere; `load_in` rounds the weights. Raises
    `ModelError` as `loading.load` does.
    """
    target = find_device(device)
    rounding = quantized.rounding(load_in, target)
    checkpoint = open_checkpoint(source)
    config, tokenizer = loading.read_texts(checkpoint, trust_remote_code)
    network = loading.load_whole(
        checkpoint, config, find_dtype(dtype, target), trust_remote_code, rounding
    )
    return CausalModel(network.to(target), tokenizer)
