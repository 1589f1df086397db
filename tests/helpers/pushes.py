"""Samples, and the loss with the residual stream moved after a block."""

from typing import Any

import numpy as np
import torch

from geofilter.data.encoder import Encoded
from geofilter.model.blocks import find_blocks
from helpers.tiny_models import VOCABULARY


def sample(length: int, seed: int, response: slice | None = None) -> Encoded:
    generator = np.random.default_rng(seed)
    ids = generator.integers(4, VOCABULARY, length).astype(np.int32)
    mask = np.zeros(length, bool)
    mask[response or slice(length // 3, None)] = True
    return Encoded(ids, mask, mask, False, length, None)


SAMPLES = [sample(4 + 5 * n, n) for n in range(6)] + [sample(20, 9, slice(3, 8))]


def loss_with(network: Any, block: int, one: Encoded, moved: torch.Tensor) -> torch.Tensor:
    """The loss that transformers computes from labels, with `moved` added after a block."""

    def add(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + moved, *output[1:])
        return output + moved

    handle = find_blocks(network).blocks[block].register_forward_hook(add)
    try:
        ids = torch.from_numpy(one.ids.astype(np.int64))[None]
        labels = torch.where(torch.from_numpy(one.response)[None], ids, -100)
        mean = network(input_ids=ids, labels=labels).loss
    finally:
        handle.remove()
    return mean * int(one.response[1:].sum())
