"""How a trainer is to learn from a row: its weight, and the tokens that get no loss.

Both stand next to the row as a `LossNote`, in any format of rows, and are read again where the
row is trained on. Places of tokens are good for one tokenizer, template and length alone,
so that the note names the tokens they were counted in, and others are refused.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofilter.data.formats.source import LossNote
from geofilter.errors import DataError
from geofilter.support.display import escape

Mask = NDArray[np.bool_]

_SPAN = re.compile(r"(\d{1,9}):(\d{1,9})")
# What a trainer has to know of a note.
FIELDS = ("weight", "tokens", "masked")


@dataclass(frozen=True, slots=True, eq=False)
class RowLoss:
    """What a row's loss is multiplied by, 0 to 1, and where it has none.

    `masked` holds [start, end) of each run of tokens without a loss, ascending; `tokens` names
    the token ids that they count in (`name_of`), empty where none is masked.
    """

    weight: float = 1.0
    tokens: str = ""
    masked: tuple[tuple[int, int], ...] = ()

    @classmethod
    def masking(cls, tokens: str, masked: Mask) -> "RowLoss":
        """No loss where `masked` (tokens,) is true, in the token ids that `tokens` names."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], masked, [False]])))
        spans = tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        return cls(1.0, tokens if spans else "", spans)

    def mask_of(self, ids: NDArray[np.int32]) -> Mask:
        """Where `ids` (tokens,), as the trainer made them, get no loss.

        Raises `DataError` when they are not the tokens that were masked.
        """
        mask = np.zeros(len(ids), np.bool_)
        if not self.masked:
            return mask
        found = name_of(ids)
        if found != self.tokens:
            raise DataError(
                f"the mask was made for other tokens ({self.tokens}) than the trainer's ({found}): "
                "its tokenizer, chat template or max_length is another; make the mask with those"
            )
        if self.masked[-1][1] > len(ids):
            raise _damaged("masked", self.masked[-1])
        for start, end in self.masked:
            mask[start:end] = True
        return mask

    def note(self, score: float | None, rank: int | None) -> LossNote:
        """As it is written next to the row."""
        spans = " ".join(f"{start}:{end}" for start, end in self.masked)
        return LossNote(score, rank, self.weight, self.tokens, spans)


def name_of(ids: NDArray[np.int32]) -> str:
    """A name of token ids: how many there are, and 16 hex digits of their BLAKE2b."""
    digest = hashlib.blake2b(ids.astype("<i4").tobytes(), digest_size=8).hexdigest()
    return f"{len(ids)}:{digest}"


def read_row_loss(record: Mapping[str, object]) -> RowLoss | None:
    """The note next to a row, from the key `geofilter` or from columns; None without one.

    Raises `DataError` for a note that nothing of geofilter wrote.
    """
    note = record.get("geofilter")
    if not isinstance(note, Mapping):
        found = {name: f"geofilter_{name}" for name in FIELDS}
        note = {name: record[column] for name, column in found.items() if column in record}
    if note.get("weight") is None or "masked" not in note:
        return None
    weight, tokens, masked = note["weight"], _text(note.get("tokens")), _text(note["masked"])
    try:
        value = float(str(weight))
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise _damaged("weight", weight)
    spans = tuple(_span(part) for part in masked.split())
    starts = [place for span in spans for place in span]
    if sorted(set(starts)) != starts:
        raise _damaged("masked", masked)
    return RowLoss(value, tokens, spans)


def _text(value: object) -> str:
    """A field of a note; readers of CSV make None or NaN of an empty one."""
    return "" if value is None or value != value else str(value)


def _span(text: str) -> tuple[int, int]:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise _damaged("masked", text)
    return int(found[1]), int(found[2])


def _damaged(name: str, value: object) -> DataError:
    shown = escape(json.dumps(value, default=str), limit=80)
    return DataError(
        f"geofilter's note next to the row is damaged: {name} is {shown}; make the file again "
        "with `geofilter filter`"
    )
