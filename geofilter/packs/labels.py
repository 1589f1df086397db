"""A few words for each toxic feature: the tokens at which it is most active.

Read off the rows that the features were chosen on, so that no unembedding is needed.
A hint for the reader; it enters no score.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.model.activations import TokenBudget, in_batches, residuals
from geofilter.model.loading import LoadedModel

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats = NDArray[np.float32]

TOKENS_PER_LABEL = 5
# Samples that are looked at. More would take time and hardly change the words.
_MOST_SAMPLES = 200


def label_features(
    model: LoadedModel,
    ids: NDArray[np.int32],
    samples: "Sequence[Encoded]",
    *,
    budget: TokenBudget | None = None,
) -> tuple[tuple[str, ...], ...]:
    """The distinct pooled tokens at which each of the latents `ids` was greatest, best first.

    Tokens are as the tokenizer decodes them, unescaped. A label is shorter, or empty,
    where the latent fired at fewer tokens.
    """
    if not len(ids):
        return ()
    usable = [sample for sample in samples[:_MOST_SAMPLES] if sample.pooled.any()]
    budget = budget or TokenBudget.for_device(model.device)
    greatest: list[dict[int, float]] = [{} for _ in ids]
    for tokens, activations in in_batches(
        usable, lambda batch: token_activations(model, ids, batch), budget
    ):
        if not np.isfinite(activations).all():
            continue
        for token, place in np.argwhere(activations > 0):
            word, value = int(tokens[token]), float(activations[token, place])
            greatest[place][word] = max(value, greatest[place].get(word, 0.0))
    return tuple(_words(model, found) for found in greatest)


def token_activations(
    model: LoadedModel, ids: NDArray[np.int32], batch: "Sequence[Encoded]"
) -> list[tuple[NDArray[np.int32], Floats]]:
    """Per sample its pooled tokens, (n,), and the latents `ids` at each of them, (n, k).

    `batch` is one batch of the model; every sample has a pooled token. NaN throughout
    where the model's activations in a sample are not finite.
    """
    place_of = torch.full((model.d_sae,), -1, device=model.device)
    place_of[torch.as_tensor(ids, dtype=torch.long)] = torch.arange(len(ids), device=model.device)
    results = []
    hidden = residuals(model, batch)
    for row, sample in enumerate(batch):
        pooled = np.flatnonzero(sample.pooled)
        states = hidden[row, pooled.tolist()].float()
        activations = torch.zeros(len(pooled), len(ids), device=model.device)
        with torch.no_grad():
            for part, latents in model.latent_encoder.encode(states):
                column = place_of[latents.latent]
                known = column >= 0
                activations[part[latents.token[known]], column[known]] = latents.value[known]
        if not torch.isfinite(states).all():
            activations.fill_(torch.nan)
        results.append((np.asarray(sample.ids)[pooled], activations.cpu().numpy()))
    return results


def _words(model: LoadedModel, found: dict[int, float]) -> tuple[str, ...]:
    words: list[str] = []
    # Equal activations in the order of the vocabulary, so that no row order decides.
    for token in sorted(found, key=lambda token: (-found[token], token)):
        word = model.tokenizer.decode([token]).strip()
        if word and word not in words:
            words.append(word)
        if len(words) == TOKENS_PER_LABEL:
            break
    return tuple(words)
