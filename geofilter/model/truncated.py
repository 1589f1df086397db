"""Load a model without the blocks after block L, and without fetching or reading them.

The configuration is cut to L + 1 blocks, and the files that hold the embedding and the
blocks 0..L are shown to transformers as if they were a whole model of that depth. So
names, dtypes, fused and quantised weights, and all else that differs between
architectures, stay its business. Whatever a forward pass up to block L does not enter
(final norm, pooler) is dropped; whatever it enters must have been in the files.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from geofilter.errors import ModelError
from geofilter.model.blocks import TOWERS, find_blocks, modules_run
from geofilter.model.checkpoint import INDEX, Checkpoint, tensor_names
from geofilter.model.quantized import Rounding, loading_options
from geofilter.support.display import escape
from geofilter.support.links import stand_in


class CannotTruncate(Exception):
    """The model can only be loaded whole; the message says why."""


def load_truncated(
    checkpoint: Checkpoint,
    config: Any,
    block: int,
    dtype: torch.dtype,
    device: torch.device,
    rounding: Rounding | None = None,
) -> Any:
    """The base model with the embedding and the blocks 0..block, on `device`.

    `config` is the whole model's, as transformers read it. Raises `ModelError` for
    weights that are missing or damaged, `CannotTruncate` where an architecture does not
    allow it, and whatever transformers trips over.
    """
    text = cut(config, block + 1)
    files = checkpoint.tensor_files()
    names = _Names.of(text, files, config.get_text_config().num_hidden_layers)
    # First guess: what is registered ahead of the blocks. Some architectures enter more.
    for wanted in (names.ahead(block), names.all_but_later_blocks(block)):
        if not wanted:
            raise ModelError(f"{checkpoint.shown}: its weights hold no block of this model")
        network, missing = _load(checkpoint, text, files, wanted, names, dtype, rounding)
        network = network.to(device)
        lacking = _lacking(network, missing, block)
        if not lacking:
            return pruned(network, block)
    raise ModelError(
        f"{checkpoint.shown}: its weights lack {len(lacking)} tensors "
        f"({escape(names.prefix + min(lacking), limit=120)}, ...); fetch or save the model again"
    )


def cut(config: Any, depth: int) -> Any:
    """The language model's configuration, with `depth` blocks."""
    text = config.get_text_config()
    whole = text.num_hidden_layers
    settings = text.to_dict()
    # Lists with one item per block: kinds of attention, of MLP, ...
    settings = {
        name: value[:depth] if isinstance(value, list) and len(value) == whole else value
        for name, value in settings.items()
    }
    # The last blocks of some models take their keys and values from earlier ones.
    if shared := settings.get("num_kv_shared_layers"):
        settings["num_kv_shared_layers"] = max(0, depth - (whole - shared))
    settings[text.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = depth
    if (quantised := getattr(config, "quantization_config", None)) is not None:
        settings["quantization_config"] = quantised
    try:
        cut = type(text).from_dict(settings)
    except (ValueError, TypeError) as error:
        raise CannotTruncate(str(error)) from error
    if cut.num_hidden_layers != depth:
        raise CannotTruncate("its configuration derives the number of blocks from another field")
    return cut


@dataclass(frozen=True)
class _Names:
    """How the tensors in the files are named: `prefix` + the base model's own name.

    `block_list` is where the files keep the blocks, `PREFIX...NUMBER.`; `modules` are the
    names of the base model's modules that come ahead of its blocks.
    """

    tensors: frozenset[str]
    prefix: str
    block_list: str
    modules: frozenset[str]
    base: str  # what transformers itself puts before a base model's names

    @classmethod
    def of(cls, text: Any, tensors: Iterable[str], depth: int) -> "_Names":
        from transformers import AutoModel

        build: Any = AutoModel.from_config  # it has no types
        try:
            with torch.device("meta"):
                skeleton = build(text)
        except ValueError as error:  # no base model of that type
            raise CannotTruncate(str(error)) from error
        own = find_blocks(skeleton).name
        names = [name for name, _ in skeleton.named_modules()]
        known = frozenset(tensors)
        block_list = _block_list(known, own, depth)
        prefix = block_list.removesuffix(own + ".")
        return cls(
            known,
            prefix if block_list.endswith(own + ".") else block_list.rpartition(".")[0],
            block_list,
            frozenset(names[: names.index(own)]),
            skeleton.base_model_prefix + ".",
        )

    def block_of(self, tensor: str) -> int | None:
        """The block that a tensor belongs to, None for all others."""
        if not tensor.startswith(self.block_list):
            return None
        number = tensor[len(self.block_list) :].partition(".")[0]
        return int(number) if number.isdecimal() else None

    def ahead(self, block: int) -> set[str]:
        """Tensors of the blocks 0..block and of the modules registered ahead of them."""
        return {
            tensor
            for tensor in self.all_but_later_blocks(block)
            if self.block_of(tensor) is not None
            or tensor.removeprefix(self.prefix).rpartition(".")[0] in self.modules
        }

    def all_but_later_blocks(self, block: int) -> set[str]:
        """All tensors of the base model but those of the blocks after `block`."""
        return {
            tensor
            for tensor in self.tensors
            if tensor.startswith(self.prefix)
            and ((number := self.block_of(tensor)) is None or number <= block)
        }

    def key_mapping(self) -> dict[str, str] | None:
        """What transformers has to rename so that it finds the base model's names."""
        if self.prefix in ("", self.base):
            return None
        return {f"^{re.escape(self.prefix)}": ""}


def _block_list(tensors: Iterable[str], own: str, depth: int) -> str:
    """Under which name, with its last dot, the files keep the language model's blocks."""
    numbers: dict[str, set[int]] = {}
    for tensor in tensors:
        if found := re.match(r"(.*?\.|)(\d+)\.", tensor):
            numbers.setdefault(found[1], set()).add(int(found[2]))
    candidates = {
        name: len(held & set(range(depth)))
        for name, held in numbers.items()
        if not any(tower in name for tower in TOWERS)
    }
    if not candidates:
        raise ModelError("its weights hold no numbered blocks; fetch or save the model again")
    # A list of the right name and length first, then any of the right length.
    return max(
        sorted(candidates), key=lambda name: (candidates[name], f".{name}".endswith(f".{own}."))
    )


def _load(
    checkpoint: Checkpoint,
    text: Any,
    files: Mapping[str, str],
    wanted: set[str],
    names: _Names,
    dtype: torch.dtype,
    rounding: Rounding | None,
) -> tuple[Any, set[str]]:
    """The network, in memory, and the names of its tensors that were not in the files."""
    from transformers import AutoModel

    paths = {name: checkpoint.file(name) for name in sorted({files[t] for t in wanted})}
    for path in paths.values():
        tensor_names(path)
    with TemporaryDirectory(prefix="geofilter-") as folder:
        view = Path(folder)
        links = {name: f"part-{place}.safetensors" for place, name in enumerate(paths)}
        for name, path in paths.items():
            stand_in(view / links[name], path)
        weight_map = {tensor: links[files[tensor]] for tensor in sorted(wanted)}
        (view / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
        text.save_pretrained(view)
        loaded: Any = AutoModel.from_pretrained(
            view,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            key_mapping=names.key_mapping(),
            **loading_options(text, dtype, rounding),
        )
    network, report = loaded
    # Later versions of transformers note these, earlier ones raise.
    for key, *shapes in report.get("mismatched_keys") or ():
        raise ModelError(
            f"{checkpoint.shown}: tensor {escape(key)} has another shape than config.json says "
            f"({' and '.join(str(tuple(shape)) for shape in shapes)}); fetch the model again"
        )
    return network.eval().requires_grad_(False), set(report["missing_keys"])


def _lacking(network: Any, missing: set[str], block: int) -> set[str]:
    """Those of the missing tensors that a forward pass up to `block` needs."""
    inside = find_blocks(network).name + "."
    lacking = {name for name in missing if name.startswith(inside)}
    outside = missing - lacking
    if lacking or not outside:
        return lacking  # running it would show no more
    entered = modules_run(network, block)
    return {name for name in outside if name.rpartition(".")[0] in entered}


def pruned(network: Any, block: int) -> Any:
    """`network` without the modules that no forward pass up to `block` enters."""
    inside = find_blocks(network).name
    entered = modules_run(network, block)
    for name, child in list(network.named_modules()):
        unused = name not in entered and not name.startswith(f"{inside}.") and name != inside
        if unused and any(True for _ in child.parameters()):
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, nn.Identity())
    return network
