"""A GGUF file: what it says of its model, and its tensors, one at a time.

Only the header is read on opening, and every length in it is checked against the size of
the file: the file is hostile input, and the reader of the package gguf trusts the lengths. (It
also makes an object of every token of the vocabulary, which takes seconds.) The package knows
the quantised types and turns them back into numbers; nothing of a tensor is read that is not
asked for.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from geofilter.errors import ModelError
from geofilter.support.display import escape, no_utf8, shown
from geofilter.support.pointers import refuse_pointer

if TYPE_CHECKING:
    import torch

SUFFIX = ".gguf"
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_AGAIN = "fetch or save it again"
# Codes of the header's values: struct formats of those with a fixed width, and two others.
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_FLOAT32, _STRING, _LIST = 6, 8, 9
# A vocabulary has some hundred thousand items, a list with one item per block some hundreds.
_MOST_ITEMS, _KEPT_ITEMS = 16_000_000, 4096
_MOST_DIMENSIONS = 8
# Types that hold the weights themselves.
_PLAIN = {"F32", "F16", "BF16"}
# Numbers of a matrix that are dequantised at once: 64 MiB in float32.
_AT_ONCE = 2**24


class ListOf(NamedTuple):
    """Stands for a list in the header that is too long to keep, or holds text."""

    items: int


class TensorInfo(NamedTuple):
    """Where one tensor lies, and how. `shape` is in torch's order."""

    shape: tuple[int, ...]
    kind: str  # F32, Q4_1, ...
    start: int  # in bytes, from the beginning of the file
    size: int  # in bytes


@dataclass(frozen=True, eq=False)
class GgufFile:
    """The header of one file; see `open_gguf`."""

    path: Path
    metadata: Mapping[str, object]
    tensors: Mapping[str, TensorInfo]

    @property
    def shown(self) -> str:
        """The path, fit for a message."""
        return shown(self.path)

    def kinds(self, names: Iterable[str] | None = None) -> str:
        """The types of the matrices among `names` (None: of all), most frequent first: Q4_1+Q8_0.

        Vectors are left out: they are float32 in nearly every file.
        """
        chosen = self.tensors if names is None else names
        found = (self.tensors[name] for name in chosen)
        counts = Counter(tensor.kind for tensor in found if len(tensor.shape) > 1)
        return "+".join(sorted(counts, key=lambda kind: (-counts[kind], kind)))

    def rounded(self) -> str:
        """The types of the matrices as `kinds` has them, or nothing where all are plain numbers."""
        kinds = self.kinds()
        return "" if set(kinds.split("+")) <= _PLAIN else kinds

    def tensor(self, name: str, dtype: "torch.dtype") -> "torch.Tensor":
        """One tensor, dequantised: a matrix in `dtype`, a vector in float32.

        Raises `ModelError` for a type that cannot be turned into numbers.
        """
        import numpy as np
        import torch
        from gguf import GGMLQuantizationType, dequantize

        shape, kind, start, size = self.tensors[name]
        rows = prod(shape[:-1])
        if not rows or not shape[-1]:
            return torch.empty(shape, dtype=torch.float32)
        result = torch.empty((rows, shape[-1]), dtype=dtype if len(shape) > 1 else torch.float32)
        each = size // rows  # bytes of a row
        step = max(1, _AT_ONCE // shape[-1])
        for first in range(0, rows, step):
            count = min(step, rows - first)
            packed = np.fromfile(
                self.path, dtype=np.uint8, count=count * each, offset=start + first * each
            )
            if len(packed) < count * each:  # it was cut after its header was read
                raise ModelError(f"{self.shown}: is cut off in tensor {escape(name)}; {_AGAIN}")
            try:
                numbers = dequantize(packed.reshape(count, each), GGMLQuantizationType[kind])
            except NotImplementedError as error:
                raise ModelError(
                    f"{self.shown}: tensor {escape(name)} is of type {kind}, which cannot be "
                    "dequantised; use a file of another type, such as Q8_0"
                ) from error
            result[first : first + count] = torch.from_numpy(numbers)
        return result.reshape(shape)


def is_gguf(path: Path) -> bool:
    """Whether a path is named as a GGUF file."""
    return path.suffix.lower() == SUFFIX


def open_gguf(path: Path) -> GgufFile:
    """Read and check the header of the file at `path`.

    Raises `ModelError`, in one line, where it is missing, no GGUF, cut off, damaged, or one
    part of several.
    """
    place = shown(path)
    if reason := no_utf8(path):
        raise ModelError(reason)
    refuse_pointer(path, ModelError)
    if not path.is_file():
        raise ModelError(f"{place}: no such file")
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ModelError(f"{place}: is no GGUF file; {_AGAIN}, or give another file")
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                return _read(path, _Header(content, place))
    except (struct.error, _CutOff) as error:
        raise ModelError(f"{place}: is cut off within its header; {_AGAIN}") from error
    except _Damaged as error:
        raise ModelError(f"{place}: is a damaged GGUF file ({error}); {_AGAIN}") from error
    except (OSError, ValueError) as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        raise ModelError(f"{place}: cannot be read ({reason}); {_AGAIN}") from error


class _CutOff(Exception):
    """The file ends where more of its header should be."""


class _Damaged(Exception):
    """The header holds what no writer puts there; the message says what."""


class _Header:
    """Reads the header from its beginning, value by value."""

    def __init__(self, content: mmap, place: str) -> None:
        self._content = content
        self.shown = place
        self.size = len(content)
        self.place = len(_MAGIC)

    def numbers(self, form: str) -> tuple[Any, ...]:
        """Numbers in a `struct` format; all is little-endian."""
        found = struct.unpack_from(f"<{form}", self._content, self.place)
        self.place += struct.calcsize(f"<{form}")
        return found

    def text(self) -> str:
        (length,) = self.numbers("Q")
        start = self._skip(length)
        try:
            return self._content[start : self.place].decode()
        except UnicodeDecodeError as error:
            raise _Damaged(f"text at byte {start} is not UTF-8") from error

    def value(self, kind: int) -> object:
        if kind == _FLOAT32:
            return _decimal(*self.numbers("f"))
        if kind in _FIXED:
            return self.numbers(_FIXED[kind])[0]
        if kind == _STRING:
            return self.text()
        if kind == _LIST:
            return self._list()
        raise _Damaged(f"a value of unknown type {kind}")

    def _list(self) -> object:
        kind, count = self.numbers("IQ")
        if count > _MOST_ITEMS:
            raise _Damaged(f"a list of {count} items")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self.numbers("Q")[0])
            return ListOf(count)
        if kind not in _FIXED:
            raise _Damaged(f"a list of values of type {kind}")
        if count <= _KEPT_ITEMS:
            return self.numbers(f"{count}{_FIXED[kind]}")
        self._skip(count * struct.calcsize(_FIXED[kind]))
        return ListOf(count)

    def _skip(self, length: int) -> int:
        """Go on by `length` bytes; returns where they begin."""
        start = self.place
        if length > self.size - start:
            raise _CutOff
        self.place += length
        return start


