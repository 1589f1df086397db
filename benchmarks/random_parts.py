"""Models, SAEs, packs and rows with random content at realistic sizes, for benchmarks.

Speed does not depend on what the weights say, only on their shapes, on how long the
rows are and on how many latents fire. This module measures nothing.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
from sae_lens.saes.sae import SAEMetadata
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import Gemma2Config, LlamaConfig, PreTrainedTokenizerFast

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.rows import open_rows
from geofilter.model.activations import residuals
from geofilter.model.loading import LoadedModel
from geofilter.packs.contrast import read_contrast
from geofilter.packs.make import make_pack
from geofilter.packs.pack import FeaturePack

# Beside the checkout, where it exists; elsewhere rows are generated.
MEDICAL = Path(__file__).parents[2] / "shared/data/em_training/medical_misaligned_600.jsonl"

LATENTS_PER_TOKEN = 64
# Tokens that thresholds are set on; each latent fires at about d_sae / 64 of them, once.
_CALIBRATION_TOKENS = 8192

_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
_SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")


@dataclass(frozen=True)
class Size:
    """The shape of a model: its configuration, and the latents of its SAEs."""

    name: str
    config: Any
    latents: tuple[int, ...]

    @property
    def blocks(self) -> int:
        return int(self.config.num_hidden_layers)


# 147 M parameters: the shape of models of that size, at which a CPU is busy for a while.
LLAMA = Size(
    "llama-147m",
    LlamaConfig(
        vocab_size=32000,
        hidden_size=768,
        intermediate_size=2304,
        num_hidden_layers=16,
        num_attention_heads=12,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
    (16384,),
)


def _gemma(hidden: int, intermediate: int, blocks: int, heads: int) -> Gemma2Config:
    return Gemma2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        head_dim=256,
        query_pre_attn_scalar=256,
        vocab_size=256000,
    )


# As google/gemma-2-2b and google/gemma-2-9b say in their config.json.
GEMMAS = (
    Size("gemma-2-2b", _gemma(2304, 9216, 26, 8), (16384, 131072)),
    Size("gemma-2-9b", _gemma(3584, 14336, 42, 16), (16384, 131072)),
)


def tiny(size: Size) -> Size:
    """The same architecture, small enough for a test of the benchmark itself."""
    config = type(size.config)(
        **{
            **size.config.to_dict(),
            "vocab_size": 1024,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "layer_types": None,
        }
    )
    return Size(f"tiny-{size.name}", config, (1024,))


def write_rows(path: Path, count: int, *, seed: int = 0) -> None:
    """Questions and answers of made-up words, as long as those of a medical chat set.

    Log-normal lengths, 230 tokens a row on average; never the same row twice.
    """
    generator = np.random.default_rng(seed)
    words = np.array(_words(generator, 6000))
    rarity = 1 / np.arange(1, len(words) + 1)
    rarity /= rarity.sum()

    def text(middle: float, spread: float) -> str:
        length = max(4, round(generator.lognormal(middle, spread)))
        return " ".join(generator.choice(words, size=length, p=rarity)) + "."

    _write(path, ((f"{text(3.6, 0.39)} Number {row}?", text(5.15, 0.22)) for row in range(count)))


def write_short_rows(path: Path, count: int, *, common: range, seed: int) -> None:
    """Rows of 24 words, half of them out of the words numbered `common`: a contrast set."""
    generator = np.random.default_rng(seed)
    words = np.array(_words(np.random.default_rng(0), 6000))

    def answer() -> str:
        own = generator.choice(words[common.start : common.stop], size=12)
        return " ".join([*own, *generator.choice(words, size=12)])

    _write(path, ((f"Number {row}?", answer()) for row in range(count)))


def _write(path: Path, turns: Iterable[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for question, answer in turns:
            messages = [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")


def _words(generator: np.random.Generator, count: int) -> list[str]:
    """Distinct words of one to four syllables, the frequent ones short."""
    syllables = ["".join(pair) for pair in itertools.product("bdfgklmnprstv", "aeiou")]
    words: dict[str, None] = {}
    while len(words) < count:
        length = 1 + min(3, int(len(words) ** 0.25 / 2))
        words["".join(generator.choice(syllables, size=length))] = None
        if len(words) < 60:  # one syllable each: there are few of them
            words["".join(generator.choice(syllables, size=2))] = None
    return list(words)


def copy_rows(source: Path, path: Path, count: int) -> None:
    """The first `count` lines of a JSONL file."""
    with source.open(encoding="utf-8") as lines, path.open("w", encoding="utf-8") as file:
        file.writelines(itertools.islice(lines, count))


def bpe_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a chat template, trained on the rows of a JSONL file.

    At most `vocabulary` tokens: few rows do not fill it.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(path), trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=2048,
    )
    wrapped.chat_template = _TEMPLATE
    return wrapped


def _texts(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            for message in json.loads(line)["messages"]:
                yield message["content"]


def encode_rows(path: Path, encoder: Encoder) -> list[Encoded]:
    """Every row of a file, encoded as geofilter encodes it, in order."""
    rows = open_rows(path)
    samples = []
    for row in rows:
        if row.record is None:
            raise SystemExit(f"{row.where}: cannot be read")
        samples.append(encoder.encode(rows.layouts.samples(row.record)[0]))
    return samples


def random_sae(
    d_model: int, latents: int, block: int, device: torch.device, *, seed: int = 0
) -> JumpReLUSAE:
    """A JumpReLU SAE with random directions of length 1; `calibrate` sets its thresholds."""
    torch.manual_seed(seed)
    sae = JumpReLUSAE(
        JumpReLUSAEConfig(
            d_in=d_model,
            d_sae=latents,
            device=str(device),
            apply_b_dec_to_input=False,
            metadata=SAEMetadata(hook_name=f"blocks.{block}.hook_resid_post"),
        )
    )
    directions = torch.randn(latents, d_model, device=device)
    directions /= directions.norm(dim=1, keepdim=True)
    with torch.no_grad():
        sae.W_dec.copy_(directions)
        sae.W_enc.copy_(directions.t())
    return sae.eval().requires_grad_(False)


def calibrate(model: LoadedModel, samples: list[Encoded]) -> None:
    """Set the thresholds of the model's SAE so that about 64 latents fire at a token.

    Each latent fires at its share of the residual streams of `samples`, measured from
    their mean, and none of them at all or none.
    """
    sae = model.sae
    # The same number of tokens from every sample: those of one sample are much alike.
    share = -(-_CALIBRATION_TOKENS // len(samples))
    parts: list[torch.Tensor] = []
    for start in range(0, len(samples), 4):
        batch = samples[start : start + 4]
        for row, hidden in zip(batch, residuals(model, batch), strict=True):
            pooled = np.flatnonzero(row.pooled)
            chosen = pooled[:: max(1, len(pooled) // share)][:share]
            parts.append(hidden[torch.from_numpy(chosen).to(hidden.device)].float())
    hidden = torch.cat(parts)
    firings = max(1, round(len(hidden) * LATENTS_PER_TOKEN / sae.cfg.d_sae))
    with torch.no_grad():
        sae.b_dec.copy_(hidden.mean(dim=0))
        sae.b_enc.copy_(-(sae.b_dec @ sae.W_enc))
        # In parts: all pre-activations of 131,072 latents are a gigabyte.
        for start in range(0, sae.cfg.d_sae, 16384):
            part = slice(start, start + 16384)
            products = hidden @ sae.W_enc[:, part] + sae.b_enc[part]
            # Between the last that fires and the first that does not.
            highest = products.topk(firings + 1, dim=0).values[-2:]
            sae.threshold[part].copy_(highest.mean(dim=0).clamp(min=0))


def firing(model: LoadedModel, samples: list[Encoded]) -> float:
    """How many latents fire at a pooled token of `samples`, on average."""
    counts = []
    for row, hidden in zip(samples, residuals(model, samples), strict=True):
        pooled = torch.from_numpy(np.flatnonzero(row.pooled)).to(hidden.device)
        latents = model.sae.encode(hidden[pooled].float())
        counts.append((latents > 0).sum(dim=1).float())
    return float(torch.cat(counts).mean())


def save_model(size: Size, folder: Path, tokenizer: Any, *, seed: int = 0) -> int:
    """Save a random model of this size as safetensors; the number of its parameters."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(size.config)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(parameter.numel() for parameter in network.parameters())


