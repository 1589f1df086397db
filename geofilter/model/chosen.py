"""What the names of a model and an SAE stand for, before anything is opened.

The catalogue fills in what was not asked for. A model for which it knows no SAE is read
without one, and so is an adapter: with it in their base, the weights are others than those that
the base's SAEs were trained on.
"""

from typing import Any, NamedTuple

import torch

from geofilter.errors import ModelError
from geofilter.model.adapter import entry_of
from geofilter.model.catalogue import CATALOGUE, NO_SAE, CatalogueEntry, block_at_depth
from geofilter.model.checkpoint import find_source
from geofilter.support.display import escape, shown

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Chosen(NamedTuple):
    """What the arguments of `loading.load` stand for; `sae` may be `NO_SAE`."""

    entry: CatalogueEntry | None  # of an adapter that of its base
    source: str  # folder or hub id
    sae: str
    device: torch.device
    dtype: torch.dtype

    @property
    def has_sae(self) -> bool:
        return self.sae != NO_SAE


def choose(
    model: str, sae: str | None, block: int | None, device: str, dtype: str | None
) -> Chosen:
    """Fill in the catalogue's defaults. Arguments and errors as in `loading.load`."""
    entry = entry_of(model)
    target = find_device(device)
    return Chosen(
        entry,
        find_source(model),
        sae or _catalogue_sae(CATALOGUE.get(model), block),
        target,
        find_dtype(dtype or (entry.dtype if entry else None), target),
    )


def _catalogue_sae(entry: CatalogueEntry | None, block: int | None) -> str:
    if entry is None or not entry.sae:
        return NO_SAE
    wanted = entry.default_block if block is None else block
    if wanted not in entry.sae:
        known = ", ".join(map(str, sorted(entry.sae)))
        raise ModelError(
            f"{entry.name} has no SAE for block {wanted}; blocks with one: {known}; "
            f"or read that block without one: --sae {NO_SAE}"
        )
    return entry.path(entry.sae[wanted])


def block_without_sae(chosen: Chosen, config: Any, model: str, block: int | None) -> int:
    """The block to read where no SAE says it: `block`, the catalogue's, or that by depth.

    Raises `ModelError` for a block that the network does not have.
    """
    blocks = int(config.get_text_config().num_hidden_layers)
    if block is None:
        return block_at_depth(blocks) if chosen.entry is None else chosen.entry.default_block
    if block >= blocks:
        raise ModelError(
            f"{shown(model)} has blocks 0 to {blocks - 1}, and no block {block}; "
            "choose one of them with --block"
        )
    return block


def find_device(device: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda`, `mps`, ... stands for. Raises `ModelError`.

    `auto` is a GPU of CUDA where there is one, else that of an Apple computer, else the CPU.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device {escape(device)!r} is unavailable on this machine; use auto or cpu"
        ) from error
    return chosen


def widest(device: torch.device) -> torch.dtype:
    """The widest numbers that `device` has, for sums: Apple's GPUs lack float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def find_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """`float32`, `bfloat16`, or the device's default for None. Raises `ModelError`."""
    if dtype is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {escape(dtype)!r} is not known; choose {' or '.join(_DTYPES)}")
    return _DTYPES[dtype]
