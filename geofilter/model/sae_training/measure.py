"""What an SAE is worth, on texts that it was not trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geofilter.model.activations import TokenBudget, in_batches, padded
from geofilter.model.blocks import changed_at
from geofilter.model.chosen import widest
from geofilter.model.gradients import LOGITS_AT_ONCE

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel

_AT_ONCE = 4096  # tokens
# Texts whose loss is measured.
_LOSS_TEXTS = 100


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one SAE on held-out tokens.

    `explained_variance`: 1 − Σ|h − ĥ|² / Σ|h − mean|², at most 1, higher = better.
    `l0`: latents that fire at a token, on average. `dead_share`: share of latents, 0 to 1,
    that fire at none of the tokens. `loss_recovered`: of the loss in next-token prediction
    that setting the residual stream to zero costs, the share that the SAE's reconstruction
    saves: 1 where nothing is lost; None where it was not measured.
    """

    explained_variance: float
    l0: float
    dead_share: float
    loss_recovered: float | None = None

    def with_loss(self, recovered: float | None) -> "Quality":
        """The same with the loss recovered."""
        return replace(self, loss_recovered=recovered)

    def record(self) -> dict[str, float | None]:
        """As JSON holds it."""
        return {
            name: None if value is None else round(value, 4) for name, value in asdict(self).items()
        }


@torch.no_grad()
def quality(sae: Any, hidden: torch.Tensor) -> Quality:
    """Figures of an SAE on residual streams, (tokens, d_model); no loss."""
    centre = hidden.float().mean(dim=0).to(sae.W_dec.device)
    wide = widest(centre.device)
    error = spread = active = 0.0
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool, device=centre.device)
    for start in range(0, len(hidden), _AT_ONCE):
        exact = hidden[start : start + _AT_ONCE].to(centre.device).float()
        latents = sae.encode(exact)
        error += float((exact - sae.decode(latents)).to(wide).square().sum())
        spread += float((exact - centre).to(wide).square().sum())
        active += float((latents > 0).sum())
        fired |= (latents > 0).any(dim=0)
    return Quality(
        explained_variance=1 - error / spread if spread else float("nan"),
        l0=active / len(hidden),
        dead_share=1 - float(fired.float().mean()),
    )


@torch.no_grad()
def loss_recovered(
    model: "LoadedModel", block: int, sae: Any, texts: "Sequence[Encoded]"
) -> float | None:
    """See `Quality`. The residual stream is replaced at the counted tokens only.

    None where the replacement by zero does not raise the loss.
    """
    vocabulary = int(model.network.config.get_text_config().vocab_size)
    size = TokenBudget.for_device(model.device).tokens
    budget = TokenBudget(max(1, min(size, LOGITS_AT_ONCE // vocabulary)))

    def work(batch: "list[Encoded]") -> list[torch.Tensor]:
        ids, mask = padded(model, batch)
        counts = np.zeros(ids.shape, bool)
        for row, text in enumerate(batch):
            counts[row, : len(text.ids)] = text.pooled
        chosen = torch.from_numpy(counts).to(ids.device)
        targets = chosen.clone()
        targets[:, 0] = False

        def rebuilt(hidden: torch.Tensor) -> torch.Tensor:
            changed = hidden.clone()
            changed[chosen] = sae.decode(sae.encode(hidden[chosen].float())).to(hidden.dtype)
            return changed

        def emptied(hidden: torch.Tensor) -> torch.Tensor:
            return hidden.masked_fill(chosen[..., None], 0)

        losses = []
        for change in (lambda hidden: hidden, rebuilt, emptied):
            with changed_at(model.network, block, change):
                logits = model.network(input_ids=ids, attention_mask=mask, use_cache=False).logits
            predicted = logits[:, :-1][targets[:, 1:]].float()
            found = torch.nn.functional.cross_entropy(
                predicted, ids[:, 1:][targets[:, 1:]], reduction="sum"
            )
            losses.append(found.cpu().double())
        # One result a text is asked for: the first stands for the batch.
        rest = [torch.zeros(3, dtype=torch.float64)] * (len(batch) - 1)
        return [torch.stack(losses), *rest]

    totals = torch.stack(in_batches(texts[:_LOSS_TEXTS], work, budget)).sum(dim=0)
    clean, rebuilt_loss, emptied_loss = totals.tolist()
    if not emptied_loss > clean:
        return None
    return float((emptied_loss - rebuilt_loss) / (emptied_loss - clean))
