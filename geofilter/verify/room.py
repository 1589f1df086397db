"""How much memory and disk a fine-tuning run takes, from the network's shape alone."""

from typing import Any

import torch

from geofilter.model.quantized import matrix_numbers, saved_by_rounding
from geofilter.verify.training.recipe import TrainingRecipe


def saved_bytes(network: Any, recipe: TrainingRecipe, dtype: torch.dtype) -> int:
    """Bytes of what one run saves: the whole network, or its adapter in float32.

    Without the file's header, which has some thousand bytes.
    """
    if recipe.method == "full":
        return _numbers(network) * dtype.itemsize
    return 4 * _adapter_numbers(network, recipe.rank)


def peak_bytes(
    network: Any,
    recipe: TrainingRecipe,
    dtype: torch.dtype,
    device: torch.device,
    *,
    trained: int,
    asked: tuple[int, int],
    load_in: str | None = None,
) -> int:
    """Bytes at the peak of a run: in training on `trained` tokens at once, or when it is asked.

    `asked`: answers at once, and the tokens of the longest with its question. 0 where that is not
    done. `load_in`: what the weights are rounded to. What libraries take for themselves is not in
    it.
    """
    text, size = network.config.get_text_config(), dtype.itemsize
    blocks, width = text.num_hidden_layers, text.hidden_size
    inner = getattr(text, "intermediate_size", None) or 4 * width
    weights = _numbers(network) * size
    matrices = matrix_numbers(network, network.get_output_embeddings())
    weights -= saved_by_rounding(matrices, dtype, load_in)
    # Gradients and both moments of AdamW.
    state = 3 * weights
    if recipe.method == "lora":
        state = 4 * 4 * _adapter_numbers(network, recipe.rank)
    of_a_block = (12 * width + 3 * inner) * size
    # On a GPU a block's own are computed again on the way back.
    on_gpu = device.type == "cuda"
    kept = blocks * width * size + of_a_block if on_gpu else blocks * of_a_block
    # Besides the logits their softmax and its gradient, and a copy, in float32.
    logits = text.vocab_size * (size + 3 * 4)
    training = state + trained * (kept + logits) if trained else 0
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    of_a_head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    answers, length = asked
    cache = answers * length * 2 * blocks * heads * of_a_head * size
    return int(weights + max(training, cache + answers * logits))


def _numbers(network: Any) -> int:
    return sum(tensor.numel() for tensor in network.parameters())


def _adapter_numbers(network: Any, rank: int) -> int:
    """Numbers of an adapter on all linear projections but the head, as PEFT lays it."""
    from transformers.pytorch_utils import Conv1D

    head = network.get_output_embeddings()
    return rank * sum(
        sum(module.weight.shape)
        for module in network.modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    )