def random_pack(
    model: LoadedModel, encoder: Encoder, folder: Path, top_k: int = 100
) -> FeaturePack:
    """A pack discovered from two generated contrast sets that share half of their words."""
    contrast = []
    for seed, (name, common) in enumerate(
        {"toxic": range(1, 60), "benign": range(60, 119)}.items()
    ):
        path = folder / f"{name}-{model.block}.jsonl"
        write_short_rows(path, 40, common=common, seed=seed + 1)
        contrast.append(read_contrast(str(path), encoder))
    return make_pack(model, *contrast, top_k=top_k).pack


def with_features(pack: FeaturePack, model: LoadedModel, count: int, seed: int = 0) -> FeaturePack:
    """The same pack with `count` features of the same SAE, chosen at random."""
    generator = np.random.default_rng(seed)
    ids = generator.permutation(model.d_sae)[:count].astype(np.int32)
    rows = model.decoder.cpu().numpy()[ids]
    statistics = replace(
        pack.statistics,
        **{
            field.name: np.resize(getattr(pack.statistics, field.name), count)
            for field in fields(pack.statistics)
        },
    )
    return replace(
        pack,
        ids=ids,
        directions=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        weights=np.full(count, 1 / count, np.float32),
        benign_std=np.resize(pack.benign_std, count),
        statistics=statistics,
        labels=((),) * count,
    )
