"""Paired contrast sets: one prompt, answered badly and well.

What the two answers share (topic, length, tone) cannot be taken for harm. Pairs come with this
package, and are read from rows of chosen and rejected answers: the rejected one is the harmful.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from geofilter.data.problems import Unscorable
from geofilter.data.reading import Reading
from geofilter.data.rows import open_rows
from geofilter.data.samples import Sample, Turn
from geofilter.errors import DataError
from geofilter.packs.contrast import Contrast, Pairing
from geofilter.support.display import shown

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded, Encoder

SHIPPED = Path(__file__).parent / "data" / "pairs.jsonl"
# The parts of the shipped pairs: the first chooses features, the last tests them, and the
# middle one is for choosing between ways to do so.
SPLITS = ("make", "choose", "report")
# Pairs of a domain that a pack is tested on: more would take longer than the pack itself.
TESTED = 10
# Rows of a preference set on the hub that are read; many have a hundred thousand and more.
MOST_ROWS = 1000
_DOMAIN = "domain"
# What a pack says it was made from.
SOURCE = "the pairs of geofilter"


@dataclass(frozen=True)
class Pair:
    """One prompt with a harmful and a helpful answer, as the shipped file holds it."""

    domain: str
    kind: str
    subtlety: str
    split: str
    prompt: str
    harmful: str
    helpful: str

    def sides(self) -> tuple[Sample, Sample]:
        """The harmful and the helpful answer, each as that of a chat."""
        return _chat(self.prompt, self.harmful), _chat(self.prompt, self.helpful)


FIELDS = tuple(field.name for field in fields(Pair))


def shipped(split: str | None = None) -> list[Pair]:
    """The pairs that come with this package: those of one of `SPLITS`, or all."""
    if split is not None and split not in SPLITS:
        raise DataError(f"{shown(split)}: is no split of the pairs: {', '.join(SPLITS)}")
    lines = SHIPPED.read_text(encoding="utf-8").splitlines()
    pairs = (Pair(**json.loads(line)) for line in lines)
    return [pair for pair in pairs if split in (None, pair.split)]


def read_shipped(encoder: "Encoder") -> tuple[Contrast, Contrast]:
    """The harmful and the helpful side of the shipped pairs, for packs.

    Features are chosen by the split `make` and tested on `TESTED` pairs of each domain of
    `report`; `choose` stays out.
    """
    made = shipped("make")
    tested: dict[str, list[Pair]] = {}
    for pair in shipped("report"):
        tested.setdefault(pair.domain, []).append(pair)
    few = [pair for of_domain in tested.values() for pair in of_domain[:TESTED]]
    selection = frozenset(pair.domain for pair in made)
    return encode([*made, *few], encoder, selection=selection)


def encode(
    pairs: Iterable[Pair], encoder: "Encoder", *, selection: frozenset[str] | None = None
) -> tuple[Contrast, Contrast]:
    """The harmful and the helpful side of pairs, each answer as that of a chat.

    `selection`: the domains that choose features; by default half of them, by a hash. A pair
    that does not fit the window is skipped and counted.
    """
    found = _Sides()
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps(asdict(pair)).encode())
        found.add(pair.sides(), pair.domain, encoder)
    origin: dict[str, object] = {"dataset": SOURCE}
    return found.contrasts(SOURCE, digest.hexdigest(), origin, selection)


def _chat(prompt: str, answer: str) -> Sample:
    return Sample((Turn("user", prompt), Turn("assistant", answer)), prompt_turns=1)


class PairedSamples(NamedTuple):
    """A prompt with a harmful and a helpful answer, each a conversation; `domain` may be empty."""

    domain: str
    harmful: Sample
    helpful: Sample


@dataclass(frozen=True)
class PairRows:
    """The pairs among rows of chosen and rejected answers; `skipped` counts the other rows."""

    pairs: tuple[PairedSamples, ...]
    skipped: Counter[str]
    reading: Reading
    fingerprint: str


def read_rows(source: str, *, most: int | None = None) -> PairRows:
    """The pairs of a file or hub set of preference rows: the rejected answer is the harmful one.

    A column `domain` says which pairs are kept together. `most`: rows that are read. Raises
    `DataError` when the file cannot be read.
    """
    rows = open_rows(source)
    tally = rows.tally()
    found, skipped = [], Counter[str]()
    for row in islice(rows, most):
        try:
            sides = tally.samples(row.record, row.where, row.problem)
        except Unscorable as reason:
            skipped[reason.problem.status] += 1
            continue
        if len(sides) != 2:
            skipped["no_pair"] += 1
            continue
        domain = (row.record or {}).get(_DOMAIN)
        chosen, rejected = sides
        found.append(PairedSamples(domain if isinstance(domain, str) else "", rejected, chosen))
    return PairRows(tuple(found), skipped, tally.reading(), rows.fingerprint())


def read_pairs(
    source: str, encoder: "Encoder", *, most: int | None = None
) -> tuple[Contrast, Contrast]:
    """The rejected and the chosen side of a file or hub set of preference rows; see `read_rows`.

    Rows without a usable pair are skipped and counted. Raises `DataError` when the file cannot
    be read or holds no pair.
    """
    rows = read_rows(source, most=most)
    found = _Sides(rows.skipped)
    for pair in rows.pairs:
        found.add((pair.harmful, pair.helpful), pair.domain, encoder)
    if not found.domains:
        raise DataError(
            f"{shown(source)}: no row holds a usable pair ({rows.reading}); give rows with a "
            "prompt, chosen (helpful) and rejected (harmful), or two files with geofilter discover "
            "--toxic FILE --benign FILE"
        )
    # Of a set on the hub no rows are looked for again (see `describe_contrast_sets`).
    origin: dict[str, object] = {} if most is None else {"dataset": source, "first_rows": most}
    toxic, benign = found.contrasts(source, rows.fingerprint, origin, None)
    # What was read is the same for both, and is said once.
    return replace(toxic, reading=rows.reading), benign


class _Sides:
    """Both sides of pairs, as they are encoded."""

    def __init__(self, skipped: Counter[str] | None = None) -> None:
        self.harmful: list[Encoded] = []
        self.helpful: list[Encoded] = []
        self.domains: list[str] = []
        self.skipped = Counter(skipped or ())

    def add(self, sides: Sequence[Sample], domain: str, encoder: "Encoder") -> None:
        """Add the harmful and the helpful side of a pair, unless one of them is unscorable."""
        try:
            harmful, helpful = map(encoder.encode, sides)
        except Unscorable as reason:
            self.skipped[reason.problem.status] += 1
            return
        self.harmful.append(harmful)
        self.helpful.append(helpful)
        self.domains.append(domain)

    def contrasts(
        self,
        source: str,
        sha256: str,
        origin: dict[str, object],
        selection: frozenset[str] | None,
    ) -> tuple[Contrast, Contrast]:
        pairing = Pairing(tuple(self.domains), selection)
        harmful, helpful = (
            Contrast(
                samples,
                source,
                sha256,
                dict(self.skipped),
                {**origin, "side": side},
                pairing=pairing,
            )
            for samples, side in ((self.harmful, "harmful"), (self.helpful, "helpful"))
        )
        return harmful, helpful
