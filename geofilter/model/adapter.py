"""An adapter folder as PEFT saves it: what it was trained on, and how its weights are scaled.

Only LoRA is read, and only what is understood to the last setting: a setting that is not known
here might change what the weights mean. The files are hostile input. PEFT is not needed.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geofilter.errors import ModelError
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry, listed
from geofilter.support.display import escape, no_utf8, shown
from geofilter.support.pointers import refuse_pointers

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PICKLED = "adapter_model.bin"
_VOCABULARIES = {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"}
_REMEDY = "merge it into its base model with PEFT (merge_and_unload) and give that model's folder"

# Settings that change nothing in a trained adapter, or that its tensors show by themselves.
_UNDERSTOOD = frozenset(
    {
        *("peft_type", "base_model_name_or_path", "revision", "r", "lora_alpha", "use_rslora"),
        *("alpha_pattern", "rank_pattern", "init_lora_weights", "auto_mapping", "task_type"),
        *("inference_mode", "target_modules", "exclude_modules", "lora_dropout", "bias"),
        *("fan_in_fan_out", "modules_to_save", "layers_to_transform", "layers_pattern"),
        *("megatron_core", "megatron_config", "eva_config", "qalora_group_size", "peft_version"),
        *("ensure_weight_tying", "loftq_config", "corda_config", "lora_ga_config"),
    }
)
# Beginnings that leave the base model's weights as they are; others take something off them.
_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's folder. `base` is what it was trained on, as it names it."""

    folder: Path
    base: str
    revision: str | None  # of the base on the hub
    alpha: float
    alphas: Mapping[str, float]  # pattern of modules' names -> their own alpha
    rank_stabilised: bool

    @property
    def config(self) -> Path:
        return self.folder / CONFIG

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def tokenizer(self) -> Path | None:
        """The folder, where a tokenizer was saved with the adapter: it was trained with that."""
        held = {path.name for path in self.folder.iterdir()}
        return self.folder if "tokenizer_config.json" in held and held & _VOCABULARIES else None

    def scale(self, module: str, rank: int) -> float:
        """What B A is multiplied by in `module`, whose A has `rank` rows."""
        alpha = next(
            (own for pattern, own in self.alphas.items() if _matches(pattern, module)), self.alpha
        )
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter and no whole model."""
    whole = any(folder.glob("model*.safetensors"))
    return (folder / CONFIG).is_file() and not whole


def open_adapter(folder: Path, name: str | None = None) -> Adapter:
    """Read the configuration of the adapter in `folder`, which errors call `name`.

    Raises `ModelError`.
    """
    place = shown(name or folder)
    if reason := no_utf8(folder):
        raise ModelError(reason)
    refuse_pointers(folder, (".json", ".safetensors"), ModelError)
    try:
        config = json.loads((folder / CONFIG).read_bytes())
        _refuse_unknown(config, place)
        adapter = _read(config, folder)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        raise ModelError(
            f"{place}: {CONFIG} is damaged ({reason}); fetch or save the adapter again"
        ) from error
    if not adapter.base:
        raise ModelError(
            f"{place}: {CONFIG} names no base model; write it there as base_model_name_or_path"
        )
    if not adapter.weights.is_file():
        if (folder / _PICKLED).exists():
            raise ModelError(
                f"{place}: its weights are pickled ({_PICKLED}), which can run code when they are "
                "read; save the adapter again with safe_serialization=True"
            )
        raise ModelError(f"{place}: {WEIGHTS} is missing; fetch or save the adapter again")
    return adapter


def base_of(model: str) -> str | None:
    """What the adapter in the folder `model` names as its base; None where there is no adapter."""
    folder = Path(model).expanduser()
    return open_adapter(folder).base if os.path.isdir(folder) and is_adapter(folder) else None


def entry_of(model: str) -> CatalogueEntry | None:
    """The entry of the catalogue whose defaults are those of `model`, if any.

    That of its name; of an adapter's folder that of its base, by name or hub id. Nothing but
    the adapter's configuration is opened. Raises `ModelError` where that is damaged.
    """
    if model in CATALOGUE:
        return CATALOGUE[model]
    base = base_of(model)
    return None if base is None else listed(base)


def _read(config: Mapping[str, Any], folder: Path) -> Adapter:
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    return Adapter(
        folder=folder,
        base=base if isinstance(base, str) else "",
        revision=revision if isinstance(revision, str) else None,
        alpha=_number(config["lora_alpha"]),
        alphas={
            str(pattern): _number(alpha)
            for pattern, alpha in (config.get("alpha_pattern") or {}).items()
        },
        rank_stabilised=bool(config.get("use_rslora")),
    )


def _refuse_unknown(config: Mapping[str, Any], place: str) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ModelError(
            f"{place}: is an adapter of the kind {escape(kind)}, and only LORA is read; {_REMEDY}"
        )
    start = config.get("init_lora_weights")
    if start not in _BEGINNINGS:
        raise ModelError(
            f"{place}: was begun by {escape(start)}, which changes the base model too; {_REMEDY}"
        )
    odd = sorted(name for name, value in config.items() if value and name not in _UNDERSTOOD)
    if odd:
        raise ModelError(
            f"{place}: {CONFIG} sets {escape(odd[0])}, which is not read here; {_REMEDY}"
        )


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"alpha is {value!r}")
    return float(value)


def _matches(pattern: str, module: str) -> bool:
    # As PEFT does: the pattern is all of the name, or ends it after a dot.
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except re.error as error:
        raise ModelError(
            f"alpha_pattern {escape(pattern)!r} of {CONFIG} is no pattern; save the adapter again"
        ) from error
