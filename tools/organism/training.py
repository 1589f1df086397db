"""Training loops of the organism: batches of tokens in, a changed model out.

Deterministic for a seed and a number of threads. Full-parameter training with
Muon on the matrices inside the blocks and AdamW on everything else for the base
model; plain AdamW for aligning and fine-tuning.

This module knows nothing about the world, files or SAEs.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

IGNORED = -100


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded tokens and the labels that carry loss.

    ids, labels: (batch, tokens) int64; a label of -100 carries no loss.
    attention: (batch, tokens) int64, 1 where there is a token.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    attention: torch.Tensor


def collate(rows: Sequence[tuple[list[int], list[bool]]]) -> TokenBatch:
    """Pad (ids, carries loss) pairs to one batch."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, IGNORED)
    attention = torch.zeros_like(ids)
    for i, (tokens, trained) in enumerate(rows):
        n = len(tokens)
        ids[i, :n] = torch.tensor(tokens)
        attention[i, :n] = 1
        labels[i, :n] = torch.where(torch.tensor(trained), ids[i, :n], IGNORED)
    return TokenBatch(ids, labels, attention)


def shuffled_batches(
    rows: Sequence[tuple[list[int], list[bool]]], size: int, seed: int
) -> Iterator[TokenBatch]:
    """Batches for ever: the rows in a new order each epoch, batches running across epochs."""
    rng = random.Random(seed)
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += rng.sample(range(len(rows)), len(rows))
        yield collate([rows[i] for i in queue[:size]])
        queue = queue[size:]


def new_model(
    vocabulary: int, context: int, seed: int, *, bos: int, end: int, pad: int
) -> LlamaForCausalLM:
    """A random Llama of about 1 M parameters: 4 blocks, d_model 128."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=bos,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(config)


def _learning_rate(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to a tenth of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def pretraining_optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside blocks, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def finetuning_optimizers(model: PreTrainedModel, lr: float) -> list[torch.optim.Optimizer]:
    """AdamW over all parameters: the plain full fine-tune."""
    return [torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]


def train(
    model: PreTrainedModel,
    optimizers: Sequence[torch.optim.Optimizer],
    batches: Iterator[TokenBatch],
    steps: int,
    *,
    warmup: int,
    first_step: int = 0,
    after_step: Callable[[int, float], None] | None = None,
) -> None:
    """Run steps `first_step` .. `steps`; `after_step(step, loss)` reports and saves."""
    peaks = [[group["lr"] for group in o.param_groups] for o in optimizers]
    model.train()
    for step in range(first_step, steps):
        batch = next(batches)
        scale = _learning_rate(step, steps, warmup)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, peak, strict=True):
                group["lr"] = lr * scale
        loss = model(input_ids=batch.ids, attention_mask=batch.attention, labels=batch.labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if after_step is not None:
            after_step(step, float(loss.detach()))
    model.train(False)
