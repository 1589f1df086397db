"""Small repositories under the real ids, with the real file names and layouts.

The numbers of blocks and the names of tensors and files are real; widths, heads, MLPs,
experts and vocabularies are tiny. Nothing here imports the code under test.
"""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
from safetensors.torch import save

from helpers.hub_tokenizers import ILL, KIND, RUDE, WELL, byte_level_bpe, sentences
from helpers.loopback_hub import Content

Files = dict[str, Content]

DATASET = "datasets/allenai/real-toxicity-prompts"
GATED = ("google/gemma-2-2b", "google/gemma-2-9b", "google/gemma-2-27b", "meta-llama/Llama-3.1-8B")
_GEMMA_BLOCKS = {"2b": 26, "9b": 42, "27b": 46}


def toxicity_prompts(seed: int = 0, ends: int = 16, between: int = 200) -> bytes:
    """`prompts.jsonl`: `ends` rows of each end for both parts, and `between` rows of neither."""
    generator = random.Random(seed)
    rude, kind = sentences(ILL, RUDE), sentences(WELL, KIND)
    generator.shuffle(rude)
    generator.shuffle(kind)
    rows = []
    for place in range(ends):
        # Toxic in one part only: the other part of such a row belongs to neither end.
        rows.append(_row(rude[place], 0.9, "and so on", 0.4, generator))
        rows.append(_row("They said", 0.2, rude[ends + place], 0.8, generator))
        rows.append(_row(kind[place], 0.05, "and so on", 0.3, generator))
        rows.append(_row("They said", 0.2, kind[ends + place], 0.1, generator))
    for place in range(between):
        toxicity = None if place % 20 == 0 else generator.uniform(0.2, 0.7)
        rows.append(_row(f"The train at {place}", toxicity, "is late", 0.3, generator))
    generator.shuffle(rows)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _row(
    prompt: str,
    prompt_toxicity: float | None,
    continuation: str,
    toxicity: float | None,
    generator: random.Random,
) -> dict[str, object]:
    begin = generator.randrange(1000)
    return {
        "filename": f"{generator.randrange(10**6):07d}-doc.txt",
        "begin": begin,
        "end": begin + len(prompt) + len(continuation),
        "challenging": False,
        "prompt": _part(prompt, prompt_toxicity),
        "continuation": _part(continuation, toxicity),
    }


def _part(text: str, toxicity: float | None) -> dict[str, object]:
    names = ("profanity", "sexually_explicit", "identity_attack", "flirtation", "threat")
    others = dict.fromkeys((*names, "insult", "severe_toxicity"), toxicity)
    return {"text": text, **others, "toxicity": toxicity}


def data_rows() -> bytes:
    """A data set to score, in the shape of a chat."""
    replies = ["Thank you, dear guest", "Shut up, you fool", "The train is late", "Well done"]
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Good morning"},
                {"role": "assistant", "content": reply},
            ]
        }
        for reply in replies
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# Models


def tokenizer_files(special: list[str], bos: str | None, names: dict[str, str]) -> Files:
    """`tokenizer.json` of a byte-level BPE and `tokenizer_config.json`."""
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 10**30, **names}
    return {
        "tokenizer.json": byte_level_bpe(special, bos),
        "tokenizer_config.json": json.dumps(config, indent=2).encode(),
        "special_tokens_map.json": json.dumps(names).encode(),
    }


VOCABULARY = 512  # of the embedding: more than the tokenizer has, as real ones are padded


