"""What is no GGUF model, or none that can be read exactly, is refused in one line."""

import struct

import numpy as np
import pytest

from geofilter.errors import ModelError
from geofilter.model import loading
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.gguf_file import open_gguf
from helpers.gguf_files import BLOCKS, network, write_gguf

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 98362432\n"


@pytest.fixture(scope="module")
def llama():
    return network("llama")


@pytest.fixture(scope="module")
def whole(llama, tmp_path_factory):
    """The bytes of a sound file, with its tensors as Q8_0."""
    return write_gguf(tmp_path_factory.mktemp("a") / "a.gguf", "llama", llama, "Q8_0").read_bytes()


def refusal(path, **arguments):
    with pytest.raises(ModelError) as caught:
        loading.load(str(path), sae="axes/1", **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message


def header(values=b"", n_values=0, tensors=b"", n_tensors=0):
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_values) + values + tensors


def text(value):
    return struct.pack("<Q", len(value)) + value


def a_list(kind, count):
    return text(b"a") + struct.pack("<IIQ", 9, kind, count)


def a_tensor(name=b"t", shape=(32,), kind=0, start=0):
    dimensions = struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + dimensions + struct.pack("<IQ", kind, start)


BYTES = {
    "empty": (b"", "is no GGUF file; fetch or save it again"),
    "text": (b"hello", "is no GGUF file"),
    "pickle": (b"PK\x03\x04" + bytes(100), "is no GGUF file"),
    "pointer": (LFS, "is a pointer of Git LFS, not the file; fetch it with git lfs pull"),
    "magic alone": (b"GGUF", "is cut off within its header"),
    "first version": (b"GGUF" + struct.pack("<I", 1) + bytes(40), "is of version 1; versions 2"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(40), "is big-endian"),
    "many values": (header(n_values=2**60), "is cut off within its header"),
    "many tensors": (header(n_tensors=2**60), "is cut off within its header"),
    "long name": (header(struct.pack("<Q", 2**63), 1), "is cut off within its header"),
    "long list": (header(a_list(4, 2**60), 1), f"a list of {2**60} items"),
    "list of nothing": (header(a_list(8, 10**7), 1), "is cut off within its header"),
    "list of lists": (header(a_list(9, 2), 1), "a list of values of type 9"),
    "unknown value": (header(text(b"a") + struct.pack("<I", 99), 1), "a value of unknown type 99"),
    "name that is not UTF-8": (header(text(b"\xff"), 1), "is not UTF-8"),
    "vast tensor": (header(tensors=a_tensor(shape=(2**62, 2**62)), n_tensors=1), "is cut off: it"),
    "far tensor": (header(tensors=a_tensor(start=2**63), n_tensors=1), "is cut off: it has"),
    "no dimensions": (header(tensors=a_tensor(shape=()), n_tensors=1), "has 0 dimensions"),
    "unknown type": (header(tensors=a_tensor(kind=999), n_tensors=1), "tensor t is of type 999"),
    "half a block": (header(tensors=a_tensor(kind=8, shape=(33,)), n_tensors=1), "whole blocks"),
    "no architecture": (header() + bytes(64), "does not say its architecture"),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_model_are_refused(case, tmp_path):
    content, expected = BYTES[case]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert expected in refusal(path)


def test_a_file_that_is_cut_anywhere_is_refused(whole, tmp_path):
    path = tmp_path / "model.gguf"
    for share in np.linspace(0.001, 0.999, 40):
        path.write_bytes(whole[: int(len(whole) * share)])
        assert "is cut off" in refusal(path)
    path.write_bytes(whole[:-40])
    assert "fetch or save it again" in refusal(path)


def test_any_changed_byte_of_the_header_is_refused_or_read_and_never_a_crash(whole, tmp_path):
    path = tmp_path / "model.gguf"
    end = whole.index(b"token_embd") + 2000
    draw = np.random.default_rng(0)
    for place in draw.integers(4, end, 300):
        changed = bytearray(whole)
        changed[place] = draw.integers(256)
        path.write_bytes(changed)
        assert outcome(path) == "read" or "\n" not in outcome(path)


def outcome(path):
    """`read`, or the refusal; any other error is the test's failure."""
    try:
        loading.read_texts(open_checkpoint(str(path)), False)
    except ModelError as error:
        return str(error)
    return "read"


# How the file differs from a sound one, and what is said of it.
FILES = {
    "another architecture": (
        {"architecture": "mamba"},
        "its architecture 'mamba' cannot be read from a GGUF file; these can: gemma3, llama, "
        "qwen2, qwen3; give the folder or hub id of the unquantised model instead",
    ),
    "no tokenizer": ({"tokenizer": False}, "holds no tokenizer; save it again with one, or give"),
    "one part of several": (
        {"values": {"split.count": 3}},
        "is one part of 3; join them with llama-gguf-split --merge",
    ),
    "no embedding": ({"without": ("token_embd.weight",)}, "holds no token embedding"),
    "experts": ({"values": {"llama.expert_count": 8}}, "llama.expert_count is 8, which cannot"),
    "another scaling": (
        {"values": {"llama.rope.scaling.type": "yarn"}},
        "llama.rope.scaling.type is yarn, which cannot be read",
    ),
    "half a rotation": (
        {"values": {"llama.rope.dimension_count": 4}},
        "llama.rope.dimension_count is 4, which cannot be read",
    ),
    "a tensor too few": (
        {"without": ("blk.1.ffn_up.weight",)},
        "lacks tensor blk.1.ffn_up.weight; fetch or save it again",
    ),
    "a tensor too many": (
        {"tensors": {"blk.0.attn_q.bias": np.zeros(32, np.float32)}},
        "tensor blk.0.attn_q.bias has no place in a model of architecture 'llama'",
    ),
    "a tensor of another shape": (
        {
            "without": ("blk.0.ffn_up.weight",),
            "tensors": {"blk.0.ffn_up.weight": np.zeros((8, 8), np.float32)},
        },
        "tensor blk.0.ffn_up.weight has the shape (8, 8), but its header says (64, 32)",
    ),
    "whole numbers": (
        {
            "without": ("blk.0.ffn_up.weight",),
            "tensors": {"blk.0.ffn_up.weight": np.zeros((64, 32), np.int32)},
        },
        "tensor blk.0.ffn_up.weight is of type I32, which cannot be dequantised",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_read_otherwise_elsewhere_is_refused(case, llama, tmp_path):
    changes, expected = FILES[case]
    path = write_gguf(tmp_path / "model.gguf", "llama", llama, **changes)
    assert expected in refusal(path)


def test_a_number_of_blocks_that_the_file_does_not_hold_is_refused(whole, tmp_path):
    path = tmp_path / "model.gguf"
    key = text(b"llama.block_count") + struct.pack("<I", 4)
    for stated in (BLOCKS + 2, 2**31):
        known, changed = (key + struct.pack("<I", number) for number in (BLOCKS, stated))
        path.write_bytes(whole.replace(known, changed))
        assert f"says that it has {stated} blocks" in refusal(path)


def test_a_missing_file_is_called_one(tmp_path):
    assert refusal(tmp_path / "none.gguf").endswith("no such file")
    with pytest.raises(ModelError, match=r"^a/b\.gguf: no such file$"):
        open_checkpoint("a/b.gguf")
    (tmp_path / "model.bin").write_bytes(b"")
    assert "or a file NAME.gguf" in refusal(tmp_path / "model.bin")


def test_an_sae_of_another_model_is_refused(whole, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    with pytest.raises(ModelError, match=f"reads block 9, but {path} has blocks 0 to 6"):
        loading.load(str(path), sae="axes/9")


def test_only_the_header_is_read_on_opening(whole, tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    monkeypatch.setattr(np, "fromfile", None)
    file = open_gguf(path)
    assert file.kinds() == "Q8_0"
    assert file.metadata["llama.attention.layer_norm_rms_epsilon"] == 1e-06
