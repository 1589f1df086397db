"""Put a LoRA adapter into the weights of a network: W + scale · B A, and what it saved whole.

The result is what PEFT computes, to rounding, in as many blocks as the network has. A weight
that two modules share is parted first: the adapter of one does not belong to the other. A
weight that was rounded when it was loaded stays as it is, and scale · B A x is added to what the
layer gives.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn

from geofilter.errors import ModelError
from geofilter.model.adapter import Adapter
from geofilter.model.blocks import TOWERS, find_blocks
from geofilter.model.checkpoint import tensor_names
from geofilter.support.display import escape, shown

_PEFT = "base_model.model."
_PAIRS = {".lora_A.weight": ".lora_B.weight", ".lora_embedding_A": ".lora_embedding_B"}


class _Change(NamedTuple):
    """What an adapter holds for one module: factors A and B, or a whole parameter."""

    module: str
    down: torch.Tensor | None  # A
    up: torch.Tensor | None  # B
    parameter: str = "weight"
    whole: torch.Tensor | None = None
    embeds: bool = False


def merge(network: Any, adapter: Adapter, whole: bool) -> None:
    """Change the weights of `network` in place to those with `adapter`.

    `whole`: the network has all its blocks and its head; if not, what an adapter holds for later
    parts is left. Raises `ModelError` for what has no place in the network or another shape.
    """
    tensor_names(adapter.weights)
    tensors = load_file(adapter.weights)
    with torch.no_grad():
        for change in _changes(tensors, adapter):
            name = _own_name(network, change.module)
            if name is None:
                if _may_be_absent(network, change, whole):
                    continue
                raise _refusal(adapter, change.module, "has no place in the base model")
            _apply(network.get_submodule(name), change, adapter)


def _changes(tensors: dict[str, torch.Tensor], adapter: Adapter) -> Iterator[_Change]:
    """What was saved whole first, since the factors come on top of it."""
    pairs, left = [], dict(tensors)
    for name, down in tensors.items():
        for first, second in _PAIRS.items():
            if name.endswith(first):
                module = name.removesuffix(first)
                up = left.pop(module + second, None)
                if up is None:
                    raise _refusal(adapter, name, "has no second factor")
                embeds = "embedding" in first
                pairs.append(_Change(_plain(module), down, up, embeds=embeds))
                del left[name]
    for name, tensor in left.items():
        module, _, parameter = name.rpartition(".")
        if parameter not in ("weight", "bias") or "lora_" in name:
            raise _refusal(adapter, name, "is of a kind that is not read")
        yield _Change(_plain(module), None, None, parameter, tensor)
    yield from pairs


def _plain(module: str) -> str:
    """The name of a module without what PEFT puts around it."""
    return module.removeprefix(_PEFT).removesuffix(".base_layer")


def _own_name(network: Any, module: str) -> str | None:
    """What the network calls the module that the causal language model calls `module`.

    The base model alone, or the language part of a model of several, leaves out a beginning.
    """
    modules = dict(network.named_modules())
    parts = module.split(".")
    if any(tower in part for part in parts for tower in TOWERS):
        return None
    candidates = (".".join(parts[start:]) for start in range(len(parts)))
    return next((name for name in candidates if name in modules), None)


def _may_be_absent(network: Any, change: _Change, whole: bool) -> bool:
    """Whether the network can do without: later blocks, the head, and what sees or hears."""
    parts = change.module.split(".")
    if any(tower in part for part in parts for tower in TOWERS):
        return True
    # A forward pass up to any block enters the embedding.
    if whole or change.embeds:
        return False
    found = find_blocks(network)
    after = f".{change.module}".partition(f".{found.name}.")[2].partition(".")[0]
    return int(after) >= len(found.blocks) if after.isdecimal() else not _numbered(parts)


def _numbered(parts: Iterable[str]) -> bool:
    return any(part.isdecimal() for part in parts)


def _apply(module: nn.Module, change: _Change, adapter: Adapter) -> None:
    old = getattr(module, change.parameter, None)
    if isinstance(module, nn.Identity):
        return  # cut off with what no forward pass enters
    if isinstance(module, nn.Linear) and is_rounded(old) and change.whole is None:
        _add_aside(module, change, adapter)
        return
    if not isinstance(old, torch.Tensor) or not old.is_floating_point():
        raise _refusal(adapter, change.module, f"has no plain {change.parameter} in the base model")
    new = change.whole
    if change.down is not None and change.up is not None:
        new = _sum(module, old, change.down, change.up, adapter, change.module)
    assert new is not None
    if new.shape != old.shape:
        raise _refusal(
            adapter,
            change.module,
            f"is of shape {tuple(new.shape)} and {tuple(old.shape)} in the base model",
        )
    fresh = nn.Parameter(new.to(old.device, old.dtype), requires_grad=False)
    setattr(module, change.parameter, fresh)


def is_rounded(weight: object) -> bool:
    """Whether bitsandbytes holds this weight as whole numbers."""
    return isinstance(weight, torch.Tensor) and weight.dtype in (torch.uint8, torch.int8)


def _add_aside(module: nn.Linear, change: _Change, adapter: Adapter) -> None:
    """Let the layer add scale · B A x, in float32, to its output."""
    down, up = change.down, change.up
    assert down is not None
    assert up is not None
    wanted = ((len(down), module.in_features), (module.out_features, len(down)))
    if (tuple(down.shape), tuple(up.shape)) != wanted:
        raise _refusal(adapter, change.module, "has factors of another shape than the base model")
    device, scale = module.weight.device, adapter.scale(change.module, len(down))
    # As buffers they go where the layer goes, and into its fingerprint.
    module.register_buffer("adapter_down", down.float().to(device))
    module.register_buffer("adapter_up", up.float().to(device) * scale)

    def add(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = inputs[0].float() @ layer.adapter_down.T @ layer.adapter_up.T
        found: torch.Tensor = output + added.to(output.dtype)
        return found

    module.register_forward_hook(add)


def _sum(
    module: nn.Module,
    old: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    adapter: Adapter,
    name: str,
) -> torch.Tensor:
    """W + scale · B A in float32, transposed where the module keeps W so."""
    if down.ndim != 2 or up.ndim != 2 or up.shape[1] != len(down):
        raise _refusal(adapter, name, "has factors that do not go together")
    added = up.float() @ down.float() * adapter.scale(name, len(down))  # (out, in)
    if isinstance(module, nn.Embedding) or type(module).__name__ == "Conv1D":
        added = added.T
    if added.shape != old.shape:
        return added  # the caller says what differs
    return old.float() + added.to(old.device)


def _refusal(adapter: Adapter, name: str, why: str) -> ModelError:
    return ModelError(
        f"{shown(adapter.folder)}: {escape(name, limit=120)} {why}; the adapter was made for "
        f"another model than {escape(adapter.base, limit=120)}, or in a way that is not read here"
    )
