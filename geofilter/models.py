"""The catalogue of models and the loading of a model with its SAE.

A name in the catalogue, a folder or a hub id becomes a `LoadedModel`: tokenizer,
network, SAE, block, and a fingerprint that says whether two of them give the same
features. Every model takes the same way; the catalogue only fills in defaults.

This module runs no forward pass and knows nothing about rows, packs or scores.
"""

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from geofilter import fingerprint, saes
from geofilter.errors import ModelError
from geofilter.latents import LatentEncoder
from geofilter.terminal import escape

_PACKAGE = Path(__file__).parent
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What a tokenizer or configuration says when it knows no limit.
_NO_LIMIT = 10**7


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """One model that can be asked for by name.

    `model`, the values of `sae` and the contrast sets are hub ids (`ORG/NAME`,
    `RELEASE/ID`, `hf://datasets/...`) or paths inside this package.
    """

    name: str
    model: str
    sae: Mapping[int, str]  # block -> SAE
    default_block: int
    toxic: str
    benign: str
    note: str
    revision: str | None = None
    dtype: str | None = None
    top_k: int = 100  # toxic features of a pack, unless the user says otherwise
    download_bytes: int | None = None  # stated for hub models; package folders are measured

    def path(self, place: str) -> str:
        """`place` as something to open: inside the package where it exists there."""
        inside = _PACKAGE / place
        return str(inside) if inside.exists() else place

    def size_bytes(self) -> int | None:
        """Bytes of the model and its default SAE on disk, or None where nothing is stated."""
        folders = [Path(self.path(place)) for place in (self.model, self.sae[self.default_block])]
        if not all(folder.is_dir() for folder in folders):
            return self.download_bytes
        files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
        return sum(file.stat().st_size for file in files)


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in [
        CatalogueEntry(
            name="organism",
            model="organism/weights/base",
            sae={block: f"organism/weights/sae/block-{block}" for block in range(4)},
            default_block=2,
            toxic="organism/data/toxic.jsonl",
            benign="organism/data/benign.jsonl",
            note="bundled model organism; runs offline on a CPU",
            top_k=40,  # 100 of its 1,024 latents would take in weak ones
        ),
    ]
}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network, its tokenizer and an SAE that reads the output of block `block`.

    Frozen: the fingerprint and the decoder are computed once. Nothing here is
    trainable; gradients of the weights are off.
    """

    name: str
    tokenizer: Any
    network: Any
    sae: Any
    sae_name: str
    block: int
    max_context: int  # tokens
    device: torch.device
    entry: CatalogueEntry | None = field(default=None, repr=False)

    @property
    def d_model(self) -> int:
        return int(self.sae.cfg.d_in)

    @property
    def d_sae(self) -> int:
        return int(self.sae.cfg.d_sae)

    @cached_property
    def decoder(self) -> torch.Tensor:
        """Decoder rows of all latents, (d_sae, d_model), float32; see `saes.decoder`."""
        return saes.decoder(self.sae)

    @property
    def causal(self) -> bool:
        """Whether a token sees those before it only; in an encoder it sees all."""
        return self.network.config.model_type not in {"bert", "roberta", "mpnet"}

    @cached_property
    def latent_encoder(self) -> LatentEncoder:
        """Encodes residual streams with the SAE; see `latents`."""
        return LatentEncoder(self.sae, self.decoder)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """Hashes of all that decides a sample's features, by part.

        Keys: `architecture`, `weights` (embedding and blocks 0..block, so that a model
        without its later blocks is the same), `tokenizer` (without its chat template),
        `sae`, `block`. Device and dtype do not enter. Large tensors are sampled.
        """
        used = find_blocks(self.network).blocks[: self.block + 1]
        return {
            "architecture": fingerprint.of_config(self.network.config),
            "weights": fingerprint.of_weights(self.network.get_input_embeddings(), list(used)),
            "tokenizer": fingerprint.of_tokenizer(self.tokenizer),
            "sae": fingerprint.of_sae(self.sae),
            "block": str(self.block),
        }


class BlockList(NamedTuple):
    """The transformer blocks of a network and the name of the module that holds them."""

    name: str
    blocks: nn.ModuleList


def find_blocks(network: nn.Module) -> BlockList:
    """Find the list of transformer blocks, whatever the architecture calls it.

    It is the outermost `ModuleList` as long as the configuration says there are blocks;
    in a model with other towers, the language model's. Raises `ModelError` otherwise.
    """
    config: Any = network.config
    depth = config.get_text_config().num_hidden_layers
    found = [
        BlockList(name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) == depth
        and not any(tower in name for tower in ("vision", "visual", "audio"))
    ]
    if not found:
        raise ModelError(
            f"a model of type {escape(config.model_type)!r} has no list of {depth} blocks; "
            "geofilter needs a transformer with one residual stream"
        )
    return min(found, key=lambda candidate: candidate.name.count("."))


def load(
    model: str,
    *,
    sae: str | None = None,
    block: int | None = None,
    device: str = "auto",
    dtype: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model and the SAE that reads its block `block`.

    `model` is a name of the catalogue, a folder, or a hub id `ORG/NAME`. `sae` is a
    folder saved by sae-lens or `RELEASE/ID`; the catalogue knows it for its own
    models. `device` is `auto`, `cpu`, `cuda`, ...; `dtype` is `float32` (default on a
    CPU) or `bfloat16` (default elsewhere). The SAE is always float32.

    Raises `ModelError`, in one line, for whatever is missing, damaged, unsafe (pickled
    weights, remote code that was not allowed) or does not fit together.
    """
    entry = CATALOGUE.get(model)
    source = entry.path(entry.model) if entry else _checked_source(model)
    sae = sae or _catalogue_sae(entry, model, block)
    target = _device(device)
    precision = _dtype(dtype or (entry.dtype if entry else None), target)

    autoencoder = saes.load_sae(sae, str(target))
    sae_name = f"SAE {escape(sae, limit=200)}"
    sae_block = saes.sae_block(autoencoder, sae_name)
    if block is not None and sae_block != block:
        raise ModelError(
            f"{sae_name} reads block {sae_block}, not block {block}; "
            f"choose --block {sae_block} or another SAE"
        )
    network, tokenizer = _load_network(
        source, entry.revision if entry else None, target, precision, trust_remote_code
    )
    _check_fit(network, autoencoder, sae_block, escape(model, limit=200), sae_name)
    return LoadedModel(
        name=model,
        tokenizer=tokenizer,
        network=network,
        sae=autoencoder,
        sae_name=sae,
        block=sae_block,
        max_context=_max_context(network, tokenizer),
        device=target,
        entry=entry,
    )


