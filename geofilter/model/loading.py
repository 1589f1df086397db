"""Load a model together with the SAE that reads it, or without one.

A name in the catalogue, a folder, a GGUF file or a hub id becomes a `LoadedModel`: tokenizer,
network, SAE, block, and a fingerprint that says whether two of them give the same
features. Every model is treated alike; the catalogue only fills in defaults. Unless
the whole model is asked for, only its blocks up to the one that is read are fetched and built.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from geofilter.errors import ModelError
from geofilter.model import fingerprint, lora, quantized, saes
from geofilter.model.blocks import find_blocks, is_causal
from geofilter.model.catalogue import CATALOGUE, NO_SAE, CatalogueEntry
from geofilter.model.checkpoint import Checkpoint, open_checkpoint, tensor_names
from geofilter.model.chosen import Chosen, block_without_sae, choose
from geofilter.model.gguf_network import load_network, read_config, read_tokenizer
from geofilter.model.latents import LatentEncoder
from geofilter.model.quantized import Rounding
from geofilter.model.quiet import quiet_transformers
from geofilter.model.truncated import CannotTruncate, load_truncated
from geofilter.support import hub
from geofilter.support.display import escape, shown

__all__ = ["CATALOGUE", "CatalogueEntry", "LoadedModel", "at_block", "find_blocks", "load"]

# What a tokenizer or configuration says when it knows no limit.
_NO_LIMIT = 10**7


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network, its tokenizer and an SAE that reads the output of block `block`.

    Without an SAE there are no latents: `sae` is None, `sae_name` is `NO_SAE`, `d_sae` 0.
    Frozen: the fingerprint and the decoder are computed once. Nothing here is
    trainable; gradients of the weights are off. `network` is the base model with the
    embedding and the blocks 0..block and no head, unless it was loaded whole.
    """

    name: str
    tokenizer: Any
    network: Any
    sae: Any | None
    sae_name: str
    block: int
    max_context: int  # tokens
    device: torch.device
    entry: CatalogueEntry | None = field(default=None, repr=False)
    revision: str | None = None  # commit on the hub; None for a local folder
    sae_revision: str | None = None  # likewise
    causal: bool = True  # a token sees those before it only; in an encoder it sees all
    notes: tuple[str, ...] = ()  # what was read, and what may not fit together, one line each
    rounded: str = ""  # what the weights were rounded to: Q4_1+Q8_0 in a GGUF file, or 4bit

    @property
    def d_model(self) -> int:
        if self.sae is None:
            return int(self.network.config.get_text_config().hidden_size)
        return int(self.sae.cfg.d_in)

    @property
    def d_sae(self) -> int:
        return 0 if self.sae is None else int(self.sae.cfg.d_sae)

    @cached_property
    def decoder(self) -> torch.Tensor:
        """Decoder rows of all latents, (d_sae, d_model), float32; see `saes.decoder`."""
        if self.sae is None:
            return torch.zeros(0, self.d_model, device=self.device)
        return saes.decoder(self.sae)

    @cached_property
    def latent_encoder(self) -> LatentEncoder:
        """Encodes residual streams with the SAE, which has to be there; see `latents`."""
        assert self.sae is not None
        return LatentEncoder(self.sae, self.decoder)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Hashes of all that decides a sample's features, by part.

        Keys: `architecture`, `weights` (embedding and blocks 0..block, so that a model
        without its later blocks is the same; for rounded ones their types stand with it),
        `tokenizer` (without its chat template), `sae` (or `NO_SAE`), `block`. Device and dtype
        do not enter. Large tensors are sampled.
        """
        used = find_blocks(self.network).blocks[: self.block + 1]
        weights = fingerprint.of_weights(self.network.get_input_embeddings(), list(used))
        return {
            "architecture": fingerprint.of_config(self.network.config),
            "weights": f"{weights}-{self.rounded}" if self.rounded else weights,
            "tokenizer": fingerprint.of_tokenizer(self.tokenizer),
            "sae": NO_SAE if self.sae is None else fingerprint.of_sae(self.sae),
            "block": str(self.block),
        }


def load(
    model: str,
    *,
    sae: str | None = None,
    block: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    load_in: str | None = None,
    trust_remote_code: bool = False,
    whole: bool = False,
) -> LoadedModel:
    """Load a model and the SAE that reads its block `block`.

    `model` is a name of the catalogue, a folder, a file `NAME.gguf`, or a hub id `ORG/NAME`.
    `sae` is a folder saved by sae-lens, `RELEASE/ID`, `axes/BLOCK`, or `none`. By default it
    is the catalogue's for the block; a model that it knows no SAE for is read without one, at
    the catalogue's block or else at that of `block_at_depth`. `device` is `auto`, `cpu`,
    `cuda`, ...; `dtype` is `bfloat16` (default with CUDA) or `float32` (default elsewhere). The
    SAE is always float32. `load_in`, `4bit` or `8bit`, rounds the weights (see `quantized`).
    `whole` loads the causal language model with all its blocks and its head.

    Raises `ModelError`, in one line, for whatever is missing, damaged, unsafe (pickled
    weights, remote code that was not allowed) or does not fit together.
    """
    chosen = choose(model, sae, block, device, dtype)
    rounding = quantized.rounding(load_in, chosen.device)
    checkpoint = open_checkpoint(model)
    config, tokenizer = read_texts(checkpoint, trust_remote_code)
    autoencoder, sae_block = _load_sae(chosen, config, model, block)
    network = _load_network(
        checkpoint,
        config,
        None if whole else sae_block,
        chosen.device,
        chosen.dtype,
        trust_remote_code,
        rounding,
    )
    loaded = LoadedModel(
        name=f"{checkpoint.name} ({load_in})" if rounding else checkpoint.name,
        tokenizer=tokenizer,
        network=network,
        sae=autoencoder,
        sae_name=chosen.sae,
        block=sae_block,
        max_context=max_context(config, tokenizer),
        device=chosen.device,
        entry=chosen.entry,
        revision=checkpoint.revision,
        sae_revision=_revision(chosen),
        causal=is_causal(network, sae_block),
        notes=(
            *checkpoint.notes,
            *_misgivings(chosen, autoencoder, tokenizer),
        ),
        rounded=checkpoint.gguf.rounded() if checkpoint.gguf else load_in or "",
    )
    return _warned(loaded)


def _warned(model: LoadedModel) -> LoadedModel:
    """The model with a note where its SAE was trained on other weights."""
    if model.sae is None:
        return model
    found = saes.trained_elsewhere(
        model.sae, model.sae_name, model.name, lambda: model.fingerprint["weights"]
    )
    return replace(model, notes=(*model.notes, *found)) if found else model


def at_block(model: LoadedModel, block: int) -> LoadedModel:
    """The same network, read after `block` instead: by the catalogue's SAE for it, if by any.

    The weights are shared, so that several blocks cost one loading. `model` must reach as far
    as `block` and, read by an SAE, be of the catalogue. Raises `ModelError` as `load` does.
    """
    if block == model.block:
        return model
    if model.sae is None:
        return replace(model, block=block)
    name = model.entry.name if model.entry else model.name
    chosen = choose(name, None, block, str(model.device), None)
    autoencoder, sae_block = _load_sae(chosen, model.network.config, name, block)
    moved = replace(
        model,
        sae=autoencoder,
        sae_name=chosen.sae,
        block=sae_block,
        sae_revision=_revision(chosen),
        notes=tuple(_misgivings(chosen, autoencoder, model.tokenizer)),
    )
    return _warned(moved)


@contextmanager
def _explained(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn whatever a loader trips over in damaged files into one line."""
    try:
        with quiet_transformers(), hub.quiet_hub():
            yield
    except (ModelError, CannotTruncate):
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{checkpoint.shown}: runs code of its own, which is not allowed; "
                "read that code, then allow it with --trust-remote-code"
            ) from error
        if checkpoint.folder is None and (reason := hub.explain(error, checkpoint.source)):
            raise ModelError(reason) from error
        text = escape(" ".join(str(error).split()), limit=200)
        raise ModelError(f"{checkpoint.shown}: cannot be loaded: {text}") from error


