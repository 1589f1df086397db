"""From a sample's residual stream to its features: pooled SAE latents.

Only the pooled tokens (response tokens without template and special tokens) count.
The result is small and sparse, and every scorer is a function of it, so that one
forward pass serves them all. This module knows nothing about packs or scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.activations import TokenBudget, in_batches, residuals
from geofilter.layouts import Problem
from geofilter.models import LoadedModel

if TYPE_CHECKING:
    from geofilter.conversation import Encoded

Pooling = Literal["mean", "max"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max")

# Latents held at once, (tokens, d_sae): 256 MB in float32.
_LATENTS_AT_ONCE = 2**26

NOT_FINITE = Problem("not_finite", "the model's activations hold NaN or infinity")
NO_TOKENS = Problem("no_response", "no response token is left to pool over")


@dataclass(frozen=True, slots=True)
class SampleFeatures:
    """What one sample's response woke in the SAE.

    `latents` and `weights` are φ, the pooled latents that are not zero: ids ascending,
    values positive. `decoded` is Σ_f φ_f W_dec[f], (d_model,). `mean_hidden` is the mean
    residual stream over the `n_tokens` pooled tokens, (d_model,), whatever the pooling.
    The two sums, over tokens, are Σ|h − ĥ|² and Σ|h|², with ĥ the SAE's reconstruction.
    """

    latents: NDArray[np.int32]
    weights: NDArray[np.float32]
    decoded: NDArray[np.float32]
    mean_hidden: NDArray[np.float32]
    n_tokens: int
    squared_error: float
    squared_norm: float

    def spread(self, centre: NDArray[np.float32]) -> float:
        """Σ|h − centre|² over the pooled tokens, from the sums that are kept."""
        mean = self.mean_hidden.astype(np.float64)
        middle = centre.astype(np.float64)
        cross = float(mean @ middle)
        spread = self.squared_norm + self.n_tokens * (float(middle @ middle) - 2 * cross)
        return max(spread, 0.0)

    def explained_variance(self, centre: NDArray[np.float32]) -> float:
        """1 − Σ|h − ĥ|² / Σ|h − centre|² over the pooled tokens; at most 1, may be negative.

        `centre` is a fixed mean residual stream (the pack's), not the sample's own: a
        response of one token has no spread about its own mean. NaN when the spread is 0.
        """
        spread = self.spread(centre)
        return 1.0 - self.squared_error / spread if spread > 0 else float("nan")


def sample_features(
    model: LoadedModel,
    samples: "Sequence[Encoded]",
    *,
    pooling: Pooling = "mean",
    budget: TokenBudget | None = None,
) -> list[SampleFeatures | Problem]:
    """Features of every sample, in order; a `Problem` where activations are not finite.

    Runs the blocks 0..L once per sample. `budget` is shrunk when memory runs out; pass
    the same one again to profit from that.
    """
    budget = budget or TokenBudget.for_device(model.device)

    def work(batch: "list[Encoded]") -> list[SampleFeatures | Problem]:
        return pool(model, residuals(model, batch), batch, pooling)

    answers = iter(in_batches([sample for sample in samples if sample.pooled.any()], work, budget))
    return [next(answers) if sample.pooled.any() else NO_TOKENS for sample in samples]


def pool(
    model: LoadedModel, hidden: torch.Tensor, batch: "Sequence[Encoded]", pooling: Pooling
) -> list[SampleFeatures | Problem]:
    """Features of a batch from its residual streams, (batch, longest, d_model).

    Every sample must have at least one pooled token.
    """
    with torch.no_grad():
        per_sample = [_pooled_tokens(hidden[row], sample) for row, sample in enumerate(batch)]
        finite = [bool(torch.isfinite(tokens).all()) for tokens in per_sample]
        usable = [tokens for tokens, fine in zip(per_sample, finite, strict=True) if fine]
        pooled = iter(_pool_usable(model, usable, pooling) if usable else [])
        return [next(pooled) if fine else NOT_FINITE for fine in finite]


def _pooled_tokens(hidden: torch.Tensor, sample: "Encoded") -> torch.Tensor:
    """The residual stream at a sample's pooled tokens, (pooled, d_model)."""
    mask = torch.as_tensor(sample.pooled, dtype=torch.bool, device=hidden.device)
    return hidden[: len(mask)][mask]


def _pool_usable(
    model: LoadedModel, per_sample: list[torch.Tensor], pooling: Pooling
) -> list[SampleFeatures | Problem]:
    counts = torch.tensor([len(tokens) for tokens in per_sample], device=model.device)
    owner = torch.repeat_interleave(torch.arange(len(per_sample), device=model.device), counts)
    hidden = torch.cat(per_sample).float()  # (tokens, d_model)

    phi = torch.zeros(len(per_sample), model.d_sae, device=model.device)
    squared_error = torch.zeros(len(per_sample), dtype=torch.float64, device=model.device)
    step = max(1, _LATENTS_AT_ONCE // model.d_sae)
    for start in range(0, len(hidden), step):
        part = slice(start, start + step)
        latents = model.sae.encode(hidden[part]).float()  # (step, d_sae)
        # Decoded at once: run-time normalisation keeps its constants only until then.
        rebuilt = model.sae.decode(latents.to(model.sae.dtype)).float()
        error = (hidden[part] - rebuilt).double().square().sum(dim=-1)
        squared_error.index_add_(0, owner[part], error)
        _pool_into(phi, latents, owner[part], pooling)
    if pooling == "mean":
        phi /= counts[:, None]

    squared_norm = torch.zeros_like(squared_error)
    squared_norm.index_add_(0, owner, hidden.double().square().sum(dim=-1))
    mean_hidden = torch.zeros(len(per_sample), hidden.shape[1], device=model.device)
    mean_hidden.index_add_(0, owner, hidden)
    mean_hidden /= counts[:, None]
    decoded = phi @ model.decoder
    return _to_features(phi, decoded, mean_hidden, counts, squared_error, squared_norm)


def _pool_into(
    phi: torch.Tensor, latents: torch.Tensor, owner: torch.Tensor, pooling: Pooling
) -> None:
    if pooling == "mean":
        phi.index_add_(0, owner, latents)
    else:
        phi.scatter_reduce_(0, owner[:, None].expand_as(latents), latents, "amax")


def _to_features(
    phi: torch.Tensor,
    decoded: torch.Tensor,
    mean_hidden: torch.Tensor,
    counts: torch.Tensor,
    squared_error: torch.Tensor,
    squared_norm: torch.Tensor,
) -> list[SampleFeatures | Problem]:
    """Bring the pooled tensors off the device and make them sparse, one per sample."""
    finite = (
        torch.isfinite(phi).all(dim=1)
        & torch.isfinite(squared_error)
        & torch.isfinite(decoded).all(dim=1)
        & torch.isfinite(mean_hidden).all(dim=1)
    ).tolist()
    rows, columns = phi.nonzero(as_tuple=True)
    values = phi[rows, columns].cpu().numpy()
    bounds = torch.searchsorted(rows, torch.arange(len(phi) + 1, device=phi.device)).tolist()
    latents = columns.to(torch.int32).cpu().numpy()
    dense, hidden = decoded.cpu().numpy(), mean_hidden.cpu().numpy()
    return [
        SampleFeatures(
            latents=latents[bounds[row] : bounds[row + 1]].copy(),
            weights=values[bounds[row] : bounds[row + 1]].copy(),
            decoded=dense[row].copy(),
            mean_hidden=hidden[row].copy(),
            n_tokens=int(counts[row]),
            squared_error=float(squared_error[row]),
            squared_norm=float(squared_norm[row]),
        )
        if finite[row]
        else NOT_FINITE
        for row in range(len(phi))
    ]
