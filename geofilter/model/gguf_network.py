"""Make a network and a tokenizer of a GGUF file, with as many blocks as are needed.

The header gives the configuration; the tensors get the names that transformers uses, and
llama.cpp's changes to them are undone. Only tensors of the embedding and of the blocks
that were asked for are dequantised. What is not known to mean the same in transformers is
refused: a wrong number would pass unseen.
"""

import math
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from geofilter.errors import ModelError
from geofilter.model.blocks import find_blocks
from geofilter.model.gguf_file import GgufFile, ListOf
from geofilter.model.truncated import cut, pruned
from geofilter.support.display import escape, quote
from geofilter.support.links import stand_in

if TYPE_CHECKING:
    from collections.abc import Mapping

# llama.cpp's names of the architectures that are read, and transformers'.
ARCHITECTURES = {
    "gemma3": "gemma3_text",
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
_UNQUANTISED = "give the folder or hub id of the unquantised model instead"
_TOKENS = "tokenizer.ggml.tokens"
# Factors of the rotation's frequencies, by which Llama 3.1 and later reach further.
_FREQUENCIES = "rope_freqs.weight"
# Gemma 3's blocks, of which every sixth looks at all tokens.
_PATTERN = 6
# The one Gemma 3 model whose attention is not scaled by the width of a head, by its depth.
_QUERY_SCALE = {62: 168}
_BLOCK = re.compile(r"blk\.(\d+)\.")
_HEAD = ("output.", "output_norm.")


def architecture(file: GgufFile) -> str:
    """llama.cpp's name of the architecture. Raises `ModelError` for one that is not read."""
    name = file.metadata.get("general.architecture")
    if name is None:
        raise ModelError(f"{file.shown}: does not say its architecture; fetch or save it again")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ModelError(
            f"{file.shown}: its architecture {quote(name)} cannot be read from a GGUF file; these "
            f"can: {', '.join(ARCHITECTURES)}; {_UNQUANTISED}"
        )
    return name


def read_config(file: GgufFile) -> Any:
    """The configuration that transformers would have of the whole model.

    Raises `ModelError` for an architecture that is not read, and for what is missing in the
    header or means what transformers does not compute.
    """
    from transformers import AutoConfig

    fields = _Fields(file, architecture(file))
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise ModelError(f"{file.shown}: holds no token embedding; fetch or save it again")
    hidden, heads = fields.count("embedding_length"), fields.count("attention.head_count")
    head = fields.count("attention.key_length", hidden // heads)
    blocks = fields.count("block_count")
    # Lists of that length are made below, so that it is not taken on trust.
    if not any(name.startswith(f"blk.{blocks - 1}.") for name in file.tensors) or blocks > len(
        file.tensors
    ):
        raise ModelError(
            f"{file.shown}: says that it has {blocks} blocks, but holds no block {blocks - 1}; "
            "fetch or save it again"
        )
    fields.require("attention.value_length", head)
    fields.require("rope.dimension_count", head)
    fields.require("expert_count", 0)
    settings: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": blocks,
        "intermediate_size": fields.count("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.count("attention.head_count_kv", heads),
        "max_position_embeddings": fields.count("context_length"),
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon"),
        "vocab_size": embedding.shape[0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": file.metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": file.metadata.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": file.metadata.get("tokenizer.ggml.padding_token_id"),
    }
    if fields.architecture != "qwen2":
        settings["head_dim"] = head
    elif head * heads != hidden:
        raise fields.unknown("attention.key_length", head)
    settings |= _rotation(fields)
    if fields.architecture == "gemma3":
        settings |= _gemma3(fields, blocks)
    return AutoConfig.for_model(ARCHITECTURES[fields.architecture], **settings)


class _Fields:
    """The header's values about the architecture, `ARCHITECTURE.NAME`, checked as they are read."""

    def __init__(self, file: GgufFile, name: str) -> None:
        self._file, self.architecture = file, name

    def get(self, name: str) -> object:
        return self._file.metadata.get(f"{self.architecture}.{name}")

    def number(self, name: str, default: float | None = None) -> float:
        found = self.get(name)
        if found is None and default is not None:
            return default
        value = found if isinstance(found, (int, float)) and found is not True else 0
        if not 0 < value < math.inf:
            raise ModelError(
                f"{self._file.shown}: {self.architecture}.{name} is "
                f"{'missing' if found is None else escape(found)}; it must be a number above 0; "
                "fetch or save the file again"
            )
        return value

    def count(self, name: str, default: int | None = None) -> int:
        return int(self.number(name, default))

    def require(self, name: str, known: object) -> None:
        """Refuse another value than the only one that is computed here."""
        found = self.get(name)
        if found is not None and found != known:
            raise self.unknown(name, found)

    def unknown(self, name: str, found: object) -> ModelError:
        return ModelError(
            f"{self._file.shown}: {self.architecture}.{name} is {escape(found)}, which cannot be "
            f"read from a GGUF file; {_UNQUANTISED}"
        )


def _rotation(fields: _Fields) -> dict[str, Any]:
    """How positions turn queries and keys."""
    default = 1_000_000.0 if fields.architecture == "gemma3" else 10_000.0
    settings: dict[str, Any] = {"rope_theta": fields.number("rope.freq_base", default)}
    kind = fields.get("rope.scaling.type")
    if kind == "linear":
        factor = fields.number("rope.scaling.factor")
        settings["rope_scaling"] = {"rope_type": "linear", "factor": factor}
    elif kind not in (None, "none"):
        raise fields.unknown("rope.scaling.type", kind)
    return settings


def _gemma3(fields: _Fields, blocks: int) -> dict[str, Any]:
    """What only Gemma 3 has: blocks that look back a little way only, and bounds."""
    fields.require("attention.sliding_window_pattern", _PATTERN)
    settings: dict[str, Any] = {
        "sliding_window": fields.count("attention.sliding_window"),
        "layer_types": [
            "sliding_attention" if (block + 1) % _PATTERN else "full_attention"
            for block in range(blocks)
        ],
    }
    if blocks in _QUERY_SCALE:
        settings["query_pre_attn_scalar"] = _QUERY_SCALE[blocks]
    if fields.get("final_logit_softcapping"):
        settings["final_logit_softcapping"] = fields.number("final_logit_softcapping")
    if fields.get("rope.freq_base_swa"):
        settings["rope_local_base_freq"] = fields.number("rope.freq_base_swa")
    return settings


def read_tokenizer(file: GgufFile) -> Any:
    """The tokenizer and the chat template in the file.

    Raises `ModelError` where the file has none, and whatever transformers trips over.
    """
    from tokenizers import pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = file.metadata.get(_TOKENS)
    if not isinstance(tokens, ListOf):
        raise ModelError(
            f"{file.shown}: holds no tokenizer; save it again with one, or {_UNQUANTISED}"
        )
    rows = file.tensors["token_embd.weight"].shape[0]
    if tokens.items > rows:
        raise ModelError(
            f"{file.shown}: its tokenizer has {tokens.items} tokens and its embedding {rows}; "
            "fetch or save it again"
        )
    # A folder of its own: transformers would mix in tokenizer files that lie next to it.
    with TemporaryDirectory(prefix="geofilter-") as folder:
        stand_in(Path(folder, "model.gguf"), file.path)
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder, gguf_file="model.gguf")
    template = file.metadata.get("tokenizer.chat_template")
    tokenizer.chat_template = template if isinstance(template, str) else None
    tokenizer.name_or_path = str(file.path)
    if file.metadata.get("tokenizer.ggml.pre") == "smollm":
        # transformers takes it for GPT-2's, which joins spaces with the digit after them.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    return tokenizer


def load_network(
    file: GgufFile, config: Any, block: int | None, dtype: torch.dtype, device: torch.device
) -> Any:
    """The base model with the blocks 0..block on `device`; for None the whole causal model.

    `config` is `read_config`'s. Raises `ModelError` for tensors that are missing, of another
    shape, or unknown.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    text = config if block is None else cut(config, block + 1)
    build: Any = AutoModelForCausalLM if block is None else AutoModel  # they have no types
    with torch.device("meta"):
        skeleton = build.from_config(text)
    names = _names(file, skeleton, text.num_hidden_layers, whole=block is None)
    state = {own: _tensor(file, name, text, dtype) for own, name in names.items()}
    network, report = type(skeleton).from_pretrained(
        None, config=text, state_dict=state, dtype=dtype, output_loading_info=True
    )
    # Checked above for all but what comes after the blocks, which is dropped.
    if block is None and report["missing_keys"]:
        raise _lacks(file, min(report["missing_keys"]))
    if _FREQUENCIES in file.tensors:
        _stretch(file, network.base_model)
    network = network.to(device).eval().requires_grad_(False)
    network.name_or_path = str(file.path)  # what an adapter that is trained on it belongs to
    return network if block is None else pruned(network, block)


def _names(file: GgufFile, skeleton: Any, depth: int, *, whole: bool) -> "Mapping[str, str]":
    """The file's name of each tensor that the network needs, by the network's own name.

    `depth` is the number of its blocks.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    kinds = {name: kind for kind, name in MODEL_ARCH_NAMES.items()}
    table = get_tensor_name_map(kinds[architecture(file)], depth)
    inside = find_blocks(skeleton).name + "."
    tied = skeleton.config.tie_word_embeddings
    names: dict[str, str] = {}
    for own, parameter in skeleton.state_dict().items():
        ahead = own.startswith(inside) or own.endswith("embed_tokens.weight")
        if not (whole or ahead) or (tied and own == "lm_head.weight"):
            continue
        module, _, leaf = own.rpartition(".")
        known = module if whole else f"model.{module}"
        name = f"{table.get_name(known)}.{leaf}"
        if name not in file.tensors:
            raise _lacks(file, name)
        shape = file.tensors[name].shape
        if shape != tuple(parameter.shape):
            raise ModelError(
                f"{file.shown}: tensor {escape(name)} has the shape {escape(shape)}, but its "
                f"header says {tuple(parameter.shape)}; fetch or save the file again"
            )
        names[own] = name
    _refuse_unknown(file, set(names.values()), depth)
    return names


def _lacks(file: GgufFile, name: str) -> ModelError:
    return ModelError(f"{file.shown}: lacks tensor {escape(name)}; fetch or save it again")


def _refuse_unknown(file: GgufFile, used: set[str], depth: int) -> None:
    """Refuse tensors that the network would need if it were what the file is of."""
    for name in sorted(set(file.tensors) - used):
        found = _BLOCK.match(name)
        later = found is not None and int(found[1]) >= depth
        stretched = name == _FREQUENCIES and architecture(file) == "llama"
        if not (later or stretched or name.startswith(_HEAD)):
            raise ModelError(
                f"{file.shown}: tensor {escape(name)} has no place in a model of architecture "
                f"{architecture(file)!r}; {_UNQUANTISED}"
            )


def _tensor(file: GgufFile, name: str, text: Any, dtype: torch.dtype) -> torch.Tensor:
    """One tensor as transformers has it: llama.cpp's changes are undone."""
    tensor = file.tensor(name, dtype)
    kind = architecture(file)
    if kind == "llama" and name.endswith((".attn_q.weight", ".attn_k.weight")):
        # Each head's rows were reordered, for another way to rotate pairs of them.
        keys = name.endswith(".attn_k.weight")
        heads = text.num_key_value_heads if keys else text.num_attention_heads
        half = tensor.shape[0] // heads // 2
        parted = tensor.reshape(heads, half, 2, tensor.shape[1])
        tensor = parted.transpose(1, 2).reshape(tensor.shape)
    elif kind == "gemma3" and name.endswith("norm.weight"):
        tensor = tensor - 1
    return tensor.to(dtype)


def _stretch(file: GgufFile, base: Any) -> None:
    """Divide the frequencies of the rotation by the factors in the file."""
    rotation = base.rotary_emb
    factors = file.tensor(_FREQUENCIES, torch.float32)
    if factors.shape != rotation.inv_freq.shape:
        raise ModelError(
            f"{file.shown}: tensor {_FREQUENCIES} has the shape {tuple(factors.shape)}, not "
            f"{tuple(rotation.inv_freq.shape)}; fetch or save the file again"
        )
    rotation.inv_freq /= factors
    rotation.original_inv_freq = rotation.inv_freq.clone()