class Weights:
    """Random tensors by name, of the type `dtype` unless they are something else."""

    def __init__(
        self, seed: int, dtype: torch.dtype = torch.bfloat16, *, std: float = 0.02
    ) -> None:
        self.tensors: dict[str, torch.Tensor] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._dtype, self._std = dtype, std

    def normal(self, name: str, *shape: int, std: float | None = None, mean: float = 0.0) -> None:
        deviation = self._std if std is None else std
        values = torch.randn(shape, generator=self._generator) * deviation + mean
        self.tensors[name] = values.to(self._dtype)

    def linear(self, name: str, *shape: int) -> None:
        """A matrix (outputs, inputs), or a kernel, with a bias for each output."""
        self.normal(f"{name}.weight", *shape)
        self.normal(f"{name}.bias", shape[0])

    def norm(self, name: str, width: int) -> None:
        """A layer norm with a bias."""
        self.normal(f"{name}.weight", width, std=0.1, mean=1.0)
        self.normal(f"{name}.bias", width)

    def octets(self, name: str, *shape: int, low: int = 0, high: int = 256) -> None:
        self.tensors[name] = torch.randint(
            low, high, shape, dtype=torch.uint8, generator=self._generator
        )

    def attention(self, name: str, width: int, heads: int, keys: int, size: int) -> None:
        for part, count in (("q", heads), ("k", keys), ("v", keys)):
            self.normal(f"{name}.{part}_proj.weight", count * size, width)
        self.normal(f"{name}.o_proj.weight", width, heads * size)

    def mlp(self, name: str, width: int, inner: int) -> None:
        self.normal(f"{name}.gate_proj.weight", inner, width)
        self.normal(f"{name}.up_proj.weight", inner, width)
        self.normal(f"{name}.down_proj.weight", width, inner)

    def llama_blocks(self, blocks: int, width: int, inner: int, *, biases: bool = False) -> None:
        """Blocks of Llama, of 4 heads and 2 of keys; with `biases` on q, k and v, of Qwen 2."""
        for block in range(blocks):
            name = f"model.layers.{block}"
            for norm in ("input", "post_attention"):
                self.normal(f"{name}.{norm}_layernorm.weight", width, std=0.1, mean=1.0)
            self.attention(f"{name}.self_attn", width, 4, 2, 16)
            for part, size in (("q", 64), ("k", 32), ("v", 32)) if biases else ():
                self.normal(f"{name}.self_attn.{part}_proj.bias", size)
            self.mlp(f"{name}.mlp", width, inner)


def checkpoint_files(config: Mapping[str, Any], weights: Weights, shards: int) -> Files:
    """config.json, the index and `shards` weight shards, cut without regard to blocks."""
    total = sum(tensor.nbytes for tensor in weights.tensors.values())
    groups: list[dict[str, torch.Tensor]] = [{}]
    held = 0
    for name, tensor in weights.tensors.items():
        if held >= total * len(groups) / shards:
            groups.append({})
        groups[-1][name] = tensor
        held += tensor.nbytes
    names = [f"model-{n:05d}-of-{len(groups):05d}.safetensors" for n in range(1, len(groups) + 1)]
    weight_map = {
        tensor: name for name, group in zip(names, groups, strict=True) for tensor in group
    }
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    return {
        "README.md": b"---\nlibrary_name: transformers\n---\n",
        "config.json": json.dumps(config, indent=2).encode(),
        "model.safetensors.index.json": json.dumps(index, indent=2).encode(),
        **{
            name: save(group, metadata={"format": "pt"})
            for name, group in zip(names, groups, strict=True)
        },
    }


def shape(**numbers: int) -> dict[str, Any]:
    return {"initializer_range": 0.02, "use_cache": True, "vocab_size": VOCABULARY, **numbers}


def gemma_2(size: str) -> Files:
    """google/gemma-2-SIZE, for 2b, 9b and 27b."""
    blocks, width = _GEMMA_BLOCKS[size], 64
    config = shape(
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=blocks,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=8192,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    ) | {
        "architectures": ["Gemma2ForCausalLM"],
        "model_type": "gemma2",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "cache_implementation": "hybrid",
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
        "torch_dtype": "bfloat16",
    }
    weights = Weights(blocks)
    # The model multiplies by the root of the width: tokens of size 1 in each dimension.
    weights.normal("model.embed_tokens.weight", VOCABULARY, width, std=width**-0.5)
    for block in range(blocks):
        name = f"model.layers.{block}"
        for norm in ("input", "pre_feedforward"):
            weights.normal(f"{name}.{norm}_layernorm.weight", width, std=0.1)
        for norm in ("post_attention", "post_feedforward"):
            # 1 is added: a block writes a tenth of what the embedding did.
            weights.normal(f"{name}.{norm}_layernorm.weight", width, std=0.01, mean=-0.9)
        weights.attention(f"{name}.self_attn", width, 2, 1, 8)
        weights.mlp(f"{name}.mlp", width, 16)
    weights.normal("model.norm.weight", width)
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = tokenizer_files(["<pad>", "<eos>", "<bos>", "<unk>"], "<bos>", names)
    return checkpoint_files(config, weights, shards=6) | tokenizer


