"""The contrast sets that a name stands for: what `--contrast` takes."""

import hashlib
from typing import TYPE_CHECKING

from geofilter.data.rows import open_rows
from geofilter.errors import DataError
from geofilter.packs import rtp
from geofilter.packs.contrast import Contrast
from geofilter.packs.pairs import MOST_ROWS, SHIPPED, read_pairs, read_shipped

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoder

PAIRS, RTP = "pairs", "rtp"
NAMES = (PAIRS, RTP)
_HUB = "hf://"
_HUB_SETS = "hf://datasets/"


def read_named(name: str, encoder: "Encoder") -> tuple[Contrast, Contrast]:
    """The toxic and the benign set that `name` stands for.

    `pairs`: those that come with geofilter. `rtp`: the two ends of RealToxicityPrompts.
    `hf://ORG/NAME`, with @REVISION or #SPLIT where needed, or a file: rows with a chosen and
    a rejected answer to one prompt, as pairs; on the hub the first `MOST_ROWS`. Raises
    `DataError` in one line for what cannot be fetched or read.
    """
    if name == PAIRS:
        return read_shipped(encoder)
    if name == RTP:
        return rtp.read(rtp.fetch_prompts(), encoder)
    if not name.startswith(_HUB):
        return read_pairs(name, encoder)
    try:
        return read_pairs(_hub_place(name), encoder, most=MOST_ROWS)
    except DataError as error:
        raise DataError(f"{error}; --contrast pairs needs no network") from error


def identity(name: str) -> object:
    """All that decides which rows `name` stands for, in values that JSON can spell.

    Nothing is fetched: a set on the hub counts by its name. Raises `DataError` for a file that
    cannot be read.
    """
    if name == PAIRS:
        return hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    if name == RTP:
        return dict(rtp.DEFINITION)
    if name.startswith(_HUB):
        return {"hub": _hub_place(name), "rows": MOST_ROWS}
    try:
        return open_rows(name).fingerprint()
    except DataError as error:
        raise DataError(
            f"{error}; --contrast takes pairs, rtp, hf://ORG/NAME, or a file of rows with chosen "
            "and rejected answers"
        ) from error


def _hub_place(name: str) -> str:
    """A set on the hub as `open_rows` takes it."""
    return name if name.startswith(_HUB_SETS) else _HUB_SETS + name.removeprefix(_HUB)
