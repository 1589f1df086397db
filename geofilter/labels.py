"""A few words for each toxic feature: the tokens that its decoder direction promotes.

The logit lens: a direction of the residual stream, passed through the final norm
and the unembedding as if no later block stood between. A hint for the reader; it
enters no score. This module knows nothing about packs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from geofilter.models import LoadedModel, find_blocks

TOKENS_PER_LABEL = 5


def label_directions(model: LoadedModel, directions: torch.Tensor) -> tuple[tuple[str, ...], ...]:
    """The most promoted tokens of each direction, (n, d_model), best first.

    Tokens are as the tokenizer decodes them, unescaped; special tokens are left out. An
    empty label for every direction where the network has no unembedding.
    """
    head = model.network.get_output_embeddings()
    if head is None:
        return ((),) * len(directions)
    weight = head.weight.detach()  # (vocabulary, d_model)
    with torch.no_grad():
        residual = _final_norm(model.network, directions.to(weight.device, weight.dtype))
        logits = (residual @ weight.T).float()  # (n, vocabulary)
    known = min(len(model.tokenizer), logits.shape[1])
    logits[:, known:] = -torch.inf
    special = [token for token in model.tokenizer.all_special_ids if token < known]
    logits[:, special] = -torch.inf
    best = logits.topk(min(TOKENS_PER_LABEL, known), dim=1)
    return tuple(
        _decode(model.tokenizer, ids, values)
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )


def _decode(tokenizer: Any, ids: Sequence[int], logits: Sequence[float]) -> tuple[str, ...]:
    return tuple(
        tokenizer.decode([token]).strip()
        for token, logit in zip(ids, logits, strict=True)
        if logit != float("-inf")
    )


def _final_norm(network: nn.Module, directions: torch.Tensor) -> torch.Tensor:
    """Apply the norm between the last block and the head, without its constant part."""
    parent = network.get_submodule(find_blocks(network).name.rpartition(".")[0])
    norms = [
        module
        for name, module in parent.named_children()
        if name in {"norm", "ln_f", "final_layernorm", "final_layer_norm"}
    ]
    if not norms:
        return directions
    constant: torch.Tensor = norms[0](torch.zeros_like(directions))
    normed: torch.Tensor = norms[0](directions)
    return normed - constant
