"""What scoring a data set will cost: tokens, memory and time, before any weights are read.

Tokens are counted, by encoding every row. Memory and time are estimates: from the
network's shape, built without weights, and from how fast this device multiplies
matrices, measured for a moment. This module scores nothing and writes nothing.
"""

import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from geofilter.data.reading import Reading
from geofilter.data.rows import RowFile
from geofilter.model import loading, saes
from geofilter.model.activations import TokenBudget
from geofilter.model.blocks import find_blocks
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.chosen import Chosen, block_without_sae
from geofilter.model.gradients import LOGITS_AT_ONCE
from geofilter.model.own_answers import ANSWER_TOKENS, tokens_at_once
from geofilter.model.quantized import matrix_numbers, saved_by_rounding
from geofilter.model.truncated import cut
from geofilter.runs.defaults import block_of, scorer_of
from geofilter.runs.engines.worker import encode_row
from geofilter.runs.prepare import choose, encoder_of
from geofilter.settings import Settings
from geofilter.support.progress import Progress, no_progress

# Share of the measured matrix speed that whole forward passes reach: seen from 0.55 on a
# busy processor to 0.9 on a quiet one, less where rows are short.
_SLOWEST, _FASTEST = 0.4, 0.9
_TRIAL_SECONDS = 0.3


@dataclass(frozen=True)
class Estimate:
    """What a run over a data set will cost.

    `tokens` go through the model, `pooled_tokens` of them through the SAE, if any; `longest` is
    the longest row's. `memory_bytes` holds weights, SAE and one batch. `seconds` is
    (least, most) on `device`, loading and the making of a pack left out. `reading`: what was
    read of the rows. `unscored`: the place of the first row that has nothing to score, and why.
    """

    rows: int
    scored: int
    tokens: int
    pooled_tokens: int
    longest: int
    memory_bytes: int
    flop: float
    seconds: tuple[float, float]
    device: str
    reading: Reading
    unscored: str | None


class _Shape(NamedTuple):
    """A truncated network and its SAE, in numbers."""

    parameters: int
    matrices: int  # of these, numbers that `load_in` rounds
    active: float  # parameters that one token is multiplied with
    d_model: int
    d_sae: int
    blocks: int
    inner: int  # inner width of an MLP


def estimate(rows: RowFile, settings: Settings, *, progress: Progress = no_progress) -> Estimate:
    """Estimate a run over `rows`; fetches configurations and the tokenizer at most.

    Raises `ModelError` and `DataError` for what cannot be found or read.
    """
    chosen = choose(settings)
    config, tokenizer = loading.read_texts(
        open_checkpoint(settings.model), settings.trust_remote_code
    )
    encoder = encoder_of(settings, config, tokenizer)
    outline = _outline(chosen, config, settings)
    shape = _shape(config, outline.block, outline.d_sae)

    total = scored = tokens = pooled = longest = 0
    unscored: str | None = None
    tally = rows.tally()
    for row in rows:
        total += 1
        tally.add(row.record, row.where, row.problem)
        coded = encode_row(row, rows.layouts, encoder)
        sides = [side.encoded for side in coded if side.encoded]
        if unscored is None and not sides and (problem := coded[0].problem) is not None:
            unscored = f"{row.where}: {problem.status}: {problem.reason}"
        scored += bool(sides)
        for encoded in sides:
            tokens += len(encoded.ids)
            pooled += int(encoded.pooled.sum())
            longest = max(longest, len(encoded.ids))
        if total % 100 == 0:
            progress("count", total, None)
    # A product and a sum per parameter and token; the SAE reads and writes.
    flop = 2.0 * (tokens * shape.active + pooled * 2 * shape.d_model * shape.d_sae)
    memory = _memory(shape, longest, chosen.device, chosen.dtype)
    memory -= saved_by_rounding(shape.matrices, chosen.dtype, settings.load_in)
    if scorer_of(settings).needs_whole:
        whole = _shape(config, config.get_text_config().num_hidden_layers - 1, outline.d_sae)
        vocabulary = config.get_text_config().vocab_size
        later = whole.matrices - shape.matrices
        memory -= saved_by_rounding(later, chosen.dtype, settings.load_in)
    if scorer_of(settings).needs_answer:
        # At most, for rows that share a prompt share the answer; it is read once more.
        answered = scored * ANSWER_TOKENS
        head = vocabulary * shape.d_model
        flop += 2.0 * ((tokens + answered) * whole.active + answered * (head + shape.active))
        memory += (whole.parameters - shape.parameters + head) * chosen.dtype.itemsize
        memory += (
            tokens_at_once(chosen.device) * whole.blocks * 2 * shape.d_model * chosen.dtype.itemsize
        )
    if scorer_of(settings).needs_push:
        # Forward through the later blocks and the head, and as much back: no weight gets
        # a gradient.
        later = tokens * (whole.active - shape.active) + pooled * vocabulary * shape.d_model
        flop += 4.0 * later
        if scorer_of(settings).needs_query:
            # Back through block L too, and the query's product with each token.
            flop += 4.0 * tokens * shape.active / shape.blocks
        memory += _memory_of_backward(whole, shape, vocabulary, longest, chosen)
    speed = _matrix_speed(chosen.device, chosen.dtype)
    return Estimate(
        rows=total,
        scored=scored,
        tokens=tokens,
        pooled_tokens=pooled,
        longest=longest,
        memory_bytes=memory,
        flop=flop,
        seconds=(flop / speed / _FASTEST, flop / speed / _SLOWEST),
        device=str(chosen.device),
        reading=tally.reading(),
        unscored=unscored,
    )


