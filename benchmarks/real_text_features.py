"""One pass of a network over each row, and what is kept of it: all that a measurement needs.

Of every row the mean residual stream over its pooled tokens is kept at every block, and the
mean loss of its response; of some rows also the push of a training step on them. A row is
looked up by its tokens, so that a pass that was stopped goes on where it was, and rows that
several sets share are read once.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Unscorable
from geofilter.errors import ModelError
from geofilter.model.activations import TokenBudget, in_batches, padded
from geofilter.model.blocks import changed_at, find_blocks
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.gradients import head_at, response_tokens
from geofilter.model.loading import LoadedModel, load, read_texts
from real_text_sets import Item

Floats = NDArray[np.float32]

WINDOW = 512
# Padded tokens in a batch, forward, and forward and back.
FORWARD, BACK = 768, 256
MOST_WORDS = 100_000
# Rows between two saves, and two lines of progress.
AT_ONCE = 32


class Look(NamedTuple):
    """What is kept of one row.

    `means` (blocks, d_model): the mean residual stream over the pooled tokens at the output of
    each block. `loss`: the mean negative log-likelihood of the response's tokens, in nats; NaN
    for a model without a head. `tokens`: how many are pooled.
    """

    means: Floats
    loss: float
    tokens: int


class Side(NamedTuple):
    """One side of a set, row by row; `kept` are the places of its rows that have a sample."""

    means: Floats  # (rows, blocks, d_model)
    loss: NDArray[np.float64]
    tokens: NDArray[np.float64]
    kept: NDArray[np.int64]


def load_at_last_block(name: str, place: str) -> LoadedModel:
    """The model with all its blocks, and its head where it has one.

    The benchmark reads every block itself: the SAE of the model does not enter.
    """
    config, _ = read_texts(open_checkpoint(place), False)
    last = config.get_text_config().num_hidden_layers - 1
    sae = f"axes/{last}"
    if name != "minilm":
        return load(place, sae=sae, device="cpu", whole=True)
    return load(place, sae=sae, device="cpu")  # an encoder: it has no head that predicts


def encoder_of(model: LoadedModel) -> Encoder:
    """What makes tokens of the rows, for all that is measured with the model."""
    return Encoder(model.tokenizer, max_length=min(WINDOW, model.max_context))


def has_head(model: LoadedModel) -> bool:
    """Whether losses are measured: not where the head would cost more than all blocks."""
    vocabulary = int(model.network.config.get_text_config().vocab_size)
    return model.causal and vocabulary <= MOST_WORDS


@contextmanager
def _noted(network: Any, into: list[torch.Tensor], grown: bool) -> Iterator[None]:
    """Note the output of every block; with `grown`, the first begins a graph of gradients."""

    def note(hidden: torch.Tensor) -> torch.Tensor:
        if grown and not into:
            hidden = hidden.detach().requires_grad_(True)
        into.append(hidden)
        return hidden

    with ExitStack() as stack:
        for block in range(len(find_blocks(network).blocks)):
            stack.enter_context(changed_at(network, block, note))
        yield


def look(model: LoadedModel, batch: Sequence[Encoded]) -> list[Look]:
    """Of a batch, what is kept of each row."""
    seen: list[torch.Tensor] = []
    losses = np.full(len(batch), np.nan)
    with torch.no_grad(), ExitStack() as stack:
        stack.enter_context(_noted(model.network, seen, grown=False))
        if has_head(model):
            ids, targets, places = response_tokens(model, batch)
            stack.enter_context(head_at(model.network, places))
            logits = model.network(input_ids=ids, use_cache=False).logits[0]
            each = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
            owner = (places // ids.shape[1]).numpy()
            for row in range(len(batch)):
                mine = each.numpy()[owner == row]
                losses[row] = mine.mean() if len(mine) else np.nan
        else:
            ids, mask = padded(model, batch)
            if model.causal:
                stack.enter_context(head_at(model.network, torch.zeros(1, dtype=torch.long)))
            model.network(input_ids=ids, attention_mask=mask)
    found = []
    for row, sample in enumerate(batch):
        pooled = torch.from_numpy(np.flatnonzero(sample.pooled))
        means = torch.stack([hidden[row][pooled].float().mean(dim=0) for hidden in seen])
        found.append(Look(means.numpy(), float(losses[row]), len(pooled)))
    return found


def pushes(model: LoadedModel, batch: Sequence[Encoded]) -> list[Floats]:
    """−Σ_t ∂ℓ/∂h_t at the output of each block, (blocks, d_model) per row.

    As `geofilter.model.gradients.pushes` has it for one block, here for all from one pass.
    """
    ids, targets, places = response_tokens(model, batch)
    seen: list[torch.Tensor] = []
    with (
        torch.enable_grad(),
        _noted(model.network, seen, grown=True),
        head_at(model.network, places),
    ):
        logits = model.network(input_ids=ids, use_cache=False).logits[0]
        loss = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")
        gradients = torch.autograd.grad(loss, seen)
    totals = torch.stack([-one.float().sum(dim=1) for one in gradients], dim=1)
    return list(totals.numpy())


# -- kept on disk --------------------------------------------------------------------


@dataclass(frozen=True)
class Store:
    """Rows that were looked at before, in a folder of this model's own."""

    folder: Path

    @classmethod
    def of(cls, cache: Path, model: LoadedModel) -> "Store":
        parts = {**model.fingerprint, "dtype": "float32", "window": WINDOW}
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
        for kind in ("looks", "pushes", "features"):
            (cache / key / kind).mkdir(parents=True, exist_ok=True)
        return cls(cache / key)

    def path(self, kind: str, sample: Encoded) -> Path:
        content = sample.ids.tobytes() + sample.pooled.tobytes() + sample.response.tobytes()
        return self.folder / kind / (hashlib.sha256(content).hexdigest()[:32] + ".npz")

    def costs(self) -> dict[str, dict[str, float]]:
        """Tokens and seconds of all passes so far, by kind."""
        path = self.folder / "costs.json"
        found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def add_cost(self, kind: str, tokens: int, seconds: float) -> None:
        costs = self.costs()
        cost = costs.setdefault(kind, {"tokens": 0, "seconds": 0})
        costs[kind] = {
            "tokens": cost["tokens"] + tokens,
            "seconds": round(cost["seconds"] + seconds, 1),
        }
        (self.folder / "costs.json").write_text(json.dumps(costs))

    def save(self, kind: str, sample: Encoded, arrays: dict[str, Any]) -> None:
        path = self.path(kind, sample)
        half = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(half, **arrays)
        half.replace(path)


