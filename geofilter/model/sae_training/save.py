"""Save a trained SAE in sae-lens' own format for use."""

from pathlib import Path
from typing import Any

import torch

from geofilter.errors import ModelError

# What half precision can hold.
_LARGEST = 65_000.0


def save(sae: Any, folder: Path, *, half: bool) -> None:
    """Write `cfg.json` and `sae_weights.safetensors` to `folder`.

    With `half`, the weights are rounded to float16; loading gives float32 again. Raises
    `ModelError` for weights that do not fit.
    """
    from safetensors.torch import load_file, save_file

    weights, _ = sae.save_inference_model(folder)
    if not half:
        return
    state = load_file(weights)
    if any(float(tensor.abs().max()) > _LARGEST for tensor in state.values()):
        raise ModelError("the SAE's weights are too large for half precision; leave out --half")
    save_file({name: tensor.to(torch.float16) for name, tensor in state.items()}, weights)
