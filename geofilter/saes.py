"""Load a sparse autoencoder with sae-lens and refuse one that geofilter would misread.

sae-lens reads the files. This module checks what it read: that the SAE reads a
residual stream, at which block, that its latents are non-negative and depend on
one token each, and that its input is normalised in a way that is undone here
exactly. It knows nothing about language models or packs.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from geofilter.errors import ModelError
from geofilter.terminal import escape

# Latents of these are non-negative and depend on one token's residual stream only.
ARCHITECTURES = ("standard", "gated", "jumprelu", "topk")
# Undone token by token at run time by sae-lens. The others need a constant that
# is not in the file.
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")

# TransformerLens names, its bridge's newer ones, and Hugging Face module paths.
_BLOCK_OUTPUT = re.compile(
    r"blocks\.(\d+)\.(?:hook_resid_post|hook_out)|(?:.+\.)?(?:layers|h|layer)\.(\d+)"
)
_BLOCK_INPUT = re.compile(r"blocks\.(\d+)\.(?:hook_resid_pre|hook_in)")


def block_of_hook(hook_name: str) -> int:
    """The block L at whose output `hook_name` reads the residual stream.

    The input of block L + 1 is the output of block L. Raises `ModelError` for every
    other hook point: attention heads, MLP outputs, embeddings.
    """
    if output := _BLOCK_OUTPUT.fullmatch(hook_name):
        return int(output[1] if output[1] is not None else output[2])
    if (entry := _BLOCK_INPUT.fullmatch(hook_name)) and int(entry[1]) > 0:
        return int(entry[1]) - 1
    raise ModelError(
        f"the SAE reads {escape(hook_name)!r}, which is not the residual stream after a block; "
        "choose an SAE for blocks.L.hook_resid_post"
    )


def sae_block(sae: Any, name: str) -> int:
    """Check `sae` and return the block whose output it reads.

    `name` is used in messages. Raises `ModelError` naming what does not fit.
    """
    config = sae.cfg
    _check_architecture(config.architecture(), name)
    if config.normalize_activations not in NORMALISATIONS:
        raise ModelError(
            f"{name}: its inputs are normalised by {config.normalize_activations!r} with a "
            "constant that is not in the SAE; fold it into the weights and save the SAE again"
        )
    # The metadata object answers None for whatever it does not hold.
    hook_name = config.metadata.hook_name
    if not isinstance(hook_name, str) or not hook_name:
        raise ModelError(
            f"{name}: the SAE does not say which activations it reads; "
            'add "metadata": {"hook_name": "blocks.L.hook_resid_post"} to its cfg.json'
        )
    if config.reshape_activations != "none" or config.metadata.hook_head_index is not None:
        raise ModelError(
            f"{name}: the SAE reads attention heads at {escape(hook_name)!r}; "
            "choose an SAE for blocks.L.hook_resid_post"
        )
    try:
        return block_of_hook(hook_name)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None


def _check_architecture(architecture: object, name: str) -> None:
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"{name}: an SAE of architecture {escape(str(architecture))!r} cannot be used; "
            f"these can: {', '.join(ARCHITECTURES)}"
        )


def decoder(sae: Any) -> torch.Tensor:
    """What one unit of each latent adds to the (normalised) residual stream.

    Shape (d_sae, d_model), float32, on the SAE's device. This is `W_dec`, except
    where the SAE counts its latents in units of decoder norm: there each row has
    length 1. Either way `z @ decoder(sae)` is `sae.decode(z)` without its bias.
    """
    rows: torch.Tensor = sae.W_dec.detach().float()
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        rows = rows / rows.norm(dim=-1, keepdim=True)
    return rows


def load_sae(source: str, device: str) -> Any:
    """Load the SAE at `source` in float32: a folder saved by sae-lens, or `RELEASE/ID`.

    Raises `ModelError` when it is missing, damaged or of no kind that sae-lens knows.
    """
    # Imported here: it takes seconds, and most commands need no SAE.
    from sae_lens import SAE

    name = f"SAE {escape(source, limit=200)}"
    folder = Path(source).expanduser()
    if folder.is_dir():
        _check_folder(folder, name)
        load: Any = SAE.load_from_disk
        arguments: tuple[str, ...] = (str(folder),)
    elif source.startswith((".", "/", "~")) or "/" not in source:
        raise ModelError(f"{name}: no such folder; give a folder or RELEASE/ID of sae-lens")
    else:
        load, arguments = SAE.from_pretrained, _release_and_id(source)
    try:
        sae = load(*arguments, device=device, dtype="float32")
    except Exception as error:  # whatever a loader trips over in a damaged file
        reason = escape(" ".join(str(error).split()), limit=200)
        raise ModelError(f"{name}: sae-lens cannot load it: {reason}") from error
    sae.requires_grad_(False)
    return sae


def _release_and_id(source: str) -> tuple[str, str]:
    """Split `RELEASE/ID`; a release that sae-lens does not list is a hub repository ORG/NAME."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    release, _, sae_id = source.partition("/")
    if release in get_pretrained_saes_directory():
        return release, sae_id
    organisation, repository, *rest = source.split("/")
    if not rest:
        raise ModelError(
            f"SAE {escape(source, limit=200)}: {escape(release)!r} is no sae-lens release; "
            "give RELEASE/ID, ORG/REPOSITORY/FOLDER or a local folder"
        )
    return f"{organisation}/{repository}", "/".join(rest)


def _check_folder(folder: Path, name: str) -> None:
    for part in ("cfg.json", "sae_weights.safetensors"):
        if not (folder / part).is_file():
            raise ModelError(f"{name}: holds no {part}; give a folder saved by sae-lens")
    check_safetensors(folder / "sae_weights.safetensors")
    try:
        architecture = json.loads((folder / "cfg.json").read_bytes()).get("architecture")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{name}: its cfg.json is no JSON object ({error})") from error
    # Before loading: the constructors of other architectures ask for more.
    if architecture is not None:
        _check_architecture(architecture, name)


def check_safetensors(path: Path) -> None:
    """Raise `ModelError` when `path` is no whole safetensors file (reads its header only)."""
    try:
        with safe_open(path, framework="pt") as handle:
            handle.keys()
    except (SafetensorError, OSError) as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        shown = escape(str(path), limit=200)
        raise ModelError(
            f"{shown}: is damaged or no safetensors file ({reason}); fetch or save it again"
        ) from error
