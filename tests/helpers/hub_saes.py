"""Small SAE repositories under the real ids, in the layouts that sae-lens reads.

Each latent reads, and writes, two dimensions of the residual stream. Where sae-lens's
loader sets the width and takes the number of latents from the name of the folder
(Gemma Scope), both are real. Nothing here imports the code under test.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from helpers.loopback_hub import Content

Files = dict[str, Content]

_GEMMA_WIDTHS = {"2b": 2304, "9b": 3584, "27b": 4608}
_LATENTS = {"16k": 16384, "131k": 131072}


def _pairs(latents: int, width: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The two dimensions of each latent, with their signs: (dimension, sign) twice."""
    latent = np.arange(latents)
    turn = latent // width
    yield latent % width, np.where(turn % 2, -1, 1)
    yield (latent + 1 + turn) % width, np.where((turn // 2) % 2, -1, 1)


def _directions(latents: int, width: int) -> np.ndarray:
    """(latents, width), int8: 0 but at two dimensions."""
    rows = np.zeros((latents, width), np.int8)
    for dimension, sign in _pairs(latents, width):
        rows[np.arange(latents), dimension] = sign
    return rows


def _readers(latents: int, width: int) -> np.ndarray:
    """The same as (width, latents); turning round half a gigabyte would take long."""
    columns = np.zeros((width, latents), np.int8)
    for dimension, sign in _pairs(latents, width):
        columns[dimension, np.arange(latents)] = sign
    return columns


def gemma_scope(path: str, size: str, file: Path) -> Files:
    """google/gemma-scope-SIZE-pt-res at the folder `path`: params.npz, written to `file`.

    The loader sets the width and takes the number of latents from the name of the folder,
    so that both are real. Whole numbers in eight bits, mostly 0: a small file that is read
    quickly and is the same in float32.
    """
    width = _GEMMA_WIDTHS[size]
    latents = _LATENTS[path.split("width_")[1].split("/")[0]]
    # Of two dimensions of size about 1, a few in a thousand exceed this.
    threshold = np.full(latents, 4 if latents < 10**5 else 5, np.float32)
    arrays: list[tuple[str, Callable[[], np.ndarray]]] = [
        ("W_enc", lambda: _readers(latents, width)),
        ("W_dec", lambda: _directions(latents, width)),
        ("b_enc", lambda: np.zeros(latents, np.float32)),
        ("b_dec", lambda: np.zeros(width, np.float32)),
        ("threshold", lambda: threshold),
    ]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as part:
                np.lib.format.write_array(part, array())
    return {"README.md": b"", f"{path}/params.npz": file}


def llama_scope(path: str, block: int, scale: float) -> Files:
    """fnlp/Llama3_1-8B-Base-LXR-8x at the folder `path`.

    `scale`: the `norm_scaling_factor` that sae-lens lists, which it folds into the weights.
    """
    width, latents = 64, 512
    hyperparameters = {
        "act_fn": "jumprelu",
        "d_model": width,
        "d_sae": latents,
        "expansion_factor": 8,
        "hook_point_in": f"blocks.{block}.hook_resid_post",
        "hook_point_out": f"blocks.{block}.hook_resid_post",
        "jump_relu_threshold": 3.0,
        "dataset_average_activation_norm": {"in": width**0.5 / scale, "out": width**0.5 / scale},
        "use_decoder_bias": True,
    }
    directions = torch.from_numpy(_directions(latents, width))
    tensors = {
        "encoder.weight": directions.to(torch.bfloat16).contiguous(),
        "encoder.bias": torch.zeros(latents, dtype=torch.bfloat16),
        "decoder.weight": directions.T.to(torch.bfloat16).contiguous(),
        "decoder.bias": torch.zeros(width, dtype=torch.bfloat16),
    }
    return {
        f"{path}/hyperparams.json": json.dumps(hyperparameters).encode(),
        f"{path}/checkpoints/final.safetensors": save(tensors),
    }


def gpt_oss_sae(path: str, block: int, model: str = "openai/gpt-oss-20b") -> Files:
    """andyrdt/saes-gpt-oss-20b at the folder `path`: a pickled BatchTopK SAE.

    Those of andyrdt/saes-qwen2.5-7b-instruct are alike, with another `model`.
    """
    width, latents = 64, 512
    trainer = {
        "trainer_class": "BatchTopKTrainer",
        "dict_class": "BatchTopKSAE",
        "activation_dim": width,
        "dict_size": latents,
        "k": 16,
        "layer": block,
        "lm_name": model,
        "submodule_name": f"resid_post_layer_{block}",
    }
    directions = torch.from_numpy(_directions(latents, width)).float()
    state = {
        "b_dec": torch.zeros(width),
        "k": torch.tensor(16),
        "threshold": torch.tensor(3.0),
        "decoder.weight": directions.T.contiguous(),
        "encoder.weight": directions,
        "encoder.bias": torch.zeros(latents),
    }
    pickled = io.BytesIO()
    torch.save(state, pickled)
    return {
        f"{path}/config.json": json.dumps(
            {"trainer": trainer, "buffer": {"d_submodule": width, "io": "out", "ctx_len": 2048}}
        ).encode(),
        f"{path}/ae.pt": pickled.getvalue(),
    }


def pythia_res_sm(path: str, block: int) -> Files:
    """ctigges/pythia-70m-deduped__res-sm_processed at the folder `path`: sae-lens's own files."""
    width, latents = 64, 512
    config = {
        "model_name": "pythia-70m-deduped",
        "hook_point": f"blocks.{block}.hook_resid_post",
        "hook_point_layer": block,
        "d_in": width,
        "d_sae": latents,
        "dtype": "torch.float32",
        "device": "cpu",
        "activation_fn_str": "relu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "prepend_bos": False,
        "context_size": 128,
        "dataset_path": "EleutherAI/the_pile_deduplicated",
        "sae_lens_training_version": None,
    }
    directions = torch.from_numpy(_directions(latents, width)).float()
    tensors = {
        "W_enc": directions.T.contiguous(),
        "W_dec": directions,
        "b_enc": torch.full((latents,), -3.0),
        "b_dec": torch.zeros(width),
    }
    return {
        f"{path}/cfg.json": json.dumps(config).encode(),
        f"{path}/sae_weights.safetensors": save(tensors),
        f"{path}/sparsity.safetensors": save({"sparsity": torch.full((latents,), -2.0)}),
    }
