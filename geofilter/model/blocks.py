"""Find a network's transformer blocks, and run it up to one of them.

Everything here works on the modules themselves, whatever the architecture calls them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from geofilter.errors import ModelError
from geofilter.support.display import escape

# Parts of names that mark the towers of a model that sees or hears.
TOWERS = ("vision", "visual", "audio")


class BlockList(NamedTuple):
    """The transformer blocks of a network and the name of the module that holds them."""

    name: str
    blocks: nn.ModuleList


def find_blocks(network: nn.Module) -> BlockList:
    """Find the list of transformer blocks, whatever the architecture calls it.

    It is the outermost `ModuleList` as long as the configuration says there are blocks;
    in a model with other towers, the language model's. Raises `ModelError` otherwise.
    """
    config: Any = network.config
    depth = config.get_text_config().num_hidden_layers
    found = [
        BlockList(name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == depth
        and not any(tower in name for tower in TOWERS)
    ]
    if not found:
        raise ModelError(
            f"a model of type {escape(config.model_type)!r} has no list of {depth} blocks; "
            "geofilter needs a transformer with one residual stream"
        )
    return min(found, key=lambda candidate: candidate.name.count("."))


@contextmanager
def changed_at(
    network: Any, block: int, change: Callable[[torch.Tensor], torch.Tensor]
) -> Iterator[None]:
    """Let `change` replace the residual stream at the output of `block`, while this is open."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    handle = find_blocks(network).blocks[block].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _BlockReached(Exception):
    """Carries the residual stream out of the forward pass."""

    def __init__(self, residual: torch.Tensor) -> None:
        self.residual = residual


def run_to_block(
    network: Any, block: int, token_ids: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Residual stream at the output of block `block`; later blocks do not run.

    `token_ids` is (batch, tokens), and so is the attention mask, which only a network
    that is not causal needs where there is padding; the result is (batch, tokens,
    d_model). No gradients. Raises `ModelError` when the forward pass never gets there.
    """

    def stop(hidden: torch.Tensor) -> torch.Tensor:
        raise _BlockReached(hidden)

    try:
        with torch.no_grad(), changed_at(network, block, stop):
            network(input_ids=token_ids, attention_mask=mask, use_cache=False)
    except _BlockReached as reached:
        return reached.residual
    raise ModelError(f"the forward pass never runs block {block}")


def is_causal(network: Any, block: int) -> bool:
    """Whether a token at the output of `block` sees only itself and those before it.

    Found by trying: no field of a configuration says it for every architecture.
    """
    device = network.get_input_embeddings().weight.device
    # Several followers, in case two of them have one embedding.
    token_ids = torch.tensor([[5, 6], [5, 7], [5, 8], [5, 9]], device=device)
    first = run_to_block(network, block, token_ids)[:, 0].float()
    return torch.allclose(first, first[:1].expand_as(first), rtol=1e-3, atol=1e-4)


def modules_run(network: Any, block: int) -> set[str]:
    """Names of the modules that a forward pass enters before block `block` is done."""
    entered: set[str] = set()

    def noted(name: str) -> Callable[[Any, Any], None]:
        return lambda _module, _inputs: entered.add(name)

    handles = [
        module.register_forward_pre_hook(noted(name)) for name, module in network.named_modules()
    ]
    try:
        device = network.get_input_embeddings().weight.device
        run_to_block(network, block, torch.tensor([[5]], device=device))
    finally:
        for handle in handles:
            handle.remove()
    return entered
