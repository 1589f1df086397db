"""Small repositories of models with an image tower, and of their family.

As those of `hub_families`: names, files and numbers of blocks are real, widths are tiny, and
the templates' words are this file's own.
"""

import json

from helpers.hub_layout import (
    CHATML_SPECIAL,
    INNER,
    SLOW_TOKENIZER,
    STD,
    WIDTH,
    qwen_tokenizer,
    repository,
)
from helpers.hub_repos import VOCABULARY, Files, Weights, shape
from helpers.hub_tokenizers import byte_level_bpe, gemma_bpe

# Gemma 3 puts a system turn before the first question, and calls the assistant "model".
_GEMMA_TURNS = (
    "{{ bos_token }}{% set ns = namespace(first='') %}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{% set ns.first = message['content'] + '\n\n' %}"
    "{% else %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ ns.first }}{% set ns.first = '' %}{{ message['content'] | trim }}<end_of_turn>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Qwen 3.5 puts an empty thought before the last answer.
_QWEN_3_5_TURNS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n\n</think>\n\n{% endif %}"
)
_GEMMA_SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
_GEMMA_TEXTS = (
    gemma_bpe(_GEMMA_SPECIAL),
    {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": 10**30,
        "tokenizer_class": "GemmaTokenizer",
    },
)
_GEMMA_CONFIG = {
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "model_type": "gemma3_text",
    "query_pre_attn_scalar": 16,
    # Shorter than the texts of the tests.
    "sliding_window": 8,
    "vocab_size": VOCABULARY,
}


def gemma_3(blocks: int, *, chat: bool = True) -> Files:
    """google/gemma-3-SIZE-it of the sizes that read texts alone; the base model has no template."""
    config = {
        **_GEMMA_CONFIG,
        "_sliding_window_pattern": 6,
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "final_logit_softcapping": None,
        "hidden_activation": "gelu_pytorch_tanh",
        "initializer_range": 0.02,
        "layer_types": [
            "sliding_attention" if block % 6 < 5 else "full_attention" for block in range(blocks)
        ],
        "max_position_embeddings": 32768,
        "num_hidden_layers": blocks,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "torch_dtype": "bfloat16",
        "use_bidirectional_attention": False,
        "use_cache": True,
    }
    weights = Weights(blocks, std=STD)
    _gemma_3_blocks(weights, "model", blocks)
    others = ("tokenizer.model",)
    return repository(
        config, weights, *_GEMMA_TEXTS, others=others, template=_GEMMA_TURNS if chat else None
    )


def gemma_3_seeing(blocks: int, shards: int) -> Files:
    """google/gemma-3-SIZE-it of the sizes with an image tower, in names of an older layout."""
    seen = 27
    config = {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "boi_token_index": 500,
        "eoi_token_index": 501,
        "eos_token_id": [1, 6],
        "image_token_index": 502,
        "initializer_range": 0.02,
        "mm_tokens_per_image": 4,
        "model_type": "gemma3",
        # What is not said is the default.
        "text_config": {
            **_GEMMA_CONFIG,
            "num_hidden_layers": blocks,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        },
        "torch_dtype": "bfloat16",
        "vision_config": {
            "hidden_size": 16,
            "image_size": 28,
            "intermediate_size": 16,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 2,
            "num_hidden_layers": seen,
            "patch_size": 14,
            "vision_use_head": False,
        },
    }
    weights = Weights(blocks, std=STD)
    tower = "vision_tower.vision_model"
    weights.linear(f"{tower}.embeddings.patch_embedding", 16, 3, 14, 14)
    weights.normal(f"{tower}.embeddings.position_embedding.weight", 4, 16)
    for block in range(seen):
        name = f"{tower}.encoder.layers.{block}"
        for part in ("q", "k", "v", "out"):
            weights.linear(f"{name}.self_attn.{part}_proj", 16, 16)
        for part in ("mlp.fc1", "mlp.fc2"):
            weights.linear(f"{name}.{part}", 16, 16)
        for part in ("layer_norm1", "layer_norm2"):
            weights.norm(f"{name}.{part}", 16)
    weights.norm(f"{tower}.post_layernorm", 16)
    weights.normal("multi_modal_projector.mm_input_projection_weight", 16, WIDTH)
    weights.normal("multi_modal_projector.mm_soft_emb_norm.weight", 16)
    _gemma_3_blocks(weights, "language_model.model", blocks)
    tokenizer, settings = _GEMMA_TEXTS
    return repository(
        config,
        weights,
        tokenizer,
        {**settings, "chat_template": _GEMMA_TURNS},
        others=("chat_template.json", "preprocessor_config.json", "tokenizer.model"),
        shards=shards,
    )


def _gemma_3_blocks(weights: Weights, name: str, blocks: int) -> None:
    # The model multiplies by the root of the width.
    weights.normal(f"{name}.embed_tokens.weight", VOCABULARY, WIDTH, std=WIDTH**-0.5)
    for block in range(blocks):
        place = f"{name}.layers.{block}"
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            weights.normal(f"{place}.{norm}_layernorm.weight", WIDTH)
        weights.attention(f"{place}.self_attn", WIDTH, 4, 2, 16)
        for part in ("q", "k"):
            weights.normal(f"{place}.self_attn.{part}_norm.weight", 16)
        weights.mlp(f"{place}.mlp", WIDTH, INNER)
    weights.normal(f"{name}.norm.weight", WIDTH)


