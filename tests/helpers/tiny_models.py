"""Tiny random networks, SAEs and samples, built in memory from a seed."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import (
    SAE,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    StandardSAE,
    StandardSAEConfig,
    TopKSAE,
    TopKSAEConfig,
)
from sae_lens.saes.sae import SAEMetadata
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from geofilter.data.encoder import Encoded
from geofilter.model.catalogue import NO_SAE
from geofilter.model.influence import linear_layers
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import Contrast
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack

VOCABULARY = 64
D_MODEL = 32
D_SAE = 96
BLOCKS = 4
CONTEXT = 48

_SHAPE = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_WIDE = {
    "hidden_size": D_MODEL,
    "intermediate_size": 64,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}
CONFIGS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**_SHAPE, **_WIDE, num_key_value_heads=2),
    "gpt2": lambda: GPT2Config(
        **_SHAPE, n_embd=D_MODEL, n_layer=BLOCKS, n_head=4, n_positions=CONTEXT
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**_SHAPE, **_WIDE),
    "gemma2": lambda: Gemma2Config(**_SHAPE, **_WIDE, num_key_value_heads=2, head_dim=8),
}
SAES = ("standard", "gated", "jumprelu", "topk", "topk-rescaled", "standard-layer_norm")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Words w0, w1, ... at ids 4 and up; an unknown token at 3."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>"] + [f"w{n}" for n in range(VOCABULARY - 4)]
    vocabulary = {word: place for place, word in enumerate(words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def tiny_network(kind: str = "llama", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(CONFIGS[kind]())
    with torch.no_grad():  # the usual 0.02 leaves words and attention without effect
        for parameter in network.parameters():
            if parameter.ndim == 2:
                parameter.mul_(6)
        network.get_input_embeddings().weight.mul_(5)
    return network.eval().requires_grad_(False)


def tiny_sae(kind: str = "topk", block: int = 1, seed: int = 0, d_in: int = D_MODEL) -> Any:
    name, _, option = kind.partition("-")
    classes: dict[str, Any] = {
        "standard": (StandardSAE, StandardSAEConfig),
        "gated": (GatedSAE, GatedSAEConfig),
        "jumprelu": (JumpReLUSAE, JumpReLUSAEConfig),
        "topk": (TopKSAE, TopKSAEConfig),
    }
    sae_class, config_class = classes[name]
    settings: dict[str, Any] = {"d_in": d_in, "d_sae": D_SAE}
    if name == "topk":
        settings |= {"k": 8, "rescale_acts_by_decoder_norm": option == "rescaled"}
    elif option:
        settings |= {"normalize_activations": option}
    settings["metadata"] = SAEMetadata(hook_name=f"blocks.{block}.hook_resid_post")
    torch.manual_seed(seed + 100)
    sae: SAE[Any] = sae_class(config_class(**settings))
    with torch.no_grad():
        directions = torch.nn.functional.normalize(torch.randn(D_SAE, d_in), dim=1)
        # Unequal lengths, so that a decoder direction is not a decoder row.
        sae.W_dec.copy_(directions * torch.linspace(0.5, 2, D_SAE)[:, None])
        sae.W_enc.copy_(directions.T)
        sae.b_dec.copy_(0.1 * torch.randn(d_in))
        if name == "jumprelu":
            sae.threshold.fill_(0.5)
    return sae.eval().requires_grad_(False)


def tiny_model(
    network: str = "llama", sae: str | None = "topk", *, block: int = 1, seed: int = 0
) -> LoadedModel:
    """A tiny network with an SAE of the kind `sae`; None: without one."""
    return LoadedModel(
        name=f"tiny-{network}",
        tokenizer=tiny_tokenizer(),
        network=tiny_network(network, seed),
        sae=tiny_sae(sae, block, seed) if sae else None,
        sae_name=f"tiny-{sae}" if sae else NO_SAE,
        block=block,
        max_context=CONTEXT,
        device=torch.device("cpu"),
    )


def save_model(folder: Path, network: str = "llama", seed: int = 0) -> str:
    tiny_network(network, seed).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def save_sae(folder: Path, kind: str = "topk", block: int = 1, d_in: int = D_MODEL) -> str:
    tiny_sae(kind, block, d_in=d_in).save_model(folder)
    return str(folder)


def sample(ids: list[int], *, prompt: int = 2, unknown_share: float | None = 0.0) -> Encoded:
    """A sample whose first `prompt` tokens are no response, and whose last is not pooled."""
    response = np.arange(len(ids)) >= prompt
    pooled = response & (np.arange(len(ids)) < len(ids) - 1)
    return Encoded(
        ids=np.array(ids, np.int32),
        response=response,
        pooled=pooled,
        truncated=False,
        total_tokens=len(ids),
        unknown_share=unknown_share,
    )


def random_samples(count: int, seed: int = 0, words: range = range(4, VOCABULARY)) -> list[Encoded]:
    """Samples of 4 to 40 tokens out of `words`."""
    generator = np.random.default_rng(seed)
    return [
        sample([1, *generator.choice(words, size=generator.integers(3, 40)).tolist()])
        for _ in range(count)
    ]


def contrast(samples: list[Encoded], source: str) -> Contrast:
    return Contrast(samples, source, "0" * 64, {})


@functools.cache
def tiny_setting(sae: str = "topk", pooling: str = "mean") -> tuple[LoadedModel, FeaturePack]:
    """A model and a pack of 12 features made with it, shared by tests: change neither."""
    model = tiny_model(sae=sae)
    return model, make_pack(model, *tiny_contrast(), top_k=12, pooling=pooling).pack


def tiny_query(model: LoadedModel) -> dict[str, torch.Tensor]:
    """A random query of gradient influence, on the linear layers of the model's block."""
    generator = torch.Generator().manual_seed(0)
    layers: dict[str, Any] = dict(linear_layers(model, [model.block]))
    # Those of `Conv1D` are the other way round.
    shapes = {
        name: layer.weight.shape if isinstance(layer, torch.nn.Linear) else layer.weight.T.shape
        for name, layer in layers.items()
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def tiny_contrast(rows: int = 60) -> tuple[Contrast, Contrast]:
    """A toxic and a benign set that share a third of their words."""
    toxic = random_samples(rows, seed=1, words=range(4, 44))
    benign = random_samples(rows, seed=2, words=range(24, VOCABULARY))
    return contrast(toxic, "toxic.jsonl"), contrast(benign, "benign.jsonl")
