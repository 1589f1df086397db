"""From a sample's residual stream to its features: its mean, and pooled SAE latents.

Only the pooled tokens (response tokens without template and special tokens) count.
The result is small and sparse, and every scorer is a function of it, so that one
forward pass serves them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.data.problems import Problem
from geofilter.model.activations import TokenBudget, in_batches, residuals, to_device
from geofilter.model.chosen import widest
from geofilter.model.gradients import pushes, total_pushes
from geofilter.model.influence import Gradient, influences, is_predicted
from geofilter.model.loading import LoadedModel
from geofilter.model.threads import few_threads
from geofilter.settings import Pooling

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.own_answers import OwnAnswers

# Pooled latents of a group of samples, (samples, d_sae), or means: 256 MB in float32.
_POOLED_AT_ONCE = 2**26

NOT_FINITE = Problem("not_finite", "the model's activations hold NaN or infinity")
NO_TOKENS = Problem("no_response", "no response token is left to pool over")


@dataclass(frozen=True, slots=True)
class SampleFeatures:
    """What one sample's response activates in the model, and in its SAE where it has one.

    `latents` and `weights` are φ, the pooled latents that are not zero: ids ascending,
    values positive. `decoded` is Σ_f φ_f W_dec[f], (d_model,). `mean_hidden` is the mean
    residual stream over the `n_tokens` pooled tokens, (d_model,), whatever the pooling.
    The two sums, over tokens, are Σ|h − ĥ|² and Σ|h|², with ĥ the SAE's reconstruction.
    Without an SAE no latent is there to be active: `latents` and `weights` are empty,
    `decoded` is 0, and `squared_error` NaN.
    `push` is the sum over tokens of −∂ℓ/∂h, (d_model,), and `influence` that of training on the
    sample on a query (see `influence`), where the scorer asked for it. `answer_hidden` is the
    mean residual stream over the model's own answer to the prompt, (d_model,), likewise; NaN where
    there is no prompt or no answer.
    """

    latents: NDArray[np.int32]
    weights: NDArray[np.float32]
    decoded: NDArray[np.float32]
    mean_hidden: NDArray[np.float32]
    n_tokens: int
    squared_error: float
    squared_norm: float
    push: NDArray[np.float32] | None = None
    influence: float | None = None
    answer_hidden: NDArray[np.float32] | None = None

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
        response of one token has no spread about its own mean. NaN when the spread is 0, and
        without an SAE.
        """
        spread = self.spread(centre)
        return 1.0 - self.squared_error / spread if spread > 0 else float("nan")


def sample_features(
    model: LoadedModel,
    samples: "Sequence[Encoded]",
    *,
    pooling: Pooling = "mean",
    budget: TokenBudget | None = None,
    with_push: bool = False,
    query: Gradient | None = None,
    answers: "OwnAnswers | None" = None,
) -> list[SampleFeatures | Problem]:
    """Features of every sample, in order; a `Problem` where activations are not finite.

    Runs the blocks 0..L once per sample; `with_push` runs the whole model, forward and
    back to block L (see `gradients`), and so does a `query`, whose influence is then
    measured. With `answers` the model's own answers are read too. `budget` is shrunk when memory
    runs out; pass the same one again to profit from that.
    """
    budget = budget or TokenBudget.for_device(model.device)

    def work(batch: "list[Encoded]") -> list[SampleFeatures | Problem]:
        if query is not None:
            found = influences(model, batch, query)
            sums = found.influence.sum(dim=1).tolist()
            return [
                _with_influence(one, value if is_predicted(sample) else None)
                for one, value, sample in zip(
                    pool(model, found.hidden, batch, pooling), sums, batch, strict=True
                )
            ]
        if not with_push:
            return pool(model, residuals(model, batch), batch, pooling)
        hidden, push = pushes(model, batch)
        totals = total_pushes(push, batch)
        return [
            _with_push(one, total)
            for one, total in zip(pool(model, hidden, batch, pooling), totals, strict=True)
        ]

    usable = [sample for sample in samples if sample.pooled.any()]
    with few_threads(model.network):
        found = in_batches(usable, work, budget)
    if answers is not None:
        found = list(map(_with_answer, found, answers.means(usable)))
    each = iter(found)
    return [next(each) if sample.pooled.any() else NO_TOKENS for sample in samples]


def _with_answer(
    features: SampleFeatures | Problem, answer: NDArray[np.float32]
) -> SampleFeatures | Problem:
    return features if isinstance(features, Problem) else replace(features, answer_hidden=answer)


def _with_push(
    features: SampleFeatures | Problem, push: NDArray[np.float32]
) -> SampleFeatures | Problem:
    if isinstance(features, Problem):
        return features
    if not np.isfinite(push).all():
        return NOT_FINITE
    return replace(features, push=push)


