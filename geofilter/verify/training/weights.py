"""A causal language model: loaded and saved, before and after training, and its loss on samples.

An adapter is kept without the model that it belongs to, which may be large. The loss is that
which a trainer would see: a baseline for choosing rows, and a measure of what a model can do.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from geofilter.model import loading
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.chosen import find_device, find_dtype
from geofilter.model.gradients import LOGITS_AT_ONCE
from geofilter.support.atomic import writing_folder

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded


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
    target = find_device(device)
    checkpoint = open_checkpoint(source)
    config, tokenizer = loading.read_texts(checkpoint, trust_remote_code)
    network = loading.load_whole(checkpoint, config, find_dtype(dtype, target), trust_remote_code)
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

    An adapter stays apart from the weights, as it was trained. Merged into bfloat16 weights, some
    of what a short run has changed would be rounded away.
    """
    return network.requires_grad_(False).eval()


def free_memory() -> None:
    """Give back what a model that is gone held on the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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
        places = order[start : start + max(1, LOGITS_AT_ONCE // (longest * vocabulary))]
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