def encode(encoder: Encoder, items: Sequence[Item]) -> list[Encoded | None]:
    """Each row's sample; None where it has none."""
    found: list[Encoded | None] = []
    for item in items:
        try:
            found.append(encoder.encode(item.sample))
        except Unscorable:
            found.append(None)
    return found


def fill(store: Store, model: LoadedModel, samples: Sequence[Encoded], kind: str) -> None:
    """Look at the samples that are not in the store yet."""
    missing = [sample for sample in samples if not store.path(kind, sample).exists()]
    work, tokens = (look, FORWARD) if kind == "looks" else (pushes, BACK)
    for start in range(0, len(missing), AT_ONCE):
        began = time.monotonic()
        part = missing[start : start + AT_ONCE]
        results = in_batches(part, lambda batch: work(model, batch), TokenBudget(tokens))
        for sample, result in zip(part, results, strict=True):
            arrays = result._asdict() if isinstance(result, Look) else {"pushes": result}
            store.save(kind, sample, arrays)
        seen = sum(len(sample.ids) for sample in part)
        store.add_cost(kind, seen, time.monotonic() - began)


def side(store: Store, samples: Sequence[Encoded | None]) -> Side:
    """What the store holds of the samples. Raises `ModelError` for what is not finite."""
    kept = [place for place, sample in enumerate(samples) if sample is not None]
    rows = []
    for place in kept:
        with np.load(store.path("looks", samples[place])) as file:  # type: ignore[arg-type]
            rows.append(Look(file["means"], float(file["loss"]), int(file["tokens"])))
    means = np.stack([row.means for row in rows])
    if not np.isfinite(means).all():
        raise ModelError("activations of the real rows hold NaN or infinity")
    return Side(
        means,
        np.array([row.loss for row in rows]),
        np.array([float(row.tokens) for row in rows]),
        np.array(kept),
    )


def pushed(store: Store, samples: Sequence[Encoded | None]) -> Floats:
    """Pushes on the samples at every block, (rows, blocks, d_model)."""
    found = []
    for sample in samples:
        if sample is not None:
            with np.load(store.path("pushes", sample)) as file:
                found.append(file["pushes"])
    return np.stack(found)