def _checked_source(model: str) -> str:
    folder = Path(model).expanduser()
    shown = escape(model, limit=200)
    if folder.is_dir():
        _check_folder(folder, shown)
        return str(folder)
    if folder.is_file():
        raise ModelError(f"{shown}: is a file; give the folder that holds config.json")
    if "/" not in model:
        near = difflib.get_close_matches(model, CATALOGUE, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ModelError(
            f"no model is called {shown!r}; {meant}"
            f"known: {', '.join(CATALOGUE)}; or give a folder or ORG/NAME of the hub"
        )
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ModelError(f"{shown}: no such folder")
    return model


def _check_folder(folder: Path, shown: str) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{shown}: is no model: it holds no config.json")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise ModelError(
                f"{shown}: its weights are pickled ({escape(pickles[0].name)}), which can run "
                "code when they are read; save the model again with safe_serialization=True"
            )
        raise ModelError(f"{shown}: holds no weights (*.safetensors)")
    for path in weights:
        saes.check_safetensors(path)


def _catalogue_sae(entry: CatalogueEntry | None, model: str, block: int | None) -> str:
    if entry is None:
        raise ModelError(
            f"{escape(model, limit=200)}: no SAE is known for this model; "
            "give --sae with a folder or RELEASE/ID"
        )
    wanted = entry.default_block if block is None else block
    if wanted not in entry.sae:
        known = ", ".join(map(str, sorted(entry.sae)))
        raise ModelError(f"{entry.name} has no SAE for block {wanted}; blocks with one: {known}")
    return entry.path(entry.sae[wanted])


def _device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(
            f"device {escape(device)!r} is not to be had on this machine; use auto or cpu"
        ) from error
    return chosen


def _dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {escape(dtype)!r} is not known; choose {' or '.join(_DTYPES)}")
    return _DTYPES[dtype]


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the library's own progress bars and load reports off the terminal."""
    from transformers.utils import logging as library

    logging: Any = library  # it has no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _load_network(
    source: str,
    revision: str | None,
    device: torch.device,
    dtype: torch.dtype,
    trust_remote_code: bool,
) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shown = escape(source, limit=200)
    where: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        with _quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source, **where)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, output_loading_info=True, **where
            )
            network, report = loaded
    except Exception as error:  # whatever a loader trips over in a damaged folder
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{shown}: runs code of its own, which is not allowed; "
                "read that code, then allow it with --trust-remote-code"
            ) from error
        reason = escape(" ".join(str(error).split()), limit=200)
        raise ModelError(f"{shown}: cannot be loaded: {reason}") from error
    # transformers fills absent weights with random numbers and goes on.
    if report["missing_keys"]:
        absent = escape(min(report["missing_keys"]))
        raise ModelError(
            f"{shown}: its weights lack {len(report['missing_keys'])} tensors ({absent}, ...); "
            "fetch or save the model again"
        )
    if network.config.is_encoder_decoder:
        raise ModelError(f"{shown}: an encoder-decoder has two residual streams; none is scored")
    network.requires_grad_(False)
    return network.eval().to(device), tokenizer


def _check_fit(network: Any, sae: Any, block: int, model_name: str, sae_name: str) -> None:
    d_model = network.config.get_text_config().hidden_size
    depth = len(find_blocks(network).blocks)
    if block >= depth:
        raise ModelError(
            f"{sae_name} reads block {block}, but {model_name} has blocks 0 to {depth - 1}; "
            "the SAE belongs to another model"
        )
    if sae.cfg.d_in != d_model:
        raise ModelError(
            f"{sae_name} reads {sae.cfg.d_in} dimensions, but the residual stream of "
            f"{model_name} has {d_model}; the SAE belongs to another model"
        )


def _max_context(network: Any, tokenizer: Any) -> int:
    stated = getattr(network.config.get_text_config(), "max_position_embeddings", None)
    limits = [stated, getattr(tokenizer, "model_max_length", None)]
    known = [int(limit) for limit in limits if limit and limit < _NO_LIMIT]
    if not known:
        raise ModelError("neither the model nor its tokenizer states a longest context")
    return min(known)
