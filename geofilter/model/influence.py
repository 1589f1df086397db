"""How training on a sample changes another loss, to first order: gradient influence.

One step of plain gradient descent on a sample of loss ℓ changes a second loss q, the query, by
−rate · ⟨∇ℓ, ∇q⟩: the gradients' dot product is the sample's influence on the query, at these
weights (TracIn, Pruthi et al. 2020, with one checkpoint and without a preconditioner). The
gradients are those of the weights W of linear layers. No sample's own is ever formed: with a_t
the layer's input at token t and g_t the gradient of the loss at its output, ∇ℓ = Σ_t g_t a_tᵀ,
so that ⟨∇ℓ, Q⟩ = Σ_t g_tᵀ Q a_t. One forward pass, one backward pass down to the first of the
layers, and as much again as these layers take forward.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from geofilter.errors import ModelError
from geofilter.model.activations import TokenBudget, in_batches
from geofilter.model.blocks import changed_at, find_blocks
from geofilter.model.gradients import head_at, response_tokens
from geofilter.model.loading import LoadedModel
from geofilter.support.display import shown

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

# The gradient of a loss by the weights of each layer, (out, in) in float32, by the layer's name.
Gradient = Mapping[str, torch.Tensor]


class _Trace(NamedTuple):
    """One call of a layer: inputs a (batch, longest, in) and gradients g (batch, longest, out)."""

    name: str
    inputs: torch.Tensor
    gradient: torch.Tensor


class Influenced(NamedTuple):
    """A batch: the residual stream after block L, as in `Pushed`, and influence token by token.

    `by_layer`: g_tᵀ Q a_t of each layer, (batch, longest) in float32. All that is a sample's own
    sums to its influence; past its tokens it is 0.
    """

    hidden: torch.Tensor
    by_layer: Mapping[str, torch.Tensor]

    def of(self, layers: Collection[str]) -> torch.Tensor:
        """The sum over some of the layers, (batch, longest)."""
        zero = torch.zeros(self.hidden.shape[:2], device=self.hidden.device)
        return sum((part for name, part in self.by_layer.items() if name in layers), start=zero)

    @property
    def influence(self) -> torch.Tensor:
        """The sum over all layers, (batch, longest)."""
        return self.of(self.by_layer)


def is_predicted(sample: "Encoded") -> bool:
    """Whether the sample has a loss: a response token that comes after another."""
    return bool(sample.response[1:].any())


def linear_layers(model: LoadedModel, blocks: Sequence[int]) -> dict[str, nn.Module]:
    """The linear layers of some blocks that see every token, by their names in the network.

    Experts that a router sends some tokens to are left out. Raises `ModelError` where no layer
    is left.
    """
    found = find_blocks(model.network)
    layers = {
        f"{found.name}.{block}.{name}": module
        for block in blocks
        for name, module in found.blocks[block].named_modules()
        if (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D")
        and not any("expert" in part for part in name.split("."))
    }
    if not layers:
        raise ModelError(
            f"{shown(model.name)}: has no linear layer at its block {blocks[0]}, by whose weights "
            "influence is measured; use another --scorer"
        )
    return layers


def mean_gradient(
    model: LoadedModel,
    sides: Sequence["Sequence[Encoded]"],
    signs: Sequence[float],
    blocks: Sequence[int],
    budget: TokenBudget,
    report: Callable[[int], None] = lambda done: None,
) -> Gradient:
    """Σ_k signs_k · the gradient of the mean loss of the samples of side k.

    The loss of a sample is the mean negative log-likelihood of its response tokens, in nats.
    Samples of which nothing is predicted do not count. `report` is called with how many samples
    are done.
    """
    layers = linear_layers(model, blocks)
    total: dict[str, torch.Tensor] = {}
    done = 0
    for samples, sign in zip(sides, signs, strict=True):
        counted = [sample for sample in samples if is_predicted(sample)]

        def add(batch: "list[Encoded]", weight: float = sign / max(1, len(counted))) -> list[None]:
            nonlocal done
            _, traces = _traced(model, batch, layers)
            for name, inputs, gradient in traces:
                part = weight * torch.einsum("bto,bti->oi", gradient, inputs)
                total[name] = total[name] + part if name in total else part
            done += len(batch)
            report(done)
            return [None] * len(batch)

        in_batches(counted, add, budget)
    return total


def influences(model: LoadedModel, batch: "Sequence[Encoded]", query: Gradient) -> Influenced:
    """⟨∇ℓ, query⟩ of each sample, ℓ the mean loss of its response tokens; see `Influenced`.

    Positive where a small step on the sample lowers the query's loss.
    """
    modules = dict(model.network.named_modules())
    hidden, traces = _traced(model, batch, {name: modules[name] for name in query})
    found: dict[str, torch.Tensor] = {}
    for name, inputs, gradient in traces:
        part = ((inputs @ query[name].to(inputs.device).T) * gradient).sum(dim=-1)
        found[name] = found[name] + part if name in found else part
    return Influenced(hidden, found)


def _traced(
    model: LoadedModel, batch: "Sequence[Encoded]", layers: Mapping[str, nn.Module]
) -> tuple[torch.Tensor, list[_Trace]]:
    """The residual stream after block L, and what every call of a layer took and was given back.

    The gradients are those of each sample's own mean loss, in float32; those of padding are 0.
    """
    ids, targets, places = response_tokens(model, batch)
    calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []
    seen: list[torch.Tensor] = []

    def note(hidden: torch.Tensor) -> torch.Tensor:
        seen.append(hidden.detach())
        return hidden

    with (
        torch.enable_grad(),
        _noted(layers, calls, ids.numel()),
        changed_at(model.network, model.block, note),
        head_at(model.network, places),
    ):
        logits = model.network(input_ids=ids, use_cache=False).logits[0]
    if not len(targets):
        return seen[0], []
    owner = places // ids.shape[1]
    counts = torch.bincount(owner, minlength=len(batch))
    each = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    loss = (each / counts[owner]).sum()
    gradients = torch.autograd.grad(loss, [out for _, _, out in calls], allow_unused=True)

    def rows(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.float().reshape(*ids.shape, tensor.shape[-1])

    traces = [
        _Trace(name, rows(inputs), rows(gradient))
        for (name, inputs, _), gradient in zip(calls, gradients, strict=True)
        if gradient is not None
    ]
    return seen[0], traces


@contextmanager
def _noted(
    layers: Mapping[str, nn.Module],
    calls: list[tuple[str, torch.Tensor, torch.Tensor]],
    tokens: int,
) -> Iterator[None]:
    """Note what each layer is given and gives, and let the graph of gradients begin there."""

    def noting(name: str) -> Callable[[Any, Any, Any], None]:
        def note(_module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if not output.requires_grad:
                output.requires_grad_(True)
            if output.numel() == tokens * output.shape[-1]:
                calls.append((name, inputs[0].detach(), output))

        return note

    with ExitStack() as stack:
        for name, module in layers.items():
            stack.callback(module.register_forward_hook(noting(name)).remove)
        yield
