"""Residual streams at the output of block L, in batches that fit the memory.

Later blocks and the head never run. Samples are sorted by length, padded on the right,
and returned in the order in which they came; what a sample yields does not depend
on its neighbours in the batch beyond the rounding of the dtype.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.errors import ModelError
from geofilter.model.blocks import run_to_block
from geofilter.model.loading import LoadedModel

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

One = TypeVar("One")
Result = TypeVar("Result")

# Padded tokens in one batch. More gains little on a CPU and costs caches.
CPU_BUDGET = 1024
GPU_BUDGET = 16384

# A CPU allocator has no exception of its own.
_CPU_OUT_OF_MEMORY = re.compile(r"can't allocate memory|not enough memory|DefaultCPUAllocator")


@dataclass
class TokenBudget:
    """How many padded tokens a batch may hold; shrinks for good when memory runs out."""

    tokens: int

    @classmethod
    def for_device(cls, device: torch.device) -> "TokenBudget":
        return cls(CPU_BUDGET if device.type == "cpu" else GPU_BUDGET)


def residuals(model: LoadedModel, batch: "Sequence[Encoded]") -> torch.Tensor:
    """The residual stream at the output of block L, (batch, longest, d_model).

    In the network's dtype, on its device. Positions past a sample's own tokens hold
    values without meaning. One forward pass of blocks 0..L, without gradients.
    """
    token_ids, mask = padded(model, batch)
    return run_to_block(model.network, model.block, token_ids, mask)


def padded(
    model: LoadedModel, batch: "Sequence[Encoded]"
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Token ids, (batch, longest), padded on the right, and the attention mask if one is needed.

    On the right, positions count from a sample's first token in every architecture,
    and a causal model never lets padding reach a token before it: without a mask it may
    take the fastest attention there is.
    """
    lengths = np.array([len(sample.ids) for sample in batch])
    token_ids = np.full((len(batch), lengths.max()), model.tokenizer.pad_token_id or 0, np.int64)
    for row, sample in enumerate(batch):
        token_ids[row, : len(sample.ids)] = sample.ids
    mask = None
    if not model.causal:
        mask = to_device((np.arange(lengths.max()) < lengths[:, None]).astype(np.int64), model)
    return to_device(token_ids, model), mask


def to_device(array: NDArray[np.int64], model: LoadedModel) -> torch.Tensor:
    """`array` on the model's device; to a GPU in one copy that nothing waits for."""
    tensor = torch.from_numpy(array)
    if model.device.type != "cuda":
        return tensor.to(model.device)
    return tensor.pin_memory().to(model.device, non_blocking=True)


def _tokens(sample: "Encoded") -> int:
    return len(sample.ids)


def in_batches(
    samples: Sequence[One],
    work: Callable[[list[One]], list[Result]],
    budget: TokenBudget,
    size: Callable[[One], int] = _tokens,  # type: ignore[assignment]
) -> list[Result]:
    """Apply `work` to batches of similar length; results in the order of `samples`.

    `work` returns one result per sample, and `size` a sample's tokens. A batch holds at most
    `budget.tokens` tokens, padding included, and at least one sample. When memory runs out, the
    budget falls to half of the failed batch and the batch is done again in parts. Raises
    `ModelError` when one sample alone does not fit.
    """
    # Longest first: if memory is short, that shows at once.
    order = sorted(range(len(samples)), key=lambda place: -size(samples[place]))
    results: dict[int, Result] = {}
    start = 0
    while start < len(order):
        longest = size(samples[order[start]])
        places = order[start : start + max(1, budget.tokens // max(1, longest))]
        done = _unless_out_of_memory(work, [samples[place] for place in places])
        if done is not None:
            results.update(zip(places, done, strict=True))
            start += len(places)
        elif len(places) == 1:
            raise ModelError(
                f"a sample of {longest} tokens does not fit in memory; "
                "use a smaller --max-length or another --device"
            )
        else:
            budget.tokens = longest * (len(places) // 2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    return [results[place] for place in range(len(samples))]


def _unless_out_of_memory(
    work: Callable[[list[One]], list[Result]], batch: list[One]
) -> list[Result] | None:
    """The result of `work`, or None when memory ran out.

    A function of its own: the exception holds the failed tensors through its frames,
    and they have to be gone before the next attempt.
    """
    try:
        return work(batch)
    except (torch.OutOfMemoryError, MemoryError):
        return None
    except RuntimeError as error:
        if _CPU_OUT_OF_MEMORY.search(str(error)):
            return None
        raise
