"""A causal language model: loaded and saved, before and after training, and its loss on samples.

An adapter is kept without the model that it belongs to, which may be large. The loss is that
which a trainer would see: a baseline for choosing rows, and a measure of what a model can do.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.model.causal import CausalModel, load_causal
from geofilter.model.gradients import LOGITS_AT_ONCE
from geofilter.model.quiet import quiet_transformers
from geofilter.support.atomic import writing_folder

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

__all__ = [
    "CausalModel",
    "free_memory",
    "load_causal",
    "load_trained",
    "next_token_shares",
    "ready",
    "response_losses",
    "save",
]


def save(network: Any, folder: str | os.PathLike[str]) -> None:
    """Save a whole network or an adapter as safetensors, whole or not at all."""
    # An adapter leaves the embedding alone; PEFT would ask the hub whether it did.
    settings = {"save_embedding_layers": False} if hasattr(network, "peft_config") else {}
    with writing_folder(folder, overwrite=True) as unfinished, quiet_transformers():
        network.save_pretrained(unfinished, **settings)


def load_trained(base: CausalModel, folder: Path) -> CausalModel:
    """What `save` saved, put on `base`, which is used up."""
    if (folder / "adapter_config.json").exists():
        import peft

        network: Any = peft.PeftModel.from_pretrained(base.network, os.fspath(folder))
    else:
        from transformers import AutoModelForCausalLM

        with quiet_transformers():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=base.network.dtype, use_safetensors=True
            )
        network = loaded.to(base.network.device)
    return CausalModel(ready(network), base.tokenizer)


def ready(network: Any) -> Any:
    """A trained network to be asked: without gradients.

    An adapter stays apart from the weights, as it was trained. Merged into bfloat16 weights, some
    of what a short run has changed would be rounded away.
    """
    return network.requires_grad_(False).eval()


def free_memory() -> None:
    """Give back what a model that is gone held on the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@torch.no_grad()
def response_losses(
    network: Any, samples: "Sequence[Encoded]", *, own_text: bool = False
) -> list[float | None]:
    """Mean negative log-likelihood per response token, in nats, of each sample, in order.

    `own_text` leaves out what the template writes in and after a response (see `Encoded.pooled`).
    None for a sample whose only such token is its first, which nothing predicts, and where
    the loss is no number.
    """
    counted = [sample.pooled if own_text else sample.response for sample in samples]
    found: list[float | None] = [None] * len(samples)
    for places in _batches(network, [len(sample.ids) for sample in samples]):
        ids, mask = _padded([samples[place].ids for place in places], network.device)
        wanted = _padded([counted[place] for place in places], network.device)[0].bool()
        # The logits of a response's first token stand one place before it.
        first = max(0, int(wanted.any(dim=0).int().argmax()) - 1) if own_text else 0
        logits = _logits(network, ids, mask, first)[:, :-1]
        logs = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2).float(), ids[:, first + 1 :], reduction="none"
        )  # (batch, longest - 1 - first)
        wanted = wanted[:, first + 1 :]
        losses = ((logs * wanted).sum(dim=1) / wanted.sum(dim=1)).tolist()
        for place, loss in zip(places, losses, strict=True):
            found[place] = loss if np.isfinite(loss) else None
    return found


@torch.no_grad()
def next_token_shares(
    network: Any, prompts: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]
) -> NDArray[np.float64]:
    """The probability that the token after each prompt is one of a group: (prompts, groups)."""
    found = np.zeros((len(prompts), len(groups)))
    for places in _batches(network, list(map(len, prompts))):
        ids, mask = _padded([np.asarray(prompts[place]) for place in places], network.device)
        ends = mask.sum(dim=1) - 1
        first = int(ends.min())
        logits = _logits(network, ids, mask, first)
        rows = torch.arange(len(places), device=ends.device)
        last = logits[rows, ends - first]  # (batch, vocabulary)
        shares = last.cpu().double().softmax(-1)
        for column, group in enumerate(groups):
            found[places, column] = shares[:, list(group)].sum(dim=1).numpy()
    return found


def _logits(network: Any, ids: torch.Tensor, mask: torch.Tensor, first: int) -> torch.Tensor:
    """The logits of the places from `first` on: (batch, longest - first, vocabulary).

    Those before are not computed, where the model can leave them out: a head is large.
    """
    kept = ids.shape[1] - first
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    can_leave_out = "logits_to_keep" in inspect.signature(inner.forward).parameters
    fewer = {"logits_to_keep": kept} if can_leave_out else {}
    found: torch.Tensor = network(
        input_ids=ids, attention_mask=mask, use_cache=False, **fewer
    ).logits[:, -kept:]
    return found


def _batches(network: Any, lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places, the longest first, in batches whose logits fit the memory."""
    vocabulary = int(network.config.get_text_config().vocab_size)
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        places = order[start : start + max(1, LOGITS_AT_ONCE // (longest * vocabulary))]
        yield places
        start += len(places)


def _padded(
    rows: Sequence[NDArray[Any]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens, (batch, longest), and a mask of what is no padding.

    Padded on the right, where a causal model looks at nothing that counts.
    """
    longest = max(map(len, rows))
    found, mask = (torch.zeros(len(rows), longest, dtype=torch.long) for _ in range(2))
    for place, row in enumerate(rows):
        found[place, : len(row)] = torch.from_numpy(row.astype(np.int64))
        mask[place, : len(row)] = 1
    return found.to(device), mask.to(device)
