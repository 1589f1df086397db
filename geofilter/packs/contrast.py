"""The toxic and benign rows that a pack is made from, read from files.

Two sets may be paired: each prompt is then answered badly in the one and well in the other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geofilter.data.problems import Problem, Unscorable
from geofilter.data.reading import Reading, Tally
from geofilter.data.rows import Row, open_rows
from geofilter.errors import DataError

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded, Encoder


@dataclass(frozen=True)
class Pairing:
    """What belongs together in two paired sets: the k-th sample of each is of the k-th pair.

    `domains` (pairs,): those that the rows name, "" where they name none. `selection`: the
    domains that choose features, where that is laid down.
    """

    domains: tuple[str, ...]
    selection: frozenset[str] | None = None


@dataclass(frozen=True)
class Contrast:
    """One contrast set, encoded. `skipped` counts rows without a usable sample, by status.

    `origin` says more about where the rows come from, in values that JSON can spell. `reading`:
    what was read of the file. `pairing`: how its samples go with those of the other set; the
    same for both, and None where the sets are not paired.
    """

    samples: Sequence["Encoded"]
    source: str
    sha256: str
    skipped: dict[str, int]
    origin: Mapping[str, object] = field(default_factory=dict)
    reading: Reading | None = None
    pairing: Pairing | None = None

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
                f"{row.where}: a chosen/rejected row holds two samples, which is no toxic or "
                "benign row; give a file of such pairs with --contrast"
            )
        return encoder.encode(sample)
    except Unscorable as reason:
        return reason.problem
