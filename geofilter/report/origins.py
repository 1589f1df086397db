"""Where rows are from: the rate by every column of the rows, by script and by length."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from geofilter.report import numbers, svg
from geofilter.report.contents import Contents
from geofilter.report.html import (
    EMPTY,
    Html,
    bdi,
    between,
    folded,
    note,
    percent,
    section,
    table,
    tag,
    text,
)
from geofilter.stats.auroc import Range

MOST_GROUPS = 12  # seen at once; the others are in a table below
_MOST_LISTED = 200
LENGTHS = "response tokens"


@dataclass(frozen=True)
class Block:
    """The groups of one column, as they are shown; `codes` (rows,) are those of the groups."""

    place: int
    column: str
    codes: numbers.Indices
    groups: Sequence[numbers.Group]

    @property
    def seen(self) -> Sequence[numbers.Group]:
        """The groups that are seen at once."""
        return self.groups[:MOST_GROUPS]

    @property
    def is_drawn(self) -> bool:
        """Whether there is something to compare."""
        n = sum(group.scored > 0 for group in self.groups)
        return n > 1 or (n == 1 and self.column == LENGTHS)

    def key(self, group: numbers.Group) -> str:
        """What the page's script knows a group by."""
        return f"{self.place}-{group.code}"


def blocks_of(contents: Contents) -> list[Block]:
    """The groups of each column, the largest first, and of length, the shortest first."""
    columns, dropped = contents.columns, contents.choice.dropped
    scored = columns.scored
    blocks = [
        Block(place, one.column, one.codes, numbers.groups(one.codes, one.names, scored, dropped))
        for place, one in enumerate(contents.read.groupings)
    ]
    codes, names = numbers.length_groups(columns.n_tokens, scored)
    lengths = [g for g in numbers.groups(codes, names, scored, dropped) if g.scored]
    lengths = sorted(lengths, key=lambda group: group.code)
    return [*blocks, Block(len(blocks), LENGTHS, codes, lengths)]


def usual_of(contents: Contents) -> Range | None:
    """The rate of all scored rows."""
    columns, dropped = contents.columns, contents.choice.dropped
    return numbers.rate(int(dropped.sum()), int(columns.scored.sum()))


def origins(contents: Contents) -> Html:
    """The rate by every column of the rows, by script and by length."""
    choice, usual, blocks = contents.choice, usual_of(contents), blocks_of(contents)
    notes = [
        note("All scored rows have the same ", bdi(one.column, 40), ": ", bdi(group.name, 60), ".")
        for one in blocks
        if not one.is_drawn
        for group in one.groups
        if group.scored
    ]
    blocks = [one for one in blocks if one.is_drawn]
    highest = [g.rate.high for one in blocks for g in one.seen if g.rate]
    top = min(1.0, math.ceil(max(highest, default=1.0) * 20) / 20)
    drawn = [_rates(one, usual, top) for one in blocks]
    word = "would be dropped" if choice.made else "is in the nearest tenth"
    lead = (
        f"The share of each group's scored rows that {word}, with its 95 % interval. "
        "The dashed line is the share of all scored rows. A group far from it is one that the "
        "scores single out: for its harm, or for its way of writing."
    )
    nearest = "rows that would go" if choice.made else "nearest rows"
    title = f"Where the {nearest} are from"
    return section("origins", title, lead, tag("div", *drawn, class_="pair"), *notes)


def _rates(block: Block, usual: Range | None, top: float) -> Html:
    column, others = block.column, block.groups[MOST_GROUPS:]
    middle = usual.value if usual else 0.0
    ticks = [(tick / top, percent(tick)) for tick in svg.ticks(0, top, 3)]
    head = tag(
        "tr",
        tag("td"),
        tag("th", svg.axis(ticks, ""), scope="col", aria_label="rate", class_="plot"),
        tag("th", "rate", scope="col", class_="n"),
        tag("th", "rows", scope="col", class_="n"),
    )
    rows = [_rate_row(block, group, middle, top) for group in block.seen]
    listed = tag(
        "table",
        tag("caption", "By ", bdi(column, 40)),
        tag("thead", head),
        tag("tbody", *rows),
        class_="rates",
    )
    more = EMPTY
    if others:
        lines = [
            (
                bdi(g.name, 60),
                percent(g.rate.value) if g.rate else "–",
                between(g.rate),
                f"{g.rows:,}",
            )
            for g in others[:_MOST_LISTED]
        ]
        rest = len(others) - len(lines)
        more = folded(
            f"{len(others):,} smaller groups",
            table("The other groups", (text(column, 40), "rate", "95 % interval", "rows"), lines),
            note(f"{rest:,} more are not listed.") if rest else EMPTY,
        )
    return tag("div", listed, more, class_="rates-block")


def _rate_row(block: Block, group: numbers.Group, usual: float, top: float) -> Html:
    shown, plot = "–", tag("td", "no scores", class_="plot note")
    if group.rate is not None:
        shown = percent(group.rate.value)
        value, low, high = (min(1.0, end / top) for end in group.rate)
        said = f"{shown}, 95 % interval {between(group.rate)}"
        drawn = svg.interval(low, value, high, min(1.0, usual / top), said)
        plot = tag("td", drawn, class_="plot")
    return tag(
        "tr",
        tag("th", bdi(group.name, 60), scope="row"),
        plot,
        tag("td", shown, class_="n"),
        tag("td", f"{group.rows:,}", class_="n"),
        data_group=block.key(group),
    )
