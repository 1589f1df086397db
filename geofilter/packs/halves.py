"""Contrast sets in two halves: one chooses features, the other says how well they do.

Rows are split by a hash of their tokens, so that the halves do not depend on the order of the
file and equal rows are never on both sides. Pairs stay together, and so do the pairs of one
domain, or of one prompt.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from geofilter.errors import DataError
from geofilter.packs.contrast import Contrast, Pairing
from geofilter.support.display import shown

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

# Of each set, after what cannot be used: ten rows for each half, below which neither
# a standard deviation nor an AUROC means anything.
MINIMUM_ROWS = 20
# Of paired sets with fewer domains a half could not hold two.
_FEWEST_DOMAINS = 4

HALVES = ("selection", "report")


@dataclass(frozen=True)
class Halves:
    """The selection and report halves of both sets.

    `parts`: `toxic selection`, `toxic report`, `benign selection`, `benign report`. `counts`:
    of what was left out. `groups`: of paired sets the group of each pair, `selection` and
    `report`; the k-th samples of both sides are then the k-th pair. Empty for others.
    """

    parts: dict[str, list["Encoded"]]
    counts: dict[str, int]
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)


def split_halves(toxic: Contrast, benign: Contrast) -> Halves:
    """The halves of two sets, and what was left out of them.

    Rows that are the same to the model count once, and in neither set when both hold them;
    so do pairs whose sides are the same. Raises `DataError` when too few are left or
    the sets are much the same.
    """
    if toxic.pairing is not None and toxic.pairing == benign.pairing:
        return _split_pairs(toxic, benign, toxic.pairing)
    sets = {"toxic": _distinct(toxic.samples), "benign": _distinct(benign.samples)}
    shared = sets["toxic"].keys() & sets["benign"].keys()
    smaller = min(len(rows) for rows in sets.values())
    if smaller and len(shared) > smaller / 2:
        raise DataError(
            f"{shown(toxic.source)} and {shown(benign.source)} share "
            f"{len(shared)} rows, more than half of the smaller; give two different sets"
        )
    counts = {"shared": len(shared)}
    parts: dict[str, list[Encoded]] = {}
    for name, contrast in (("toxic", toxic), ("benign", benign)):
        counts[f"{name} duplicates"] = len(contrast.samples) - len(sets[name])
        rows = [sample for key, sample in sorted(sets[name].items()) if key not in shared]
        require_rows(shown(contrast.source), len(rows), MINIMUM_ROWS)
        # The keys are hashes: half of their order is a random half, the same every time.
        parts[f"{name} selection"] = rows[: len(rows) // 2]
        parts[f"{name} report"] = rows[len(rows) // 2 :]
    return Halves(parts, counts)


def _split_pairs(toxic: Contrast, benign: Contrast, pairing: Pairing) -> Halves:
    """As `split_halves`, of two sets that are paired."""
    place = shown(toxic.source)
    distinct: dict[bytes, int] = {}
    same = 0
    for pair, sides in enumerate(zip(toxic.samples, benign.samples, strict=True)):
        bad, good = map(_key, sides)
        same += bad == good
        if bad != good:
            distinct[bad + good] = pair
    total = len(toxic.samples)
    if total and same == total:
        raise DataError(
            f"{place}: the two sides of each of the {total} pairs are the same to the model; "
            "give rejected answers that differ from the chosen ones"
        )
    require_rows(place, len(distinct), MINIMUM_ROWS, of="pairs")
    # In the order of the hashes: the order of the file decides nothing.
    pairs = [pair for _, pair in sorted(distinct.items())]
    groups = _groups([toxic.samples[pair] for pair in pairs], pairs, pairing)
    chosen = _half_of(groups) if pairing.selection is None else pairing.selection
    parts: dict[str, list[Encoded]] = {}
    groups_of: dict[str, list[str]] = {}
    for half in HALVES:
        here = [(group in chosen) == (half == "selection") for group in groups]
        require_rows(f"{place}, its {half} half", sum(here), MINIMUM_ROWS // 2, of="pairs")
        groups_of[half] = list(compress(groups, here))
        for name, contrast in (("toxic", toxic), ("benign", benign)):
            parts[f"{name} {half}"] = [contrast.samples[pair] for pair in compress(pairs, here)]
    counts = {"same sides": same, "duplicates": total - same - len(pairs)}
    return Halves(parts, counts, groups_of)


def _groups(samples: Sequence["Encoded"], pairs: Sequence[int], pairing: Pairing) -> list[str]:
    """What each pair stays together with: its domain, or its prompt where there are too few."""
    domains = [pairing.domains[pair] for pair in pairs]
    if pairing.selection is not None:
        return domains
    by_domain = len(set(domains) - {""}) >= _FEWEST_DOMAINS
    return [
        domain if domain and by_domain else _prompt(sample)
        for domain, sample in zip(domains, samples, strict=True)
    ]


def _prompt(sample: "Encoded") -> str:
    """A name for what comes before the response."""
    before = int(np.argmax(sample.response))
    return _hash(np.asarray(sample.ids[:before], np.int64).tobytes()).hex()


def _half_of(groups: Sequence[str]) -> frozenset[str]:
    """Groups that hold half of the pairs, as nearly as whole groups can."""
    sizes = Counter(groups)
    halves: list[list[str]] = [[], []]
    held = [0, 0]
    # Large ones first; among equals by a hash, so that no order of names decides.
    for group in sorted(sizes, key=lambda name: (-sizes[name], _hash(name.encode()))):
        smaller = int(held[1] < held[0])
        halves[smaller].append(group)
        held[smaller] += sizes[group]
    return frozenset(halves[0])


def _distinct(samples: Iterable["Encoded"]) -> dict[bytes, "Encoded"]:
    """Samples by what the model would see and pool over; equal ones once."""
    return {_key(sample): sample for sample in samples}


def _key(sample: "Encoded") -> bytes:
    """A hash of what the model would see and pool over."""
    content = np.asarray(sample.ids, np.int64).tobytes()
    mask = np.asarray(sample.pooled, bool).tobytes()
    return _hash(content + mask)


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def require_rows(name: str, rows: int, needed: int, *, of: str = "rows") -> None:
    """Raise `DataError` when `name` has fewer rows, or pairs, than `needed`."""
    if rows < needed:
        raise DataError(
            f"{name}: {rows} usable distinct {of}, at least {needed} are needed to choose "
            "features on one half and test them on the other"
        )
