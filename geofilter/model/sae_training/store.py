"""Residual streams of several blocks, in a file of bounded size that outlives an interruption.

One row per token, in bfloat16: half the size of float32, and no overflow.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from geofilter.model.activations import TokenBudget, in_batches, padded
from geofilter.model.blocks import changed_at, run_to_block
from geofilter.model.sae_training.texts import counted

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.model.loading import LoadedModel

# Texts that go through the model between two notes of how far it is.
_AT_ONCE = 64


def streams_of(
    model: "LoadedModel", texts: "Sequence[Encoded]", blocks: Sequence[int], budget: TokenBudget
) -> torch.Tensor:
    """Residual streams at the counted tokens, (tokens, blocks, d_model) bfloat16, on the CPU.

    In the order of the texts and of `blocks`; `model.block` is the last of them.
    """

    def work(batch: "list[Encoded]") -> list[torch.Tensor]:
        kept: dict[int, torch.Tensor] = {}

        def keep(block: int) -> Any:
            def note(hidden: torch.Tensor) -> torch.Tensor:
                kept[block] = hidden
                return hidden

            return note

        ids, mask = padded(model, batch)
        with ExitStack() as stack:
            for block in blocks:
                if block != blocks[-1]:
                    stack.enter_context(changed_at(model.network, block, keep(block)))
            kept[blocks[-1]] = run_to_block(model.network, blocks[-1], ids, mask)
        each = []
        for row, text in enumerate(batch):
            places = torch.from_numpy(np.flatnonzero(text.pooled)).to(ids.device)
            parts = [kept[block][row, places].to(torch.bfloat16) for block in blocks]
            each.append(torch.stack(parts, dim=1).cpu())
        return each

    return torch.cat(in_batches(texts, work, budget))


class Store:
    """One part of the training texts at a time, as residual streams in a file.

    `parts` lists the texts of each part; a part's residual streams take up at most
    `megabytes`.
    """

    def __init__(
        self,
        path: Path,
        texts: "Sequence[Encoded]",
        blocks: Sequence[int],
        d_model: int,
        megabytes: int,
    ) -> None:
        self._path, self._blocks, self._d_model = path, list(blocks), d_model
        most = max(1, megabytes * 10**6 // (2 * d_model * len(blocks)))
        self.parts: list[list[Encoded]] = [[]]
        size = 0
        for text in texts:
            if size and size + counted(text) > most:
                self.parts.append([])
                size = 0
            self.parts[-1].append(text)
            size += counted(text)
        self._budget: TokenBudget | None = None

    def tokens(self, part: int) -> int:
        """How many tokens a part has."""
        return sum(counted(text) for text in self.parts[part])

    def open(self, part: int) -> torch.Tensor:
        """A part's residual streams, (tokens, blocks, d_model), mapped from the file."""
        shape = self.tokens(part), len(self._blocks), self._d_model
        size = int(np.prod(shape))
        mapped = torch.from_file(str(self._path), shared=True, size=size, dtype=torch.bfloat16)
        return mapped.view(shape)

    def fill(self, model: "LoadedModel", part: int, done: int, mapped: torch.Tensor) -> int:
        """Run some more texts of a part, of which `done` are there; how many are there then."""
        texts = self.parts[part]
        self._budget = self._budget or TokenBudget.for_device(model.device)
        start = sum(counted(text) for text in texts[:done])
        some = texts[done : done + _AT_ONCE]
        found = streams_of(model, some, self._blocks, self._budget)
        mapped[start : start + len(found)] = found
        return done + len(some)