def llama_3_1() -> Files:
    """meta-llama/Llama-3.1-8B, with the pickled copy that its repository holds."""
    width, blocks = 64, 32
    config = shape(
        hidden_size=width,
        intermediate_size=64,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        bos_token_id=0,
        eos_token_id=1,
    ) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "mlp_bias": False,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    weights = Weights(31)
    weights.normal("model.embed_tokens.weight", VOCABULARY, width, std=1.0)
    weights.llama_blocks(blocks, width, 64)
    weights.normal("model.norm.weight", width, mean=1.0)
    weights.normal("lm_head.weight", VOCABULARY, width)
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    tokenizer = tokenizer_files(list(names.values()), "<|begin_of_text|>", names)
    pickled = {"original/consolidated.00.pth": b"nobody should want this"}
    return checkpoint_files(config, weights, shards=6) | tokenizer | pickled


_TURNS = (
    "{% for message in messages %}<|start|>{{ message.role }}<|message|>{{ message.content }}"
    "{% if message.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)


def gpt_oss() -> Files:
    """openai/gpt-oss-20b: experts in MXFP4, as blocks of 32 four-bit numbers with a scale."""
    width, inner, blocks, experts = 64, 64, 24, 4
    config = shape(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_local_experts=experts,
        num_experts_per_tok=2,
        experts_per_token=2,
        initial_context_length=4096,
        max_position_embeddings=131072,
        eos_token_id=1,
        pad_token_id=0,
    ) | {
        "architectures": ["GptOssForCausalLM"],
        "model_type": "gpt_oss",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "layer_types": ["sliding_attention", "full_attention"] * (blocks // 2),
        "output_router_logits": False,
        "quantization_config": {
            "modules_to_not_convert": [
                "model.layers.*.self_attn",
                "model.layers.*.mlp.router",
                "model.embed_tokens",
                "lm_head",
            ],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
    }
    weights = Weights(20)
    weights.normal("model.embed_tokens.weight", VOCABULARY, width, std=1.0)
    for block in range(blocks):
        _gpt_oss_block(weights, f"model.layers.{block}", width, inner, experts)
    weights.normal("model.norm.weight", width, mean=1.0)
    weights.normal("lm_head.weight", VOCABULARY, width)
    names = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|return|>",
        "pad_token": "<|endoftext|>",
    }
    special = ["<|endoftext|>", "<|return|>", "<|startoftext|>", "<|start|>", "<|end|>"]
    tokenizer = tokenizer_files([*special, "<|message|>"], None, names)
    others = {"original/model.safetensors": b"", "metal/model.bin": b"", "LICENSE": b""}
    template = {"chat_template.jinja": _TURNS.encode()}
    return checkpoint_files(config, weights, shards=6) | tokenizer | template | others


def _gpt_oss_block(weights: Weights, name: str, width: int, inner: int, experts: int) -> None:
    for norm in ("input", "post_attention"):
        weights.normal(f"{name}.{norm}_layernorm.weight", width, std=0.1, mean=1.0)
    weights.attention(f"{name}.self_attn", width, 4, 2, 16)
    for part, size in (("q", 64), ("k", 32), ("v", 32), ("o", width)):
        weights.normal(f"{name}.self_attn.{part}_proj.bias", size)
    weights.normal(f"{name}.self_attn.sinks", 4)
    weights.normal(f"{name}.mlp.router.weight", experts, width)
    weights.normal(f"{name}.mlp.router.bias", experts)
    for part, rows, columns in (("gate_up_proj", 2 * inner, width), ("down_proj", width, inner)):
        place = f"{name}.mlp.experts.{part}"
        weights.octets(f"{place}_blocks", experts, rows, columns // 32, 16)
        # The scale is a power of two with a bias of 127: weights of about 0.02.
        weights.octets(f"{place}_scales", experts, rows, columns // 32, low=119, high=122)
        weights.normal(f"{place}_bias", experts, rows)


MODELS: dict[str, Callable[[], Files]] = {
    "google/gemma-2-2b": lambda: gemma_2("2b"),
    "google/gemma-2-9b": lambda: gemma_2("9b"),
    "google/gemma-2-27b": lambda: gemma_2("27b"),
    "meta-llama/Llama-3.1-8B": llama_3_1,
    "openai/gpt-oss-20b": gpt_oss,
}
