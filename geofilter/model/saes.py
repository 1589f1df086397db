"""Load a sparse autoencoder with sae-lens and refuse one that geofilter would misread.

sae-lens reads the files. This module checks what it read: that the SAE reads a
residual stream, at which block, that its latents are non-negative and depend on
one token each, and that its input is normalised in a way that is undone here
exactly.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from geofilter.errors import ModelError
from geofilter.model.catalogue import AXES
from geofilter.model.checkpoint import tensor_names
from geofilter.model.releases import releases
from geofilter.support import hub
from geofilter.support.display import escape, no_utf8, shown
from geofilter.support.pointers import refuse_pointers

# Latents of these are non-negative and depend on one token's residual stream only.
ARCHITECTURES = ("standard", "gated", "jumprelu", "topk")
# Undone token by token at run time by sae-lens. The others need a constant that
# is not in the file.
NORMALISATIONS = ("none", "layer_norm", "constant_norm_rescale")

# For these formats sae-lens writes `prepend_bos` itself: the files do not say it.
_SAYS_BOS_UNASKED = ("dictionary_learning_1", "qwen_scope")
_UNRESTRICTED = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"

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


def load_sae(source: str, device: str, d_model: int | None = None) -> Any:
    """Load the SAE at `source` in float32: a folder saved by sae-lens, or `RELEASE/ID`.

    `axes/BLOCK` makes one whose features are the axes of a residual stream of `d_model`
    dimensions. Raises `ModelError` when the SAE is missing, damaged or of no kind that
    sae-lens knows.
    """
    # Imported here: it takes seconds, and most commands need no SAE.
    from sae_lens import SAE

    name = f"SAE {shown(source)}"
    folder = Path(source).expanduser()
    if source.startswith(AXES) and d_model is not None and not os.path.isdir(folder):
        return _axes(source, d_model).to(device)
    if os.path.isdir(folder):
        _check_folder(folder, name)
        load: Any = SAE.load_from_disk
        arguments: tuple[str, ...] = (str(folder),)
    elif source.startswith((".", "/", "~")) or "/" not in source:
        raise ModelError(f"{name}: no such folder; give a folder or RELEASE/ID of sae-lens")
    else:
        load, arguments = SAE.from_pretrained, _release_and_id(source)
    _refuse_unrestricted_pickles(name)
    with _explained(source, "sae-lens cannot load it"), hub.quiet_hub():
        sae = load(*arguments, device=device, dtype="float32")
    sae.requires_grad_(False)
    return sae


@contextmanager
def _explained(source: str, failed: str) -> Iterator[None]:
    """Turn whatever sae-lens trips over, in a damaged file or on the hub, into one line."""
    name = f"SAE {shown(source)}"
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        fetched = not os.path.isdir(Path(source).expanduser())
        if fetched and (reason := hub.explain(error, repository(source))):
            raise ModelError(f"{name}: {reason}") from error
        reason = escape(" ".join(str(error).split()), limit=200)
        raise ModelError(f"{name}: {failed}: {reason}") from error


class Outline(NamedTuple):
    """What is known of an SAE without its weights."""

    block: int
    d_sae: int


def outline(source: str, d_model: int) -> Outline:
    """The block that the SAE at `source` reads, and its number of latents.

    Reads or fetches its configuration at most. Arguments and errors as in `load_sae`.
    """
    from sae_lens.loading.pretrained_sae_loaders import (
        get_sae_lens_config_from_disk,
        handle_config_defaulting,
        load_sae_config_from_huggingface,
    )

    name = f"SAE {shown(source)}"
    folder = Path(source).expanduser()
    if source.startswith(AXES) and not os.path.isdir(folder):
        return Outline(sae_block(_axes(source, 1), name), 2 * d_model)
    with _explained(source, "sae-lens cannot read its configuration"):
        if os.path.isdir(folder):
            _check_folder(folder, name)
            config = handle_config_defaulting(get_sae_lens_config_from_disk(folder))
        else:
            config = load_sae_config_from_huggingface(*_release_and_id(source))
        block = block_of_hook(str(config["metadata"]["hook_name"]))
        return Outline(block, int(config["d_sae"]))


def _axes(source: str, d_model: int) -> Any:
    """An SAE whose latents are relu(+h) and relu(-h): d_sae = 2 * d_model, nothing is lost."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    block = source.removeprefix(AXES)
    if not block.isdecimal():
        raise ModelError(f"SAE {escape(source)}: write {AXES}BLOCK with the block's number")
    hook = SAEMetadata(hook_name=f"blocks.{int(block)}.hook_resid_post")
    config = StandardSAEConfig(
        d_in=d_model, d_sae=2 * d_model, apply_b_dec_to_input=False, metadata=hook
    )
    sae = StandardSAE(config)
    both_signs = torch.cat([torch.eye(d_model), -torch.eye(d_model)])
    with torch.no_grad():
        sae.W_dec.copy_(both_signs)
        sae.W_enc.copy_(both_signs.T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
    sae.requires_grad_(False)
    return sae


def _refuse_unrestricted_pickles(name: str) -> None:
    """Some releases are .pt files; only torch's restricted unpickler may read them.

    sae-lens leaves the choice to torch, whose default builds tensors and plain containers
    and calls nothing that a file names. One variable of the environment turns that off.
    """
    if os.environ.get(_UNRESTRICTED, "").lower() not in ("", "0", "n", "no", "f", "false"):
        raise ModelError(
            f"{name}: {_UNRESTRICTED} is set, with which a downloaded file could run code; unset it"
        )


def repository(source: str) -> str:
    """The hub repository of `RELEASE/ID`."""
    release, _ = _release_and_id(source)
    return releases()[release].repository if release in releases() else release


def _conversion(source: str) -> str | None:
    """How sae-lens reads the release of `RELEASE/ID`; None for its own format."""
    if os.path.isdir(Path(source).expanduser()):
        return None
    listed = releases().get(source.partition("/")[0])
    return listed.conversion if listed is not None else None


def revision(source: str) -> str | None:
    """The commit of the hub repository that the SAE at `source` came from, if any."""
    if source.startswith(AXES) or os.path.isdir(Path(source).expanduser()):
        return None
    return hub.main_commit(repository(source))


def misgivings(sae: Any, source: str, model: str, tokenizer: Any) -> list[str]:
    """What may not fit between an SAE and a model that can still be used together.

    `source` is where the SAE came from; `model` is a hub id or folder. One note when the
    SAE names another model; one when it was trained after the beginning-of-sequence token,
    which the tokenizer has and does not put.
    """
    metadata, name = sae.cfg.metadata, f"SAE {shown(source)}"
    notes = []
    made_for = metadata.model_name
    # One that `geofilter sae train` made says more: see `trained_elsewhere`.
    by_name = metadata.model_weights is None and "/" in model and not os.path.exists(model)
    if isinstance(made_for, str) and made_for and by_name:
        ours, theirs = (text.rpartition("/")[2].lower() for text in (model, made_for))
        if ours != theirs:
            notes.append(
                f"{name} was made for {escape(made_for)}, not for {escape(model)}; see whether "
                "it explains enough of your data"
            )
    # An SAE that was trained after such a token reads other norms without it.
    says = metadata.prepend_bos is True and _conversion(source) not in _SAYS_BOS_UNASKED
    if says and tokenizer.bos_token_id is not None and not _puts_bos(tokenizer):
        notes.append(
            f"{name} was trained on text after a beginning-of-sequence token, which this "
            "tokenizer does not put; see whether it explains enough of your data"
        )
    return notes


def trained_elsewhere(sae: Any, source: str, model: str, weights: Callable[[], str]) -> list[str]:
    """One note where `geofilter sae train` made the SAE on other weights than these.

    `weights`: the fingerprint of `model`'s weights up to the SAE's block. It is asked for only
    where the SAE says what it was trained on.
    """
    known = sae.cfg.metadata.model_weights
    if known is None or known == weights():
        return []
    return [
        f"SAE {shown(source)} was trained on {escape(sae.cfg.metadata.model_name)}, whose weights "
        f"differ from those of {shown(model)}; see whether it explains enough of your data, or "
        "train one on them: geofilter sae train"
    ]


def _puts_bos(tokenizer: Any) -> bool:
    """Whether a plain text or a conversation begins with the beginning-of-sequence token."""
    ids = tokenizer("a")["input_ids"]
    if ids and ids[0] == tokenizer.bos_token_id:
        return True
    # Many chat templates write it themselves.
    return "bos_token" in str(tokenizer.chat_template or "")


def _release_and_id(source: str) -> tuple[str, str]:
    """Split `RELEASE/ID`; a release that sae-lens does not list is a hub repository ORG/NAME."""
    release, _, sae_id = source.partition("/")
    if release in releases():
        return release, sae_id
    organisation, repository, *rest = source.split("/")
    if not rest:
        raise ModelError(
            f"SAE {shown(source)}: {escape(release)!r} is no sae-lens release; "
            "give RELEASE/ID, ORG/REPOSITORY/FOLDER or a local folder"
        )
    return f"{organisation}/{repository}", "/".join(rest)


def _check_folder(folder: Path, name: str) -> None:
    if reason := no_utf8(folder):
        raise ModelError(reason)
    refuse_pointers(folder, (".json", ".safetensors"), ModelError)
    for part in ("cfg.json", "sae_weights.safetensors"):
        if not (folder / part).is_file():
            raise ModelError(f"{name}: holds no {part}; give a folder saved by sae-lens")
    tensor_names(folder / "sae_weights.safetensors")
    try:
        architecture = json.loads((folder / "cfg.json").read_bytes()).get("architecture")
    except (ValueError, AttributeError) as error:
        raise ModelError(f"{name}: its cfg.json is no JSON object ({error})") from error
    # Before loading: the constructors of other architectures ask for more.
    if architecture is not None:
        _check_architecture(architecture, name)