def _outline(chosen: Chosen, config: Any, settings: Settings) -> saes.Outline:
    """The block that is read and the latents of its SAE, 0 without one."""
    if chosen.has_sae:
        return saes.outline(chosen.sae, config.get_text_config().hidden_size)
    return saes.Outline(block_without_sae(chosen, config, settings.model, block_of(settings)), 0)


def _shape(config: Any, block: int, d_sae: int) -> _Shape:
    from transformers import AutoModel

    text = cut(config, block + 1)
    build: Any = AutoModel.from_config  # it has no types
    with torch.device("meta"):
        network = build(text)
    blocks = find_blocks(network).blocks
    embedding = network.get_input_embeddings().weight.numel()
    # Of the experts of a block a token enters a few.
    experts = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None) or 1
    share = (getattr(text, "num_experts_per_tok", None) or 1) / experts
    sizes = {name: tensor.numel() for name, tensor in blocks.named_parameters()}
    active = sum(size * (share if "experts" in name else 1.0) for name, size in sizes.items())
    return _Shape(
        parameters=embedding + sum(sizes.values()),
        matrices=matrix_numbers(blocks),
        active=active,
        d_model=text.hidden_size,
        d_sae=d_sae,
        blocks=len(blocks),
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
    )


def _memory(shape: _Shape, longest: int, device: torch.device, dtype: torch.dtype) -> int:
    """Bytes of weights, SAE and one batch."""
    size = dtype.itemsize
    # Encoder and decoder in float32, and the encoder once more in bfloat16.
    sae = (2 * 4 + 2) * shape.d_model * shape.d_sae
    batch = max(TokenBudget.for_device(device).tokens, longest)
    # What one block holds at a time: residual stream, heads, both halves of the MLP.
    activations = batch * (8 * shape.d_model + 3 * shape.inner) * size
    return shape.parameters * size + sae + activations


def _memory_of_backward(
    whole: _Shape, shape: _Shape, vocabulary: int, longest: int, chosen: Chosen
) -> int:
    """Bytes of the later blocks, the head, and what the backward pass needs of one batch."""
    size = chosen.dtype.itemsize
    tokens = min(TokenBudget.for_device(chosen.device).tokens, LOGITS_AT_ONCE // vocabulary)
    batch = max(tokens, longest)
    kept = (whole.blocks - shape.blocks) * batch * (12 * shape.d_model + 3 * shape.inner)
    # Besides the logits their softmax and its gradient, and a copy, in float32.
    logits = batch * vocabulary * (size + 3 * 4)
    weights = whole.parameters - shape.parameters + vocabulary * shape.d_model
    return (weights + kept) * size + logits


def _matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Multiplications and additions per second in a large matrix product on `device`."""
    side = 1024 if device.type == "cpu" else 8192
    left = torch.randn(side, side, device=device, dtype=dtype)
    left @ left  # the first one prepares
    products, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < _TRIAL_SECONDS:
        left @ left
        products += 1
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
    return 2.0 * side**3 * products / passed
