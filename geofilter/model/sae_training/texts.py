"""Rows as tokens to train an SAE on, and those kept apart to measure it."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Unscorable
from geofilter.data.reading import Reading
from geofilter.data.rows import open_rows

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded, Encoder

# One text of so many is kept apart.
_HELD_OUT = 20
# As many tokens say what an SAE is worth.
_HELD_TOKENS = 50_000


@dataclass(frozen=True)
class Texts:
    """Encoded texts. `pooled` of each marks the tokens that count.

    `training` and `held_out` share no text. `skipped`: rows of which nothing is used, by
    status. `reading` and `sha256`: what was read, and of what.
    """

    training: Sequence["Encoded"]
    held_out: Sequence["Encoded"]
    skipped: dict[str, int]
    reading: Reading
    sha256: str

    @property
    def tokens(self) -> int:
        """Tokens to train on."""
        return sum(counted(text) for text in self.training)


def counted(text: "Encoded") -> int:
    """How many tokens of a text count."""
    return int(text.pooled.sum())


def read_texts(source: str | Sequence[str], encoder: "Encoder", tokens: int, seed: int) -> Texts:
    """Read rows until `tokens` are found, shuffled by `seed`; each text counts once.

    What counts is the rows' own text, prompts included: no special token, nothing that the
    template writes, and no first token, whose residual stream is unlike all others.
    Raises `DataError` when the rows cannot be read.
    """
    rows = open_rows(source)
    tally = rows.tally()
    skipped: Counter[str] = Counter()
    found: dict[bytes, Encoded] = {}
    held: dict[bytes, Encoded] = {}
    total = held_total = 0
    for row in rows:
        try:
            samples = tally.samples(row.record, row.where, row.problem)
            texts = [encoder.own_text(sample) for sample in samples]
        except Unscorable as reason:
            skipped[reason.problem.status] += 1
            continue
        for text in texts:
            text.pooled[0] = False
            size = counted(text)
            key = hashlib.blake2b(text.ids.tobytes(), digest_size=8).digest()
            if not size or key in found or key in held:
                skipped["empty" if not size else "duplicate"] += 1
            elif int.from_bytes(key) % _HELD_OUT:
                found[key] = text
                total += size
            elif held_total < _HELD_TOKENS:
                held[key] = text
                held_total += size
        if total >= tokens:
            break
    order = np.random.default_rng(seed).permutation(len(found))
    texts = list(found.values())
    return Texts(
        [texts[place] for place in order],
        list(held.values()),
        dict(skipped),
        tally.reading(),
        rows.fingerprint(),
    )