def _where(checkpoint: Checkpoint, trust_remote_code: bool) -> dict[str, Any]:
    return {"revision": checkpoint.revision, "trust_remote_code": trust_remote_code}


def read_texts(checkpoint: Checkpoint, trust_remote_code: bool) -> tuple[Any, Any]:
    """Configuration and tokenizer: small files, read first and without any weights."""
    from transformers import AutoTokenizer

    config, tokenizer = _read_texts(checkpoint, trust_remote_code)
    if checkpoint.adapter is None or (folder := checkpoint.adapter.tokenizer) is None:
        return config, tokenizer
    with _explained(checkpoint):
        tokenizer = AutoTokenizer.from_pretrained(str(folder), config=config)
    if len(tokenizer) > config.get_text_config().vocab_size:
        raise ModelError(
            f"{shown(folder)}: its tokenizer has {len(tokenizer):,} tokens, and the base model "
            f"{config.get_text_config().vocab_size:,}; merge the adapter with PEFT and give that "
            "model's folder"
        )
    return config, tokenizer


def _read_texts(checkpoint: Checkpoint, trust_remote_code: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    if checkpoint.gguf is not None:
        with _explained(checkpoint):
            return read_config(checkpoint.gguf), read_tokenizer(checkpoint.gguf)
    where = _where(checkpoint, trust_remote_code)
    # Code of a repository's own is looked for under its name, not next to cached files.
    folder = checkpoint.source if trust_remote_code else str(checkpoint.texts_folder())
    with _explained(checkpoint):
        config: Any = AutoConfig.from_pretrained(folder, **where)
        tokenizer = AutoTokenizer.from_pretrained(folder, **where)
    if config.is_encoder_decoder:
        raise ModelError(
            f"{checkpoint.shown}: an encoder-decoder has two residual streams; none is scored"
        )
    return config, tokenizer


def _load_network(
    checkpoint: Checkpoint,
    config: Any,
    block: int | None,
    device: torch.device,
    dtype: torch.dtype,
    trust_remote_code: bool,
    rounding: Rounding | None,
) -> Any:
    """The network with its blocks 0..block, or the whole causal model for None."""
    if rounding is not None:
        quantized.refuse_rounded(checkpoint, config)
    own_code = trust_remote_code and getattr(config, "auto_map", None)
    if block is not None and not own_code:
        try:
            with _explained(checkpoint):
                if checkpoint.gguf is not None:
                    network = load_network(checkpoint.gguf, config, block, dtype, device)
                else:
                    network = load_truncated(checkpoint, config, block, dtype, device, rounding)
            return _with_adapter(network, checkpoint, whole=False)
        except CannotTruncate:
            pass  # costs memory and time, and is no less right
    return load_whole(checkpoint, config, dtype, trust_remote_code, rounding).to(device)


def load_whole(
    checkpoint: Checkpoint,
    config: Any,
    dtype: torch.dtype,
    trust_remote_code: bool,
    rounding: Rounding | None = None,
) -> Any:
    """The causal language model with its head, without gradients, on the CPU unless rounded.

    Raises `ModelError` for weights that are missing or damaged.
    """
    if rounding is not None:
        quantized.refuse_rounded(checkpoint, config)
    network = _load_whole(checkpoint, config, dtype, trust_remote_code, rounding)
    return _with_adapter(network.requires_grad_(False).eval(), checkpoint, whole=True)


def _with_adapter(network: Any, checkpoint: Checkpoint, *, whole: bool) -> Any:
    """`network` with the adapter in its weights, where there is an adapter."""
    if checkpoint.adapter is not None:
        with _explained(checkpoint):
            lora.merge(network, checkpoint.adapter, whole)
        # What is trained on it and saved must not name the base model as its own.
        network.name_or_path = str(checkpoint.adapter.folder)
    return network


def _load_whole(
    checkpoint: Checkpoint,
    config: Any,
    dtype: torch.dtype,
    trust_remote_code: bool,
    rounding: Rounding | None,
) -> Any:
    from transformers import AutoModelForCausalLM

    if checkpoint.gguf is not None:
        with _explained(checkpoint):
            return load_network(checkpoint.gguf, config, None, dtype, torch.device("cpu"))
    with _explained(checkpoint):
        for name in sorted(set(checkpoint.tensor_files().values())):
            tensor_names(checkpoint.file(name))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            checkpoint.source,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            **quantized.loading_options(config, dtype, rounding),
            **_where(checkpoint, trust_remote_code),
        )
    network, report = loaded
    # transformers fills absent weights with random numbers and goes on.
    if report["missing_keys"]:
        absent = escape(min(report["missing_keys"]))
        within = f"{network.base_model_prefix}."
        if not any(name.startswith(within) for name in report["missing_keys"]):
            raise ModelError(
                f"{checkpoint.shown}: its weights hold no head that predicts tokens ({absent}, "
                "...); training, answering and --scorer spillover need a causal language model"
            )
        raise ModelError(
            f"{checkpoint.shown}: its weights lack {len(report['missing_keys'])} tensors "
            f"({absent}, ...); fetch or save the model again"
        )
    return network


