"""How large a truncated model is, from a few numbers of its architecture.

Estimates, so that `geofilter models` needs no network.
"""

from dataclasses import dataclass

# What the hub cuts large checkpoints into. Blocks lie in them in order.
_SHARD = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of a config.json that decide how large a truncated model is.

    `stored` and `stored_mlp` are bytes per parameter in the checkpoint. `besides` is bytes of
    what is fetched with the language model and is no part of it: masks in the same file, and
    other towers, which lie before it in its shards.
    """

    d_model: int
    blocks: int
    mlp: int  # inner width of one expert
    heads: int
    kv_heads: int
    d_head: int
    vocabulary: int
    experts: int = 1
    mlp_matrices: int = 3  # gate, up and down; 2 without a gate
    tied: bool = True  # the head is the embedding
    stored: float = 2
    stored_mlp: float | None = None  # None: as `stored`
    sharded: bool = True  # False: one file, fetched whole
    besides: int = 0

    def embedding(self) -> int:
        """Parameters of the token embedding."""
        return self.vocabulary * self.d_model

    def attention(self) -> int:
        """Parameters of one block's attention, biases and norms left out."""
        return 2 * self.d_model * self.d_head * (self.heads + self.kv_heads)

    def experts_of_block(self) -> int:
        """Parameters of one block's MLP, all experts together."""
        return self.experts * self.mlp_matrices * self.d_model * self.mlp

    def parameters(self, block: int) -> int:
        """Parameters of the embedding and the blocks 0..block."""
        return self.embedding() + (block + 1) * (self.attention() + self.experts_of_block())

    def stored_bytes(self, block: int) -> int:
        """Bytes in the checkpoint up to and with `block`."""
        inner = self.stored if self.stored_mlp is None else self.stored_mlp
        each = self.attention() * self.stored + self.experts_of_block() * inner
        return self.besides + round(self.embedding() * self.stored + (block + 1) * each)

    def download_bytes(self, block: int) -> int:
        """Bytes of the shards that hold the embedding and the blocks 0..block."""
        head = 0 if self.tied else round(self.embedding() * self.stored)
        whole = self.stored_bytes(self.blocks - 1) + head
        if not self.sharded:
            return whole
        return min(whole, -(-self.stored_bytes(block) // _SHARD) * _SHARD)