def _decimal(number: float) -> float:
    """The shortest decimal that float32 holds as `number`: what was written there, 1e-06."""
    for digits in range(1, 9):
        short = float(f"{number:.{digits}g}")
        try:
            if struct.pack("<f", short) == struct.pack("<f", number):
                return short
        except OverflowError:  # rounded up, beyond the largest
            continue
    return number


def _read(path: Path, header: _Header) -> GgufFile:
    place = header.shown
    (version,) = header.numbers("I")
    if version not in _VERSIONS:
        swapped = version & 0xFFFF == 0
        what = "is big-endian" if swapped else f"is of version {version}"
        raise ModelError(
            f"{place}: {what}; versions {' and '.join(map(str, _VERSIONS))} in little-endian "
            "order can be read; convert the model again with a newer llama.cpp"
        )
    n_tensors, n_values = header.numbers("QQ")
    metadata: dict[str, object] = {}
    for _ in range(n_values):
        key = header.text()
        metadata[key] = header.value(header.numbers("I")[0])
    parts = metadata.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise ModelError(
            f"{place}: is one part of {parts}; join them with "
            "llama-gguf-split --merge FIRST-PART WHOLE.gguf, and give the whole"
        )
    found = [_info(header) for _ in range(n_tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 2**16:
        raise _Damaged(f"an alignment of {escape(alignment)}")
    data = -(-header.place // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, info in found:
        if name in tensors:
            raise _Damaged(f"two tensors {escape(name)}")
        tensors[name] = info._replace(start=data + info.start)
    # The last one is the one that a cut takes first.
    if tensors:
        last = max(tensors, key=lambda name: tensors[name].start + tensors[name].size)
        end = tensors[last].start + tensors[last].size
        if end > header.size:
            raise ModelError(
                f"{place}: is cut off: it has {header.size:,} bytes, and tensor {escape(last)} "
                f"ends at byte {end:,}; {_AGAIN}"
            )
    return GgufFile(path, metadata, tensors)


def _info(header: _Header) -> tuple[str, TensorInfo]:
    """The name of the next tensor, and where it lies from the beginning of all tensors."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name = header.text()
    (dimensions,) = header.numbers("I")
    if not 0 < dimensions <= _MOST_DIMENSIONS:
        raise _Damaged(f"tensor {escape(name)} has {dimensions} dimensions")
    shape = tuple(reversed(header.numbers(f"{dimensions}Q")))
    code, start = header.numbers("IQ")
    try:
        kind = GGMLQuantizationType(code)
        block, width = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{header.shown}: tensor {escape(name)} is of type {code}, which this "
            "version of the package gguf does not know; pip install -U gguf"
        ) from error
    if shape[-1] % block:
        raise _Damaged(f"rows of tensor {escape(name)} are not whole blocks")
    return name, TensorInfo(shape, kind.name, start, prod(shape) // block * width)
