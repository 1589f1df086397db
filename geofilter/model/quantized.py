"""How weights are rounded while they are loaded: by bitsandbytes, or as the files have them.

`load_in` asks for 4 or 8 bits a number. Only matrices of linear layers are rounded; embedding,
norms and head stay in the model's dtype, in which everything is computed, too. 4-bit numbers are
NF4 with scales that are rounded again, as in QLoRA (Dettmers et al. 2023); 8-bit ones those of
LLM.int8() (Dettmers et al. 2022). What is rounded is another model, with other scores.
"""

import importlib.util
import logging
from typing import Any, NamedTuple

import torch
from torch import nn

from geofilter.errors import MissingExtraError, ModelError
from geofilter.model.checkpoint import Checkpoint
from geofilter.support.display import escape

PACKAGE = "bitsandbytes"
# Bytes of a rounded number. Of 4 bits with its scales: one of 8 bits for 64 numbers, and one of
# 32 bits for 256 of these.
_BYTES = {"4bit": (4 + 8 / 64 + 32 / (64 * 256)) / 8, "8bit": 1.0}


class Rounding(NamedTuple):
    """What the weights are rounded to, and the GPU that does it."""

    load_in: str
    device: torch.device


def rounding(load_in: str | None, device: torch.device) -> Rounding | None:
    """What `load_in` (`4bit`, `8bit`) asks for on `device`; None where it asks for nothing.

    Raises `ModelError` for another name and without a GPU of CUDA, `MissingExtraError` without
    bitsandbytes.
    """
    if load_in is None:
        return None
    if load_in not in _BYTES:
        raise ModelError(f"load_in {escape(load_in)!r} is not known; choose {' or '.join(_BYTES)}")
    if device.type != "cuda":
        raise ModelError(
            f"--load-in {load_in} rounds the weights on a GPU of CUDA, and the device is {device}; "
            "leave it out, or run this where there is one"
        )
    if importlib.util.find_spec(PACKAGE) is None:
        raise MissingExtraError(
            f"--load-in {load_in} needs {PACKAGE}, which is not installed; install it with: "
            "pip install 'geofilter[quantize]'"
        )
    return Rounding(load_in, device)


def refuse_rounded(checkpoint: Checkpoint, config: Any) -> None:
    """Raise `ModelError` where the files hold weights that are rounded, or packed, already."""
    known = getattr(config, "quantization_config", None)
    if checkpoint.gguf is None and known is None:
        return
    kind = "GGUF" if known is None else escape(_method(known))
    raise ModelError(
        f"{checkpoint.shown}: its weights are rounded already ({kind}); leave out --load-in, or "
        "give the model that they were made from"
    )


def _method(config: Any) -> str:
    method = config.get("quant_method") if isinstance(config, dict) else config.quant_method
    return str(getattr(method, "value", method))


def loading_options(config: Any, dtype: torch.dtype, wanted: Rounding | None) -> dict[str, Any]:
    """Options of transformers' `from_pretrained` that say what becomes of the weights.

    MXFP4 weights are unpacked, so that every device computes the same: the kernels for packed
    ones are fetched as code from the hub and exist for some GPUs only.
    """
    if wanted is not None:
        from transformers import BitsAndBytesConfig

        # It says at each product that it rounds the inputs to float16.
        logging.getLogger(f"{PACKAGE}.autograd._functions").setLevel(logging.ERROR)
        build: Any = BitsAndBytesConfig  # it has no types
        how = (
            build(load_in_8bit=True)
            if wanted.load_in == "8bit"
            else build(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        )
        return {"quantization_config": how, "device_map": {"": str(wanted.device)}}
    packed = getattr(config, "quantization_config", None)
    if not isinstance(packed, dict) or packed.get("quant_method") != "mxfp4":
        return {}
    from transformers.utils.quantization_config import Mxfp4Config

    skipped = packed.get("modules_to_not_convert")
    return {"quantization_config": Mxfp4Config(modules_to_not_convert=skipped, dequantize=True)}


def is_quantized(network: Any) -> bool:
    """Whether bitsandbytes has rounded the weights of `network`."""
    return any(getattr(network, f"is_loaded_in_{bits}bit", False) for bits in (4, 8))


def matrix_numbers(modules: nn.Module, head: nn.Module | None = None) -> int:
    """Numbers in the matrices that are rounded: those of linear layers but the head."""
    from transformers.pytorch_utils import Conv1D

    return sum(
        module.weight.numel()
        for module in modules.modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    )


def saved_by_rounding(matrices: int, dtype: torch.dtype, load_in: str | None) -> int:
    """By how many bytes `matrices` numbers of `dtype` are smaller where they are rounded."""
    return 0 if load_in is None else int(matrices * (dtype.itemsize - _BYTES[load_in]))
