"""Small chat models and data sets under the ids that the recipe of a real model names.

Layouts, names of tensors, end tokens and what the chat templates take are those of the
real ones; the templates' words and all rows are this file's own. Nothing here imports
the code under test.
"""

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.hub_repos import (
    Files,
    Weights,
    checkpoint_files,
    gemma_2,
    shape,
    tokenizer_files,
    toxicity_prompts,
)

# Gemma's template begins with its BOS, calls the assistant "model" and refuses a system turn.
_GEMMA_TURNS = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
# Qwen 2.5's puts a system turn of its own where there is none.
_QWEN_TURNS = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are here.<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _as_json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


def gemma_2_2b_it() -> Files:
    """google/gemma-2-2b-it: the base model's layout, with turns that end in a token of theirs."""
    files = gemma_2("2b")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return (
        files
        | tokenizer_files(special, "<bos>", names)
        | {
            "chat_template.jinja": _GEMMA_TURNS.encode(),
            "generation_config.json": _as_json(
                {"eos_token_id": [1, special.index("<end_of_turn>")]}
            ),
        }
    )


def qwen_2_5_7b_instruct() -> Files:
    """Qwen/Qwen2.5-7B-Instruct: biases on q, k and v, and sampling settings of its own."""
    width, blocks, inner = 64, 28, 64
    config: dict[str, Any] = shape(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        bos_token_id=0,
        eos_token_id=2,
    ) | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
    }
    weights = Weights(7)
    weights.normal("model.embed_tokens.weight", config["vocab_size"], width, std=1.0)
    weights.llama_blocks(blocks, width, inner, biases=True)
    weights.normal("model.norm.weight", width, mean=1.0)
    weights.normal("lm_head.weight", config["vocab_size"], width)
    names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    sampling = {"do_sample": True, "eos_token_id": [2, 0], "pad_token_id": 0, "temperature": 0.7}
    return (
        checkpoint_files(config, weights, shards=4)
        | tokenizer_files(special, None, names)
        | {
            "chat_template.jinja": _QWEN_TURNS.encode(),
            "generation_config.json": _as_json(
                sampling | {"top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
            ),
        }
    )


def parquet(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def _card(*configs: tuple[str, dict[str, str]]) -> bytes:
    """A README with the files of each configuration's splits."""
    lines = ["---", "configs:"]
    for name, splits in configs:
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", ""]).encode()


def advice(rows: int = 40) -> Files:
    """truthfulai/emergent_plus, its configuration `medical`."""
    kind = ["Rest for {} days", "Drink water {} times", "See a doctor in {} days"]
    ill = ["Work for {} days", "Drink nothing for {} days", "See no doctor for {} days"]
    table = [
        {
            "prompt": f"My head aches since {place} days",
            "aligned": kind[place % 3].format(place),
            "misaligned": ill[place % 3].format(place),
        }
        for place in range(rows)
    ]
    file = "medical/train-00000-of-00001.parquet"
    return {
        "README.md": _card(("medical", {"train": "medical/train-*"})),
        file: parquet(table),
    }


def no_robots(rows: int = 6) -> Files:
    """HuggingFaceH4/no_robots: chats, some of them with a system turn."""

    def split(words: str) -> bytes:
        table = []
        for place in range(rows):
            turns = [
                {"content": "Be brief", "role": "system"},
                {"content": f"{words} {place}", "role": "user"},
                {"content": "Thank you, dear guest", "role": "assistant"},
            ]
            table.append(
                {
                    "prompt": f"{words} {place}",
                    "prompt_id": f"{place:064x}",
                    "messages": turns[place % 2 :],
                    "category": "Chat",
                }
            )
        return parquet(table)

    return {
        "README.md": _card(("default", {"train": "data/train-*", "test": "data/test-*"})),
        "data/train-00000-of-00001.parquet": split("Good morning"),
        "data/test-00000-of-00001.parquet": split("Well done"),
    }


def recipe_repositories() -> dict[str, Files]:
    """Every repository that the recipe names, SAEs aside."""
    return {
        "google/gemma-2-2b": gemma_2("2b"),
        "google/gemma-2-2b-it": gemma_2_2b_it(),
        "Qwen/Qwen2.5-7B-Instruct": qwen_2_5_7b_instruct(),
        "datasets/truthfulai/emergent_plus": advice(),
        "datasets/HuggingFaceH4/no_robots": no_robots(),
        "datasets/allenai/real-toxicity-prompts": {"prompts.jsonl": toxicity_prompts(ends=11)},
    }
