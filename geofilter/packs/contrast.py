"""The toxic and benign rows that a pack is made from, read and split in halves.

The rows of each set are split by a hash of their tokens, so that the halves do not
depend on the order of the file and equal rows are never on both sides.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Problem, Unscorable
from geofilter.data.reading import Reading, Tally
from geofilter.data.rows import Row, open_rows
from geofilter.errors import DataError
from geofilter.support.display import shown

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded, Encoder

# Of each set, after what cannot be used: ten rows for each half, below which neither
# a standard deviation nor an AUROC means anything.
MINIMUM_ROWS = 20


@dataclass(frozen=True)
class Contrast:
    """One contrast set, encoded. `skipped` counts rows without a usable sample, by status.

    `origin` says more about where the rows come from, in values that JSON can spell. `reading`:
    what was read of the file.
    """

    samples: Sequence["Encoded"]
    source: str
    sha256: str
    skipped: dict[str, int]
    origin: Mapping[str, object] = field(default_factory=dict)
    reading: Reading | None = None

    def describe(self) -> dict[str, object]:
        """What a pack records about the set it was made from."""
        return {
            "source": self.source,
            "sha256": self.sha256,
            "rows": len(self.samples),
            "skipped": self.skipped,
            **self.origin,
        }


def read_contrast(source: str, encoder: "Encoder") -> Contrast:
    """Read and encode a contrast set. Rows without a usable sample are skipped and counted.

    Raises `DataError` when the file cannot be read or its rows hold two samples each.
    """
    rows = open_rows(source)
    tally = rows.tally()
    samples, skipped = [], Counter[str]()
    for row in rows:
        found = _encoded(row, tally, encoder)
        if isinstance(found, Problem):
            skipped[found.status] += 1
        else:
            samples.append(found)
    reading = tally.reading()
    return Contrast(samples, source, rows.fingerprint(), dict(skipped), reading=reading)


def read_groups(source: str, encoder: "Encoder", column: str) -> dict[str | None, Contrast]:
    """Read and encode a file once, as one contrast set for each value of `column`.

    Values are compared as text, and come in the order of the file; rows whose value is
    neither text nor a number are under None. Errors as in `read_contrast`.
    """
    rows = open_rows(source)
    tally = rows.tally()
    samples: dict[str | None, list[Encoded]] = {}
    skipped: dict[str | None, Counter[str]] = {}
    for row in rows:
        value = row.record.get(column) if row.record is not None else None
        group = str(value) if isinstance(value, (str, int, float)) else None
        samples.setdefault(group, [])
        found = _encoded(row, tally, encoder)
        if isinstance(found, Problem):
            skipped.setdefault(group, Counter())[found.status] += 1
        else:
            samples[group].append(found)
    sha256, reading = rows.fingerprint(), tally.reading()
    return {
        group: Contrast(
            of_it,
            source if group is None else f"{source} ({column}={group})",
            sha256,
            dict(skipped.get(group, {})),
            reading=reading,
        )
        for group, of_it in samples.items()
    }


def _encoded(row: Row, tally: Tally, encoder: "Encoder") -> "Encoded | Problem":
    """The one sample of a row, or why it has none that can be used."""
    try:
        sample, *others = tally.samples(row.record, row.where, row.problem)
        if others:
            raise DataError(
                f"{row.where}: a chosen/rejected row holds two samples, which cannot be a "
                "contrast set; give toxic and benign text in two files"
            )
        return encoder.encode(sample)
    except Unscorable as reason:
        return reason.problem


def split_halves(
    toxic: Contrast, benign: Contrast
) -> tuple[dict[str, list["Encoded"]], dict[str, int]]:
    """The selection and report halves of both sets, and counts of what was left out.

    Keys `toxic selection`, `toxic report`, `benign selection`, `benign report`. Rows that
    are the same to the model count once, and in neither set when both hold them.
    Raises `DataError` when too few are left or the sets are much the same.
    """
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
    return parts, counts


def _distinct(samples: Iterable["Encoded"]) -> dict[bytes, "Encoded"]:
    """Samples by a hash of what the model would see and pool over; equal ones once."""
    distinct = {}
    for sample in samples:
        content = np.asarray(sample.ids, np.int64).tobytes()
        mask = np.asarray(sample.pooled, bool).tobytes()
        distinct[hashlib.blake2b(content + mask, digest_size=16).digest()] = sample
    return distinct


def require_rows(name: str, rows: int, needed: int) -> None:
    """Raise `DataError` when `name` has fewer rows than `needed`."""
    if rows < needed:
        raise DataError(
            f"{name}: {rows} usable distinct rows, at least {needed} are needed to choose "
            "features on one half and test them on the other"
        )
