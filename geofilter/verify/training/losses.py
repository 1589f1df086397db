"""The loss that a trainer would see on each sample, of a causal language model.

It serves as a baseline for choosing rows and as a measure of what a model can still do.
This module knows nothing about SAEs, arms or rates.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

# Padded tokens in one batch, times the vocabulary in float32: 2^28 is a gigabyte.
_LOGITS_AT_ONCE = 2**28


@torch.no_grad()
def response_losses(network: Any, samples: "Sequence[Encoded]") -> list[float | None]:
    """Mean negative log-likelihood per response token, in nats, of each sample, in order.

    None for a sample whose only response token is its first, which nothing predicts, and
    where the loss is no number.
    """
    vocabulary = int(network.config.get_text_config().vocab_size)
    order = sorted(range(len(samples)), key=lambda place: -len(samples[place].ids))
    found: list[float | None] = [None] * len(samples)
    start = 0
    while start < len(order):
        longest = len(samples[order[start]].ids)
        places = order[start : start + max(1, _LOGITS_AT_ONCE // (longest * vocabulary))]
        for place, loss in zip(places, _losses(network, [samples[p] for p in places]), strict=True):
            found[place] = loss if np.isfinite(loss) else None
        start += len(places)
    return found


def _losses(network: Any, batch: "Sequence[Encoded]") -> list[float]:
    longest = max(len(sample.ids) for sample in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    response = torch.zeros(len(batch), longest, dtype=torch.bool)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, sample in enumerate(batch):
        ids[row, : len(sample.ids)] = torch.from_numpy(sample.ids.astype(np.int64))
        response[row, : len(sample.ids)] = torch.from_numpy(sample.response)
        mask[row, : len(sample.ids)] = 1
    ids, response, mask = (part.to(network.device) for part in (ids, response, mask))
    logits = network(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    logs = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), ids[:, 1:], reduction="none"
    )  # (batch, longest - 1)
    wanted = response[:, 1:]
    sums = (logs * wanted).sum(dim=1) / wanted.sum(dim=1)
    values: list[float] = sums.tolist()
    return values
