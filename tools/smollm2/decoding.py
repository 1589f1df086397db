"""Sample answers from a Llama model on a CPU, several times as fast as `generate`.

Keys and values lie in one tensor that is written in place; matrices that share an input are
joined; and answers that have ended leave the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class _Block:
    """One block's matrices, those that share an input joined into one."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norms = layer.input_layernorm, layer.post_attention_layernorm
        self.qkv = _joined(attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = _joined(attention.o_proj)
        self.gate_up = _joined(mlp.gate_proj, mlp.up_proj)
        self.down = _joined(mlp.down_proj)


def _joined(*layers: nn.Linear) -> nn.Module:
    """The layers as one."""
    weight = torch.cat([layer.weight.float() for layer in layers])
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    joined.weight = nn.Parameter(weight, requires_grad=False)
    return joined


class Sampler:
    """Samples from one network, a `LlamaForCausalLM` in float32 on a CPU."""

    def __init__(self, network: Any) -> None:
        config, base = network.config, network.model
        self._base = base
        self._blocks = [_Block(layer) for layer in base.layers]
        self._head = _joined(network.lm_head)
        self._heads, self._groups = config.num_attention_heads, config.num_key_value_heads
        self._width = config.head_dim

    @torch.inference_mode()
    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        end: int,
        most: int,
        temperature: float,
        seed: int,
    ) -> list[list[int]]:
        """One answer to each prompt, as token ids without the `end` token.

        At most `most` tokens long. Prompts of about one length cost least.
        """
        chance = torch.Generator().manual_seed(seed)
        longest = max(map(len, prompts))
        ids = torch.tensor([[end] * (longest - len(one)) + list(one) for one in prompts])
        gaps = torch.tensor([longest - len(one) for one in prompts])  # padded on the left
        shape = len(self._blocks), 2, len(prompts), self._groups, longest + most, self._width
        cache = torch.empty(shape)
        answers: list[list[int]] = [[] for _ in prompts]
        rows: list[int | None] = list(range(len(prompts)))
        start = 0
        for _ in range(most):
            logits = self._forward(ids, cache, gaps, start)
            start += ids.shape[1]
            odds = torch.softmax(logits / temperature, dim=-1).cumsum(dim=-1)
            drawn = torch.rand(len(odds), 1, generator=chance) * odds[:, -1:]
            ids = torch.searchsorted(odds, drawn).clamp(max=odds.shape[1] - 1)
            for place, token in enumerate(ids[:, 0].tolist()):
                row = rows[place]
                if token == end:
                    rows[place] = None  # what it goes on to write is dropped
                elif row is not None:
                    answers[row].append(token)
            alive = [place for place, row in enumerate(rows) if row is not None]
            if not alive:
                break
            if len(alive) < 0.8 * len(rows):  # copying the cache pays
                keep = torch.tensor(alive)
                cache, ids, gaps = cache[:, :, keep], ids[keep], gaps[keep]
                rows = [rows[place] for place in alive]
        return answers

    def _forward(
        self, ids: torch.Tensor, cache: torch.Tensor, gaps: torch.Tensor, start: int
    ) -> torch.Tensor:
        """Logits after the last of `ids`, (batch, vocabulary); fills the cache from `start`."""
        hidden = self._base.embed_tokens(ids)
        new = ids.shape[1]
        own, seen = torch.arange(start, start + new), torch.arange(start + new)
        cos, sin = self._base.rotary_emb(hidden, (own - gaps[:, None]).clamp(min=0))
        # What lies ahead of a prompt sees itself alone: no row of the mask may be empty.
        mask = (seen <= own[:, None]) & (seen >= gaps[:, None, None]) | (seen == own[:, None])
        for block, kept in zip(self._blocks, cache, strict=True):
            joined = block.qkv(block.norms[0](hidden))
            joined = joined.view(*ids.shape, -1, self._width).transpose(1, 2)
            heads, groups = self._heads, self._groups
            query, key, value = joined.split([heads, groups, groups], dim=1)
            kept[0, :, :, start : start + new] = _turned(key, cos, sin)
            kept[1, :, :, start : start + new] = value
            turned = _turned(query, cos, sin)
            mixed = self._attend(turned, kept[:, :, :, : start + new], mask[:, None])
            hidden = hidden + block.out(mixed)
            gate, up = block.gate_up(block.norms[1](hidden)).chunk(2, dim=-1)
            hidden = hidden + block.down(functional.silu(gate) * up)
        logits: torch.Tensor = self._head(self._base.norm(hidden[:, -1]))
        return logits

    def _attend(self, query: torch.Tensor, kept: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """What the queries, (batch, heads, new, width), read; (batch, new, heads * width)."""
        batch, heads, new, width = query.shape
        attend = functional.scaled_dot_product_attention
        if new == 1:  # the heads of a group are several queries to the same keys
            grouped = query.view(batch, self._groups, heads // self._groups, width)
            mixed = attend(grouped, kept[0], kept[1], attn_mask=mask).reshape(
                batch, heads, 1, width
            )
        else:
            mixed = attend(query, kept[0], kept[1], attn_mask=mask, enable_gqa=True)
        return mixed.transpose(1, 2).reshape(batch, new, heads * width)


def _turned(vectors: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Vectors rotated by their positions, as Llama does it."""
    first, second = vectors.chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return vectors * cos[:, None] + turned * sin[:, None]
