"""Features that rows of this data raise more often than those of a reference, and less often.

A score table names the few features that raised each row's score most. Counted over two tables
that were scored alike, they say what is in one data set and not in the other, toxic or not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from geofilter.errors import TableError
from geofilter.report.numbers import rate
from geofilter.report.places import named
from geofilter.runs.provenance import meaning
from geofilter.scoring.table import ScoreTable
from geofilter.stats.auroc import Range
from geofilter.support.display import shown
from geofilter.support.manifest import Manifest, difference

_MOST = 12  # features of each kind


@dataclass(frozen=True)
class FeatureDifference:
    """How many scored rows have a feature among their strongest, here and in the reference.

    `here` and `there` are shares of the scored rows, `apart` the difference here - there with
    its 95 % interval.
    """

    feature: int
    here: Range
    there: Range
    apart: Range


@dataclass(frozen=True)
class Compared:
    """The features that differ, the surest difference first; `features` counts all there are.

    `more` are in more rows here than in the reference `name`, `fewer` in fewer.
    """

    name: str
    rows: int
    features: int
    more: Sequence[FeatureDifference]
    fewer: Sequence[FeatureDifference]


def compare(table: ScoreTable, reference: ScoreTable) -> Compared:
    """Compare the features of two tables that were scored alike.

    A difference is listed where its interval leaves out 0; of each kind at most 12. Raises
    `TableError` where the reference was scored otherwise: its features would be others.
    """
    ours, theirs = (_how(one.manifest) for one in (table, reference))
    if differing := difference(ours, theirs):
        raise TableError(
            f"{shown(reference.path)}: is scored otherwise than the data "
            f"({'; '.join(differing)}); score it as {shown(table.path)} was made"
        )
    here, n_here = _counted(table)
    there, n_there = _counted(reference)
    found = [
        FeatureDifference(feature, a, b, newcombe(a, b))
        for feature in sorted(here.keys() | there.keys())
        if (a := rate(here.get(feature, 0), n_here)) and (b := rate(there.get(feature, 0), n_there))
    ]
    more = sorted((one for one in found if one.apart.low > 0), key=lambda one: -one.apart.low)
    fewer = sorted((one for one in found if one.apart.high < 0), key=lambda one: one.apart.high)
    return Compared(named(str(reference.path)), n_there, len(found), more[:_MOST], fewer[:_MOST])


def newcombe(first: Range, second: Range) -> Range:
    """first - second with its interval, of two independent shares with Wilson's intervals.

    Newcombe (1998), method 10.
    """
    apart = first.value - second.value
    low = apart - math.hypot(first.value - first.low, second.high - second.value)
    high = apart + math.hypot(first.high - first.value, second.value - second.low)
    return Range(apart, low, high)


def _how(manifest: Manifest) -> Manifest:
    meant = meaning(manifest).decides
    return Manifest({key: value for key, value in meant.items() if key != "data"})


def _counted(table: ScoreTable) -> tuple[dict[int, int], int]:
    """In how many scored rows each feature is among the strongest, and how many those are."""
    counts: dict[int, int] = {}
    n = 0
    for batch in table.batches(["score", "top_features"]):
        scored = batch.filter(pc.is_valid(batch.column("score")))
        n += scored.num_rows
        shares = scored.column("top_features")
        rows = np.asarray(pc.list_parent_indices(shares), np.int64)
        ids = np.asarray(pc.struct_field(pc.list_flatten(shares), "feature"), np.int64)
        # A row counts once for a feature.
        pairs = np.unique(np.column_stack([rows, ids]), axis=0)
        found, times = np.unique(pairs[:, 1], return_counts=True)
        for feature, count in zip(found.tolist(), times.tolist(), strict=True):
            counts[feature] = counts.get(feature, 0) + count
    return counts, n