def _load_sae(chosen: Chosen, config: Any, model: str, block: int | None) -> tuple[Any | None, int]:
    """The SAE, if any, and the block to read. Raises `ModelError` unless both fit the model."""
    if not chosen.has_sae:
        return None, block_without_sae(chosen, config, model, block)
    text = config.get_text_config()
    name, place = f"SAE {shown(chosen.sae)}", shown(model)
    sae = saes.load_sae(chosen.sae, str(chosen.device), text.hidden_size)
    found = saes.sae_block(sae, name)
    if block is not None and found != block:
        raise ModelError(
            f"{name} reads block {found}, not block {block}; choose --block {found} or another SAE"
        )
    if found >= text.num_hidden_layers:
        raise ModelError(
            f"{name} reads block {found}, but {place} has blocks 0 to "
            f"{text.num_hidden_layers - 1}; the SAE belongs to another model"
        )
    if sae.cfg.d_in != text.hidden_size:
        raise ModelError(
            f"{name} reads {sae.cfg.d_in} dimensions, but the residual stream of "
            f"{place} has {text.hidden_size}; the SAE belongs to another model"
        )
    return sae, found


def _revision(chosen: Chosen) -> str | None:
    return saes.revision(chosen.sae) if chosen.has_sae else None


def _misgivings(chosen: Chosen, sae: Any | None, tokenizer: Any) -> list[str]:
    return [] if sae is None else saes.misgivings(sae, chosen.sae, chosen.source, tokenizer)


def max_context(config: Any, tokenizer: Any) -> int:
    """Tokens that a model can take at most, as it or its tokenizer states."""
    stated = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [stated, getattr(tokenizer, "model_max_length", None)]
    known = [int(limit) for limit in limits if limit and limit < _NO_LIMIT]
    if not known:
        raise ModelError("neither the model nor its tokenizer states a longest context")
    return min(known)