def qwen_3_5_base() -> Files:
    """Qwen/Qwen3.5-2B-Base: two kinds of attention, an image tower as deep as the language model,
    and a block that predicts the token after next."""
    blocks, width = 24, WIDTH
    kinds = (["linear_attention"] * 3 + ["full_attention"]) * (blocks // 4)
    text = shape(
        hidden_size=width,
        intermediate_size=INNER,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=262144,
        full_attention_interval=4,
        linear_conv_kernel_dim=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        mtp_num_hidden_layers=1,
        eos_token_id=0,
    ) | {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_output_gate": True,
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "layer_types": kinds,
        "mamba_ssm_dtype": "float32",
        "mlp_only_layers": [],
        "model_type": "qwen3_5_text",
        "mtp_use_dedicated_embeddings": False,
        "rms_norm_eps": 1e-06,
        "rope_parameters": {
            "mrope_interleaved": True,
            "mrope_section": [1, 1, 0],
            "partial_rotary_factor": 0.25,
            "rope_theta": 10000000,
            "rope_type": "default",
        },
        "tie_word_embeddings": True,
    }
    config = {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "image_token_id": 500,
        "video_token_id": 501,
        "vision_start_token_id": 502,
        "vision_end_token_id": 503,
        "model_type": "qwen3_5",
        "text_config": text,
        "tie_word_embeddings": True,
        "vision_config": {
            "deepstack_visual_indexes": [],
            "depth": blocks,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": 16,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": 16,
            "model_type": "qwen3_5",
            "num_heads": 2,
            "num_position_embeddings": 16,
            "out_hidden_size": width,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
    }
    weights = Weights(35, std=STD)
    weights.normal("model.language_model.embed_tokens.weight", VOCABULARY, width, std=1.0)
    for block, kind in enumerate(kinds):
        _qwen_3_5_block(weights, f"model.language_model.layers.{block}", kind)
    weights.normal("model.language_model.norm.weight", width)
    _qwen_3_5_tower(weights, "model.visual", blocks)
    weights.normal("mtp.fc.weight", width, 2 * width)
    _qwen_3_5_block(weights, "mtp.layers.0", "full_attention")
    for norm in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        weights.normal(f"mtp.{norm}.weight", width)
    files = repository(
        config,
        weights,
        byte_level_bpe(CHATML_SPECIAL, None),
        qwen_tokenizer("<|endoftext|>"),
        others=(*SLOW_TOKENIZER, "preprocessor_config.json"),
        template=_QWEN_3_5_TURNS,
    )
    # One file, and yet an index.
    file = "model.safetensors-00001-of-00001.safetensors"
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights.tensors, file)}
    files[file] = files.pop("model.safetensors")
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


def _qwen_3_5_block(weights: Weights, name: str, kind: str) -> None:
    for norm in ("input", "post_attention"):
        weights.normal(f"{name}.{norm}_layernorm.weight", WIDTH)
    if kind == "full_attention":
        # Twice the heads of q: the second half is a gate.
        weights.attention(f"{name}.self_attn", WIDTH, 8, 2, 16)
        weights.normal(f"{name}.self_attn.o_proj.weight", WIDTH, 64)
        for part in ("q", "k"):
            weights.normal(f"{name}.self_attn.{part}_norm.weight", 16)
    else:
        linear = f"{name}.linear_attn"
        weights.normal(f"{linear}.in_proj_qkv.weight", 3 * 32, WIDTH)
        weights.normal(f"{linear}.conv1d.weight", 3 * 32, 1, 4)
        weights.normal(f"{linear}.in_proj_z.weight", 32, WIDTH)
        for part in ("a", "b"):
            weights.normal(f"{linear}.in_proj_{part}.weight", 4, WIDTH)
        for part in ("A_log", "dt_bias"):
            weights.normal(f"{linear}.{part}", 4)
        weights.normal(f"{linear}.norm.weight", 8, mean=1.0)
        weights.normal(f"{linear}.out_proj.weight", WIDTH, 32)
    weights.mlp(f"{name}.mlp", WIDTH, INNER)


def _qwen_3_5_tower(weights: Weights, name: str, blocks: int) -> None:
    weights.linear(f"{name}.patch_embed.proj", 16, 3, 2, 4, 4)
    weights.normal(f"{name}.pos_embed.weight", 16, 16)
    for block in range(blocks):
        place = f"{name}.blocks.{block}"
        for part in ("norm1", "norm2"):
            weights.norm(f"{place}.{part}", 16)
        weights.linear(f"{place}.attn.qkv", 3 * 16, 16)
        weights.linear(f"{place}.attn.proj", 16, 16)
        for part in ("linear_fc1", "linear_fc2"):
            weights.linear(f"{place}.mlp.{part}", 16, 16)
    weights.norm(f"{name}.merger.norm", 16)
    weights.linear(f"{name}.merger.linear_fc1", 64, 64)
    weights.linear(f"{name}.merger.linear_fc2", WIDTH, 64)
