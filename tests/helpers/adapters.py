"""An adapter as PEFT saves it, made without PEFT, and the model with it merged."""

import json
from pathlib import Path

import torch
from safetensors.torch import load, save
from transformers import AutoModelForCausalLM, AutoTokenizer

ALPHA, RANK = 6, 2


def adapter_files(
    base: str, module: str, shape: tuple[int, ...], *, size: float
) -> dict[str, bytes]:
    """A LoRA for one linear layer, whose weight is of `shape`; `size` of what it adds."""
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": RANK, "lora_alpha": ALPHA}
    torch.manual_seed(1)
    down, up = torch.randn(RANK, shape[1]), size * torch.randn(shape[0], RANK)
    place = f"base_model.model.model.{module}"
    tensors = {f"{place}.lora_A.weight": down, f"{place}.lora_B.weight": up}
    return {
        "adapter_config.json": json.dumps(config).encode(),
        "adapter_model.safetensors": save(tensors),
    }


def change_of(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """What the adapter adds to the weight of its layer."""
    down, up = (next(tensors[name] for name in tensors if f"lora_{x}" in name) for x in "AB")
    return ALPHA / RANK * up @ down


def save_both(base: Path, adapter: Path, merged: Path, module: str, *, size: float) -> None:
    """Save an adapter for a layer of the model in `base`, and that model with it merged."""
    network = AutoModelForCausalLM.from_pretrained(base)
    weight = network.get_parameter(f"model.{module}.weight")
    files = adapter_files(str(base), module, tuple(weight.shape), size=size)
    adapter.mkdir()
    for name, content in files.items():
        (adapter / name).write_bytes(content)
    with torch.no_grad():
        weight.add_(change_of(load(files["adapter_model.safetensors"])))
    network.save_pretrained(merged)
    AutoTokenizer.from_pretrained(base).save_pretrained(merged)