def _with_influence(
    features: SampleFeatures | Problem, value: float | None
) -> SampleFeatures | Problem:
    """NaN stands for a sample that has no loss, and so no influence."""
    if isinstance(features, Problem):
        return features
    if value is not None and not np.isfinite(value):
        return NOT_FINITE
    return replace(features, influence=float("nan") if value is None else value)


def pool(
    model: LoadedModel, hidden: torch.Tensor, batch: "Sequence[Encoded]", pooling: Pooling
) -> list[SampleFeatures | Problem]:
    """Features of a batch from its residual streams, (batch, longest, d_model).

    Every sample must have at least one pooled token.
    """
    longest = hidden.shape[1]
    places = [row * longest + np.flatnonzero(sample.pooled) for row, sample in enumerate(batch)]
    features: list[SampleFeatures | Problem] = []
    step = max(1, _POOLED_AT_ONCE // max(model.d_sae, model.d_model))
    with torch.no_grad():
        tokens = hidden.reshape(-1, hidden.shape[-1])
        for start in range(0, len(batch), step):
            group = places[start : start + step]
            wanted = tokens[to_device(np.concatenate(group), model)].float()
            features += _pool_tokens(model, wanted, [len(place) for place in group], pooling)
    return features


def _pool_tokens(
    model: LoadedModel, hidden: torch.Tensor, per_sample: list[int], pooling: Pooling
) -> list[SampleFeatures | Problem]:
    """Features of samples from their pooled tokens, (tokens, d_model), one after the other."""
    samples = len(per_sample)
    counts = torch.tensor(per_sample).to(hidden.device)
    owner = torch.repeat_interleave(torch.arange(samples, device=hidden.device), counts)
    phi, squared_error = _pool_latents(model, hidden, owner, counts, pooling)

    squared_norm = torch.zeros_like(squared_error)
    squared_norm.index_add_(0, owner, _squared_lengths(hidden))
    mean_hidden = torch.zeros(samples, hidden.shape[1], device=hidden.device)
    mean_hidden.index_add_(0, owner, hidden)
    mean_hidden /= counts[:, None]
    decoded = phi @ model.decoder

    finite = torch.isfinite(squared_norm)
    if model.sae is not None:
        finite &= torch.isfinite(squared_error)
    for dense in (phi, decoded, mean_hidden):
        finite &= torch.isfinite(dense).all(dim=1)
    rows, columns = phi.nonzero(as_tuple=True)
    bounds = torch.searchsorted(rows, torch.arange(len(phi) + 1, device=phi.device)).tolist()
    latents = columns.to(torch.int32).cpu().numpy()
    values = phi[rows, columns].cpu().numpy()
    decoded_rows, mean_rows = decoded.cpu().numpy(), mean_hidden.cpu().numpy()
    errors, norms = squared_error.tolist(), squared_norm.tolist()
    return [
        SampleFeatures(
            latents=latents[bounds[row] : bounds[row + 1]].copy(),
            weights=values[bounds[row] : bounds[row + 1]].copy(),
            decoded=decoded_rows[row].copy(),
            mean_hidden=mean_rows[row].copy(),
            n_tokens=per_sample[row],
            squared_error=errors[row],
            squared_norm=norms[row],
        )
        if fine
        else NOT_FINITE
        for row, fine in enumerate(finite.tolist())
    ]


def _pool_latents(
    model: LoadedModel,
    hidden: torch.Tensor,
    owner: torch.Tensor,
    counts: torch.Tensor,
    pooling: Pooling,
) -> tuple[torch.Tensor, torch.Tensor]:
    """φ of each sample, (samples, d_sae), and Σ|h − ĥ|² over its tokens, (samples,).

    `owner` (tokens,) is the sample of each token, `counts` (samples,) how many tokens it has.
    """
    samples = len(counts)
    phi = torch.zeros(samples * model.d_sae, device=hidden.device)
    squared_error = torch.zeros(samples, dtype=widest(hidden.device), device=hidden.device)
    if model.sae is None:
        return phi.view(samples, 0), squared_error.fill_(torch.nan)
    for part, found in model.latent_encoder.encode(hidden):
        error = _squared_lengths(hidden[part] - found.reconstruction)
        squared_error.index_add_(0, owner[part], error)
        place = owner[part][found.token] * model.d_sae + found.latent
        if pooling == "mean":
            phi.index_add_(0, place, found.value)
        else:
            phi.scatter_reduce_(0, place, found.value, "amax")
    phi = phi.view(samples, model.d_sae)
    if pooling == "mean":
        phi /= counts[:, None]
    return phi, squared_error


def _squared_lengths(vectors: torch.Tensor) -> torch.Tensor:
    """|v|² of each row, (n,), summed in the widest type without a copy of the rows in it."""
    wide = widest(vectors.device)
    lengths: torch.Tensor = torch.linalg.vector_norm(vectors, dim=1, dtype=wide)
    return lengths.square()
