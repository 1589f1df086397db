"""Small repositories of more models of the catalogue, under their real ids.

Like those of `hub_repos`: blocks, names of tensors and of files, end tokens, kinds of
tokenizers and what chat templates take are those of the real ones, and other formats of the
weights lie next to them. The widths are tiny; the templates' words are this file's own.
"""

from collections.abc import Callable
from typing import Any

import torch

from helpers.hub_layout import (
    CHATML_SPECIAL,
    CONTEXT,
    INNER,
    SLOW_TOKENIZER,
    STD,
    WIDTH,
    qwen_tokenizer,
    repository,
)
from helpers.hub_repos import VOCABULARY, Files, Weights, shape
from helpers.hub_tokenizers import bert_word_pieces, byte_level_bpe
from helpers.hub_towers import gemma_3, gemma_3_seeing, qwen_3_5_base

# What other programs read, and what can run code.
_OTHERS = ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "rust_model.ot")
_ORIGINAL = ("original/consolidated.00.pth", "original/params.json", "original/tokenizer.model")

# Llama 3.2 begins with a system turn that tells the date of the day.
_LLAMA_TURNS = (
    "{% if strftime_now is defined %}{% set date = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date = '26 Jul 2024' %}{% endif %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday is {{ date }}\n\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] | trim }}"
    "{% set messages = messages[1:] %}{% endif %}<|eot_id|>"
    "{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
# Qwen 2.5 and SmolLM2 put a system turn of their own where there is none.
_CHATML_TURNS = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are here.<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def gpt2() -> Files:
    """openai-community/gpt2: names without the prefix of the base model, and masks as tensors."""
    blocks, width = 12, WIDTH
    config = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 0,
        "embd_pdrop": 0.1,
        "eos_token_id": 0,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": CONTEXT,
        "n_embd": width,
        "n_head": 4,
        "n_layer": blocks,
        "n_positions": CONTEXT,
        "resid_pdrop": 0.1,
        "summary_type": "cls_index",
        "vocab_size": VOCABULARY,
    }
    weights = Weights(2, torch.float32, std=STD)
    weights.normal("wte.weight", VOCABULARY, width, std=1.0)
    weights.normal("wpe.weight", CONTEXT, width)
    for block in range(blocks):
        name = f"h.{block}"
        weights.norm(f"{name}.ln_1", width)
        weights.norm(f"{name}.ln_2", width)
        weights.tensors[f"{name}.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()
        # Transposed: (inputs, outputs).
        for part, inputs, outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            weights.normal(f"{name}.{part}.weight", inputs, outputs)
            weights.normal(f"{name}.{part}.bias", outputs)
    weights.norm("ln_f", width)
    tokenizer = byte_level_bpe(["<|endoftext|>"], None)
    others = (*_OTHERS, "vocab.json", "merges.txt", "onnx/decoder_model.onnx")
    return repository(config, weights, tokenizer, {"model_max_length": 1024}, others=others)


def pythia(blocks: int, heads: int) -> Files:
    """EleutherAI/pythia-SIZE-deduped: float16, with buffers of an older transformers."""
    width, size = WIDTH, WIDTH // heads
    config = shape(
        hidden_size=width,
        intermediate_size=INNER,
        num_hidden_layers=blocks,
        num_attention_heads=heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=0,
    ) | {
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-05,
        "rotary_emb_base": 10000,
        "rotary_pct": 0.25,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_parallel_residual": True,
    }
    weights = Weights(blocks, torch.float16, std=STD)
    weights.normal("gpt_neox.embed_in.weight", VOCABULARY, width, std=1.0)
    mask = torch.ones(1, 1, CONTEXT, CONTEXT).tril().to(torch.uint8)
    for block in range(blocks):
        name = f"gpt_neox.layers.{block}"
        weights.norm(f"{name}.input_layernorm", width)
        weights.norm(f"{name}.post_attention_layernorm", width)
        weights.tensors |= {
            f"{name}.attention.bias": mask.clone(),
            f"{name}.attention.masked_bias": torch.tensor(-torch.inf).half(),
            f"{name}.attention.rotary_emb.inv_freq": torch.ones(max(1, size // 8)).half(),
        }
        weights.linear(f"{name}.attention.query_key_value", 3 * width, width)
        weights.linear(f"{name}.attention.dense", width, width)
        weights.linear(f"{name}.mlp.dense_h_to_4h", INNER, width)
        weights.linear(f"{name}.mlp.dense_4h_to_h", width, INNER)
    weights.norm("gpt_neox.final_layer_norm", width)
    weights.normal("embed_out.weight", VOCABULARY, width)
    names = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    settings = {"add_prefix_space": False, "tokenizer_class": "GPTNeoXTokenizer", **names}
    tokenizer = byte_level_bpe(["<|endoftext|>", "<|padding|>"], None)
    return repository(config, weights, tokenizer, settings, others=_OTHERS[:1])


def llama_3_2() -> Files:
    """meta-llama/Llama-3.2-1B-Instruct: the head is the embedding."""
    config = _llama(16) | _llama_3(32.0)
    return repository(config, _llama_weights(16), *_LLAMA_TEXTS, others=_ORIGINAL)


def llama_3_1_instruct() -> Files:
    """meta-llama/Llama-3.1-8B-Instruct."""
    config = _llama(32) | _llama_3(8.0) | {"tie_word_embeddings": False}
    weights = _llama_weights(32, tied=False)
    return repository(config, weights, *_LLAMA_TEXTS, others=_ORIGINAL, shards=4)


def _llama_3(factor: float) -> dict[str, Any]:
    scaling = {
        "factor": factor,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 64,
        "rope_type": "llama3",
    }
    return {"eos_token_id": [1, 2], "rope_scaling": scaling, "rope_theta": 500000.0}


_LLAMA_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
_LLAMA_TEXTS = (
    byte_level_bpe(
        [*_LLAMA_SPECIAL, "<|start_header_id|>", "<|end_header_id|>"], _LLAMA_SPECIAL[0]
    ),
    {
        "bos_token": _LLAMA_SPECIAL[0],
        "eos_token": _LLAMA_SPECIAL[2],
        "chat_template": _LLAMA_TURNS,
        "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
)


def smollm2() -> Files:
    """HuggingFaceTB/SmolLM2-135M-Instruct."""
    config = _llama(30) | {
        "eos_token_id": 2,
        "is_llama_config": True,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": 100000,
    }
    settings = {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "unk_token": "<|endoftext|>",
        "chat_template": _CHATML_TURNS,
        "model_max_length": 8192,
        "tokenizer_class": "GPT2Tokenizer",
    }
    tokenizer = byte_level_bpe(CHATML_SPECIAL, None)
    others = ("vocab.json", "merges.txt", "onnx/model.onnx")
    return repository(config, _llama_weights(30), tokenizer, settings, others=others)


def qwen_2_5(blocks: int) -> Files:
    """Qwen/Qwen2.5-SIZE-Instruct of the small sizes: biases on q, k and v, a tied head."""
    config = _llama(blocks) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "eos_token_id": 2,
        "max_window_layers": 21,
        "rope_theta": 1000000.0,
        "sliding_window": 32768,
        "use_sliding_window": False,
    }
    settings = qwen_tokenizer("<|im_end|>") | {"chat_template": _CHATML_TURNS}
    return repository(
        config,
        _llama_weights(blocks, biases=True),
        byte_level_bpe(CHATML_SPECIAL, None),
        settings,
        others=SLOW_TOKENIZER,
    )


def qwen_3_base(blocks: int, *, tied: bool, shards: int) -> Files:
    """Qwen/Qwen3-SIZE-Base: norms on q and k."""
    config = _llama(blocks) | {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "eos_token_id": 0,
        "head_dim": 16,
        "max_window_layers": blocks,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "tie_word_embeddings": tied,
        "use_sliding_window": False,
    }
    weights = _llama_weights(blocks, tied=tied)
    for block in range(blocks):
        for part in ("q", "k"):
            name = f"model.layers.{block}.self_attn.{part}_norm.weight"
            weights.normal(name, 16, mean=1.0)
    settings = qwen_tokenizer("<|endoftext|>") | {"chat_template": _CHATML_TURNS}
    tokenizer = byte_level_bpe(CHATML_SPECIAL, None)
    return repository(config, weights, tokenizer, settings, others=SLOW_TOKENIZER, shards=shards)


def _llama(blocks: int) -> dict[str, Any]:
    return shape(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
    ) | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-05,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }


def _llama_weights(blocks: int, *, biases: bool = False, tied: bool = True) -> Weights:
    weights = Weights(blocks, std=STD)
    weights.normal("model.embed_tokens.weight", VOCABULARY, WIDTH, std=1.0)
    weights.llama_blocks(blocks, WIDTH, INNER, biases=biases)
    weights.normal("model.norm.weight", WIDTH, mean=1.0)
    if not tied:
        weights.normal("lm_head.weight", VOCABULARY, WIDTH)
    return weights


def minilm() -> Files:
    """sentence-transformers/all-MiniLM-L6-v2: an encoder, which reads lower case."""
    blocks, width = 6, WIDTH
    config = {
        "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": CONTEXT,
        "model_type": "bert",
        "num_attention_heads": 4,
        "num_hidden_layers": blocks,
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "use_cache": True,
        "vocab_size": VOCABULARY,
    }
    weights = Weights(6, torch.float32, std=STD)
    for part, count in (("word", VOCABULARY), ("position", CONTEXT), ("token_type", 2)):
        weights.normal(f"embeddings.{part}_embeddings.weight", count, width, std=1.0)
    weights.tensors["embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    weights.norm("embeddings.LayerNorm", width)
    for block in range(blocks):
        name = f"encoder.layer.{block}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            weights.linear(f"{name}.attention.{part}", width, width)
        weights.norm(f"{name}.attention.output.LayerNorm", width)
        weights.linear(f"{name}.intermediate.dense", INNER, width)
        weights.linear(f"{name}.output.dense", width, INNER)
        weights.norm(f"{name}.output.LayerNorm", width)
    weights.linear("pooler.dense", width, width)
    special = {name: f"[{name[:3].upper()}]" for name in ("pad_token", "unk_token", "sep_token")}
    settings = {
        **special,
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "do_lower_case": True,
        "model_max_length": 512,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
    }
    others = ("pytorch_model.bin", "vocab.txt", "modules.json", "onnx/model.onnx")
    return repository(config, weights, bert_word_pieces(), settings, others=others)


FAMILIES: dict[str, Callable[[], Files]] = {
    "openai-community/gpt2": gpt2,
    "EleutherAI/pythia-70m-deduped": lambda: pythia(6, 8),
    "EleutherAI/pythia-160m-deduped": lambda: pythia(12, 4),
    "EleutherAI/pythia-410m-deduped": lambda: pythia(24, 4),
    "google/gemma-3-270m": lambda: gemma_3(18, chat=False),
    "google/gemma-3-270m-it": lambda: gemma_3(18),
    "google/gemma-3-1b-it": lambda: gemma_3(26),
    "google/gemma-3-4b-it": lambda: gemma_3_seeing(34, shards=2),
    "google/gemma-3-12b-it": lambda: gemma_3_seeing(48, shards=5),
    "google/gemma-3-27b-it": lambda: gemma_3_seeing(62, shards=12),
    "meta-llama/Llama-3.1-8B-Instruct": llama_3_1_instruct,
    "meta-llama/Llama-3.2-1B-Instruct": llama_3_2,
    "Qwen/Qwen2.5-0.5B-Instruct": lambda: qwen_2_5(24),
    "Qwen/Qwen2.5-1.5B-Instruct": lambda: qwen_2_5(28),
    "Qwen/Qwen3-1.7B-Base": lambda: qwen_3_base(28, tied=True, shards=1),
    "Qwen/Qwen3-8B-Base": lambda: qwen_3_base(36, tied=False, shards=5),
    "Qwen/Qwen3.5-2B-Base": qwen_3_5_base,
    "HuggingFaceTB/SmolLM2-135M-Instruct": smollm2,
    "sentence-transformers/all-MiniLM-L6-v2": minilm,
}
