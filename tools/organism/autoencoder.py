"""Train the organism's SAEs with sae-lens, one on the output of each block.

All blocks learn in lockstep from the same fresh documents of the base model,
without the `<bos>` token, and are saved in sae-lens's own inference format.

This module knows nothing about toxic features or data sets.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.multi_sae_trainer import MultiSAETrainer
from transformers import PreTrainedModel

from organism.texts import Writer, document_batches
from organism.vocabulary import CONTEXT
from organism.world import World

LATENTS = 1024
ACTIVE = 16
BATCH = 4096
TOKENS = 1_000_000


def hook_name(block: int) -> str:
    """The name, in TransformerLens's words, of the residual stream after a block."""
    return f"blocks.{block}.hook_resid_post"


@torch.no_grad()
def block_outputs(
    model: PreTrainedModel, world: World, writer: Writer, blocks: list[int], seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    """Shuffled residual streams, {hook name: (BATCH, d_model)}, for ever."""
    kept: dict[int, torch.Tensor] = {}

    def keep(block: int):  # type: ignore[no-untyped-def]
        def hook(module, arguments, output):  # type: ignore[no-untyped-def]
            kept[block] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [model.model.layers[b].register_forward_hook(keep(b)) for b in blocks]
    generator = torch.Generator().manual_seed(seed)
    stock: dict[int, list[torch.Tensor]] = {b: [] for b in blocks}
    try:
        for batch in document_batches(world, writer, 48, seed):
            model.model(input_ids=batch.ids, attention_mask=batch.attention)
            used = (batch.attention == 1) & (batch.ids != writer.bos)
            for b in blocks:
                stock[b].append(kept[b][used])
            if sum(map(len, stock[blocks[0]])) < 8 * BATCH:
                continue
            pools = {b: torch.cat(stock[b]) for b in blocks}
            order = torch.randperm(len(pools[blocks[0]]), generator=generator)
            *parts, rest = torch.split(order, BATCH)
            for part in parts:
                yield {hook_name(b): pools[b][part] for b in blocks}
            stock = {b: [pools[b][rest]] for b in blocks}
    finally:
        for handle in handles:
            handle.remove()


def train_saes(
    model: PreTrainedModel,
    world: World,
    writer: Writer,
    blocks: list[int],
    folder: Path,
    *,
    seed: int,
    tokens: int = TOKENS,
) -> None:
    """Train and save one TopK SAE per block under `folder/block-L`."""
    torch.manual_seed(seed)
    random.seed(seed)
    saes = {
        str(b): TopKTrainingSAE(
            TopKTrainingSAEConfig(
                d_in=model.config.hidden_size,
                d_sae=LATENTS,
                k=ACTIVE,
                metadata=SAEMetadata(
                    model_name="geofilter-organism-base",
                    hook_name=hook_name(b),
                    context_size=CONTEXT,
                    prepend_bos=True,
                ),
            )
        )
        for b in blocks
    }
    trainer = MultiSAETrainer(
        SAETrainerConfig(
            total_training_samples=tokens,
            train_batch_size_samples=BATCH,
            lr=2e-3,
            lr_end=2e-4,
            lr_warm_up_steps=20,
            lr_decay_steps=tokens // BATCH // 3,
            dead_feature_window=60,
        ),
        saes,
        {name: hook_name(int(name)) for name in saes},
        block_outputs(model, world, writer, blocks, seed),
    )
    for name, sae in trainer.fit().items():
        sae.fold_W_dec_norm()
        _, config = sae.save_inference_model(folder / f"block-{name}")
        # sae-lens writes the keys in the order of a set, which changes from run to run.
        text = json.dumps(json.loads(config.read_text()), indent=1, sort_keys=True)
        config.write_text(text + "\n")
