"""What the page's script works with: counts at every threshold, and rows to decide on.

Counts are of all rows. Rows are those that the page holds, with their texts cut short; what a
person decides on them is saved as the list that `filter --drop-rows` takes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geofilter.report import numbers
from geofilter.report.cards import WOULD_GO, WOULD_STAY
from geofilter.report.contents import Contents
from geofilter.report.html import visible
from geofilter.report.origins import blocks_of
from geofilter.report.row_texts import Grouping
from geofilter.scoring.table import ScoreRow
from geofilter.selection.actions.review import FIELDS, FORMULA
from geofilter.selection.decisions import WORDS

# Characters of all the rows' texts together: what comes after them is left out.
_MOST_CHARACTERS = 6_000_000
_VALUE = 60  # characters of a value to filter by
_LABEL_WORDS = 4


def page_data(contents: Contents) -> dict[str, object] | None:
    """All that the script needs, for `html.data`; None where no row has a score."""
    columns, choice = contents.columns, contents.choice
    known = columns.scores[columns.scored]
    if not len(known):
        return None
    cuts = numbers.thresholds(known, choice.cut)
    found = numbers.histogram(known, choice.cut)
    values = [_Values.of(one, contents.listed) for one in contents.read.groupings]
    topics = [*(visible(one.name[:_VALUE]) for one in contents.topics), "no topic"]
    rows = list(_rows(contents, values))
    return {
        "key": contents.table.manifest.hash,
        "made": choice.made,
        "rows": len(columns.scores),
        "scored": len(known),
        "range": [float(found.edges[0]), float(found.edges[-1])],
        "thresholds": [_shortest(cut) for cut in cuts],
        "above": numbers.above(known, cuts).tolist(),
        "groups": _groups(contents, cuts),
        "start": {
            "threshold": None if choice.cut is None else _shortest(np.float32(choice.cut)),
            "dropped": int(choice.dropped.sum()),
        },
        "columns": [*(visible(one.column) for one in contents.read.groupings), "topic"],
        "values": [*(one.names for one in values), topics],
        "labels": {
            str(feature): " ".join(map(visible, label[:_LABEL_WORDS]))
            for feature, label in contents.labels.items()
        },
        "fields": FIELDS,
        "formula": "".join(FORMULA),
        "words": WORDS,
        "fates": [WOULD_GO, WOULD_STAY],
        "listed": rows,
    }


def _shortest(value: np.float32) -> float:
    """The number as the fewest digits that mean it in float32: what a person would type."""
    return float(str(value))


def _groups(contents: Contents, cuts: NDArray[np.float32]) -> Mapping[str, object]:
    """Of each group that is drawn its scored rows, and those of them at each cut and above."""
    columns = contents.columns
    found: dict[str, object] = {}
    for block in blocks_of(contents):
        if not block.is_drawn:
            continue
        for group in block.seen:
            if group.scored:
                scores = columns.scores[columns.scored & (block.codes == group.code)]
                above = numbers.above(scores, cuts).tolist()
                found[block.key(group)] = {"above": above, "scored": group.scored}
    return found


@dataclass(frozen=True)
class _Values:
    """The values of one column that listed rows have, and the place of each row's among them."""

    names: Sequence[str]
    places: Mapping[int, int]

    @classmethod
    def of(cls, grouping: Grouping, listed: Sequence[int]) -> "_Values":
        codes, places = np.unique(grouping.codes[list(listed)], return_inverse=True)
        names = [visible(grouping.names[code][:_VALUE]) for code in codes]
        return cls(names, dict(zip(listed, places.tolist(), strict=True)))


def _rows(contents: Contents, values: Sequence[_Values]) -> Iterator[Mapping[str, object]]:
    """The rows that are listed, as long as there is room for their texts."""
    room = _MOST_CHARACTERS
    topics = {row: place for place, one in enumerate(contents.topics) for row in one.rows}
    for row in contents.listed:
        shown = contents.read.texts[row]
        turns = [
            (visible(turn.role), visible(turn.text), turn.response, turn.cut)
            for turn in shown.turns
        ]
        room -= sum(len(text) for _, text, _, _ in turns)
        if room < 0:
            return
        line = contents.lines[row]
        yield _row(contents, line) | {
            "where": visible(shown.where),
            "codes": [*(one.places[row] for one in values), topics.get(row, len(contents.topics))],
            "turns": turns,
            "left": shown.left_out_turns,
        }


def _row(contents: Contents, line: ScoreRow) -> dict[str, object]:
    return {
        "row": line.row,
        "score": None if line.score is None else _shortest(np.float32(line.score)),
        "rank": line.rank,
        "status": line.status,
        "reason": visible(line.reason or ""),
        "hash": line.row_hash,
        "tokens": line.n_tokens,
        "goes": bool(contents.choice.dropped[line.row]),
        "features": [share.feature for share in line.top_features if math.isfinite(share.weight)],
    }
