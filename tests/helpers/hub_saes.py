"""Small SAE repositories under the real ids, in the layouts that sae-lens reads.

Each latent reads, and writes, two dimensions of the residual stream. Nothing here imports
the code under test.
"""

import io
import json

import numpy as np
import torch
from safetensors.torch import save

from helpers.loopback_hub import Content

Files = dict[str, Content]

WIDTH = 64
LATENTS = 512


def _directions() -> torch.Tensor:
    """(latents, width), bfloat16: 0 but for a sign at each latent's two dimensions."""
    rows = torch.zeros(LATENTS, WIDTH, dtype=torch.bfloat16)
    latent = torch.arange(LATENTS)
    turn = latent // WIDTH
    rows[latent, latent % WIDTH] = (1 - 2 * (turn % 2)).to(rows.dtype)
    rows[latent, (latent + 1 + turn) % WIDTH] = (1 - 2 * (turn // 2 % 2)).to(rows.dtype)
    return rows


def gemma_scope(path: str) -> Files:
    """google/gemma-scope-SIZE-pt-res at the folder `path`: params.npz.

    sae-lens's loader takes the width and the number of latents from names, where
    `fresh_process.WarmProcess` puts these small ones in their place.
    """
    directions = _directions().float().numpy()
    arrays = {
        "W_enc": directions.T,
        "W_dec": directions,
        "b_enc": np.zeros(LATENTS, np.float32),
        "b_dec": np.zeros(WIDTH, np.float32),
        # Of two dimensions of size about 1, a few in a hundred exceed this.
        "threshold": np.full(LATENTS, 3, np.float32),
    }
    file = io.BytesIO()
    np.savez(file, **arrays)
    return {"README.md": b"", f"{path}/params.npz": file.getvalue()}


def llama_scope(path: str, block: int, scale: float) -> Files:
    """fnlp/Llama3_1-8B-Base-LXR-8x at the folder `path`.

    `scale`: the `norm_scaling_factor` that sae-lens lists, which it folds into the weights.
    """
    width, latents = WIDTH, LATENTS
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
    directions = _directions()
    tensors = {
        "encoder.weight": directions,
        "encoder.bias": torch.zeros(latents, dtype=torch.bfloat16),
        "decoder.weight": directions.T.contiguous(),
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
    width, latents = WIDTH, LATENTS
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
    directions = _directions().float()
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
    width, latents = WIDTH, LATENTS
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
    directions = _directions().float()
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
