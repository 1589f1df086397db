"""The push that one training step on a sample gives the residual stream at block L.

A step against the loss ℓ moves the residual stream h_t at the output of block L by
−∂ℓ/∂h_t, to first order and up to the learning rate. What has a component along a toxic
feature's direction strengthens that feature, wanted or not: gradient spillover
(Minegishi et al. 2026), which the scorer `spillover` measures. One forward pass, and one
backward pass down to block L; no gradient of any weight.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from geofilter.errors import ModelError
from geofilter.model.activations import TokenBudget, padded, to_device
from geofilter.model.blocks import changed_at
from geofilter.model.loading import LoadedModel
from geofilter.model.quantized import is_quantized
from geofilter.support.display import shown

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

# Logits held at once: a gigabyte in float32, and nearly four on the way back.
LOGITS_AT_ONCE = 2**28


class Pushed(NamedTuple):
    """A batch at the output of block L: its residual stream and the push on it.

    Both (batch, longest, d_model), on the device; positions past a sample's own tokens
    hold values without meaning in `hidden` and zeros in `push`.
    """

    hidden: torch.Tensor
    push: torch.Tensor


def require_whole(model: LoadedModel) -> None:
    """Raise `ModelError` unless the model has its later blocks and a head to train with."""
    if not model.causal:
        raise ModelError(
            f"{shown(model.name)}: is no causal language model, so that it has no "
            "training loss; use --scorer nearest or persona"
        )
    if _head(model.network) is None:
        raise ModelError(
            f"{shown(model.name)}: was loaded without its later blocks and head, which "
            "this scorer needs; load it with whole=True"
        )


def _head(network: Any) -> Any:
    return network.get_output_embeddings()


def spillover_budget(model: LoadedModel, budget: TokenBudget) -> TokenBudget:
    """`budget`, but no more than the logits of a batch allow."""
    vocabulary = int(model.network.config.get_text_config().vocab_size)
    return TokenBudget(max(1, min(budget.tokens, LOGITS_AT_ONCE // vocabulary)))


def pushes(model: LoadedModel, batch: "Sequence[Encoded]") -> Pushed:
    """−∂ℓ/∂h at the output of block L, where ℓ is a sample's loss summed over its response.

    ℓ is the negative log-likelihood, in nats, of the tokens that a trainer puts loss on,
    each predicted from the token before it. A sample's push is that of its own loss
    alone. In the network's dtype; the loss is in float32.
    """
    ids, targets, places = response_tokens(model, batch)
    leaf: list[torch.Tensor] = []

    def cut(hidden: torch.Tensor) -> torch.Tensor:
        leaf.append(hidden.detach().requires_grad_(True))
        return leaf[0]

    with (
        torch.enable_grad(),
        changed_at(model.network, model.block, cut),
        head_at(model.network, places),
    ):
        logits = model.network(input_ids=ids, use_cache=False).logits[0]
    if len(targets):
        loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, leaf[0])
    else:
        gradient = torch.zeros_like(leaf[0])
    return Pushed(leaf[0].detach(), -gradient)


def response_tokens(
    model: LoadedModel, batch: "Sequence[Encoded]"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Padded ids (batch, longest); each response token; the flat place that predicts it."""
    ids, _ = padded(model, batch)
    wanted = np.zeros(ids.shape, bool)
    for row, sample in enumerate(batch):
        wanted[row, : len(sample.ids)] = sample.response
    # Nothing predicts the first token.
    wanted[:, 0] = False
    places = to_device(np.flatnonzero(wanted) - 1, model)
    return ids, ids.flatten()[places + 1], places


@contextmanager
def head_at(network: Any, places: torch.Tensor) -> Iterator[None]:
    """Let the head see only the tokens at `places` of the flattened batch, as one row.

    Logits of a whole batch may be gigabytes, and most carry no loss.
    """

    def select(_module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden, *others = inputs
        return (hidden.reshape(-1, hidden.shape[-1])[places][None], *others)

    handle = _head(network).register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def token_pushes(
    model: LoadedModel, batch: "Sequence[Encoded]", direction: NDArray[np.float32]
) -> list[NDArray[np.float32]]:
    """Σ_s ⟨−∂ℓ_t/∂h_s, direction⟩ of the loss ℓ_t of each token alone: (tokens,) per sample.

    How much likelier token t becomes, in nats, as the residual stream at the output of block L
    moves along `direction` (d_model,) at every token: by forward differentiation, in one
    pass for all tokens. They sum to the sample's push along `direction`. NaN at tokens
    without a loss. Raises `ModelError` where bitsandbytes has rounded the weights.
    """
    if is_quantized(model.network):
        raise ModelError(
            f"{shown(model.name)}: cannot be differentiated forwards, for its weights are rounded; "
            "a score by spillover is divided among tokens without --load-in only"
        )
    ids, targets, places = response_tokens(model, batch)
    along = torch.from_numpy(direction).to(model.device)

    def lean(hidden: torch.Tensor) -> torch.Tensor:
        tangent = along.to(hidden.dtype).expand_as(hidden).contiguous()
        dual: torch.Tensor = forward_ad.make_dual(hidden, tangent)  # type: ignore[no-untyped-call]
        return dual

    with (
        torch.no_grad(),
        forward_ad.dual_level(),
        # Only this form of attention can be differentiated forwards.
        sdpa_kernel(SDPBackend.MATH),
        changed_at(model.network, model.block, lean),
        head_at(model.network, places),
    ):
        logits = model.network(input_ids=ids, use_cache=False).logits[0].float()
        logs = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        change = forward_ad.unpack_dual(logs).tangent  # type: ignore[no-untyped-call]
    found = np.full(ids.shape, np.nan, np.float32)
    flat = found.reshape(-1)
    if len(targets):
        flat[(places + 1).cpu().numpy()] = change.cpu().numpy()
    return [found[row, : len(sample.ids)].copy() for row, sample in enumerate(batch)]


def total_pushes(push: torch.Tensor, batch: "Sequence[Encoded]") -> list[NDArray[np.float32]]:
    """Σ_t of each sample's push over all its tokens, (d_model,), in float32."""
    totals: NDArray[np.float32] = push.float().sum(dim=1).cpu().numpy()
    return [totals[row].copy() for row in range(len(batch))]
