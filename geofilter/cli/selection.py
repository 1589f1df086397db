"""Which rows are meant, for the commands that choose some: options, choice, and what is said of it.

This module decides nothing; `geofilter.selection.choose`, `conformal` and `reference` do.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from geofilter.cli.options import several
from geofilter.cli.output import note, print_json, print_table, progress
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.runs.reference import Reference
    from geofilter.scoring.table import Column, ScoreTable
    from geofilter.selection.choose import Selection, Unscored
    from geofilter.selection.fdr import CurvePoint

# A reference that can drop no fewer rows than this share is called small.
_MANY = 0.1
_FEW = 0.01  # what a larger one is to be able to drop


selection_options = several(
    click.option(
        "--drop-fraction",
        type=float,
        metavar="F",
        help="Choose this share of the scored rows, 0 to 1, those nearest to harm.",
    ),
    click.option(
        "--threshold",
        type=float,
        metavar="X",
        help="Choose every row with this score or a higher one.",
    ),
    click.option(
        "--fdr",
        type=float,
        metavar="Q",
        help="Choose as many rows as can go with at most this share of clean ones among the "
        "different rows chosen, on average, 0 to 1. Needs --reference.",
    ),
    click.option(
        "--reference",
        metavar="CLEAN",
        help="Clean rows of the same kind as the different ones of DATA, none of them in it: data, "
        "or its score table. Data is scored as DATA was, once.",
    ),
)


class Asked(NamedTuple):
    """The values of `selection_options`."""

    drop_fraction: float | None
    threshold: float | None
    fdr: float | None
    reference: str | None

    @property
    def given(self) -> int:
        """How many choices were made; one is right."""
        return sum(one is not None for one in self[:3])

    def check(self) -> None:
        """Refuse a bound without a reference, and a reference without a bound."""
        if (self.fdr is None) != (self.reference is None):
            raise click.UsageError("--fdr and --reference go together")

    def choose(
        self, table: "ScoreTable", *, unscored: "Unscored" = "keep"
    ) -> "tuple[Selection | None, Bound | None]":
        """The rows of `table` that are meant, None where no choice was made; and its bound."""
        from geofilter.selection import choose, fdr

        if self.fdr is not None and self.reference is not None:
            clean = read(self.reference, table, self.fdr)
            hashes = table.column("row_hash")
            chosen = fdr.fdr(table.scores, clean.scores, self.fdr, hashes=hashes, unscored=unscored)
            beside = len(chosen.unscored) if unscored == "drop" else 0
            return chosen, Bound(clean, self.fdr, chosen, _different(hashes, chosen), beside)
        if self.drop_fraction is not None:
            chosen = choose.drop_fraction(table.scores, self.drop_fraction, unscored=unscored)
            return chosen, None
        if self.threshold is not None:
            return choose.threshold(table.scores, self.threshold, unscored=unscored), None
        return None, None


def asked_of(options: dict[str, Any]) -> Asked:
    """Take the values of `selection_options` out of a command's `options`."""
    return Asked(*(options.pop(name) for name in Asked._fields))


def read(source: str, table: "ScoreTable", q: float | None) -> "Reference":
    """The reference, scored if need be, with what was left out of it told."""
    from geofilter.runs.reference import read_reference

    with progress() as report:
        found = read_reference(source, table, q=q, progress=report)
    if found.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
        note(
            f"left out of the {found.rows:,} reference rows, which leaves "
            f"{len(found.scores):,}: {reasons}"
        )
    return found


class Different(NamedTuple):
    """How many different rows have a score, and how many of these are dropped."""

    scored: int
    dropped: int


def _different(hashes: "Column", chosen: "Selection") -> Different:
    every, without = hashes.tolist(), set(chosen.unscored.tolist())
    scored = {one for place, one in enumerate(every) if place not in without}
    dropped = {every[place] for place in chosen.drop.tolist() if place not in without}
    return Different(len(scored), len(dropped))


@dataclass(frozen=True)
class Bound:
    """What a selection at an FDR of `q` promises, and under what condition.

    `unscored_dropped` rows went for want of a score, and are promised nothing.
    """

    reference: "Reference"
    q: float
    chosen: "Selection"
    different: Different
    unscored_dropped: int

    @property
    def n(self) -> int:
        return len(self.reference.scores)

    def in_words(self) -> str:
        """The guarantee and its condition, for people."""
        beside = self.unscored_dropped
        without = (
            f" The {beside:,} rows that\nwere dropped without a score are others." if beside else ""
        )
        bound = (
            f"Of the {self.different.dropped:,} different scored rows dropped, a share of at most "
            f"{self.q:g} is clean, on\n"
            "average over references and data sets, if the reference is exchangeable with the\n"
            "different clean rows of the data: of the same source, picked in the same way from\n"
            "different rows, all clean. Of a single draw that says little, of the kept rows\n"
            f"nothing.{without}"
        )
        none = (
            "No row is dropped for its score: none is so far above the reference that at most "
            f"{self.q:g}\nof the dropped could be promised to be clean. That does not say that all "
            f"rows are\nclean: this scorer may not tell them apart.{without}"
        )
        source, share = escape(self.reference.source, limit=None), self.reference.clean.estimate
        return (
            f"{bound if self.different.dropped else none}\n"
            f"Reference: {self.n:,} rows of {source}; if they are exchangeable,\n"
            f"about {share:.0%} of the data's different rows are clean."
        )

    def warn(self) -> None:
        """Say on standard error what speaks against the reference."""
        for warning in (*self.reference.warnings, *self._too_small()):
            note(f"warning: {warning}")

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "q": self.q,
            "smallest_p": 1 / (self.n + 1),
            "smallest_drop": self._smallest,
            "different_scored": self.different.scored,
            "different_dropped": self.different.dropped,
            **describe(self.reference),
        }

    @property
    def _smallest(self) -> int:
        from geofilter.selection.fdr import smallest_drop

        return smallest_drop(self.different.scored, self.n, self.q)

    def _too_small(self) -> list[str]:
        from geofilter.selection.fdr import reference_needed

        none_went = self.chosen.threshold is None and self._smallest > 1
        if not none_went and self._smallest <= _MANY * self.different.scored:
            return []
        return [
            f"the reference is small: with {self.n:,} rows no p-value is below "
            f"1/{self.n + 1:,}, so that an FDR of {self.q:g} drops {self._smallest:,} of the "
            f"{self.different.scored:,} scored rows or more, or none; to drop as little as "
            f"{_FEW:.0%} takes {reference_needed(self.q, _FEW):,} rows"
        ]


def describe(reference: "Reference") -> dict[str, object]:
    """The reference, for programs."""
    return {
        "reference": reference.source,
        "reference_rows": len(reference.scores),
        "left_out": dict(reference.left_out),
        "differences": [asdict(one) for one in reference.differences],
        "clean_share": asdict(reference.clean),
        "warnings": list(reference.warnings),
    }


def print_curve(data: str, scores: str, source: str | None, as_json: bool) -> None:
    """Print what each drop fraction, and with a reference each FDR, would drop."""
    from geofilter.runs.provenance import open_scored
    from geofilter.scoring.summary import warning_of
    from geofilter.scoring.table import ScoreTable
    from geofilter.selection.fdr import curve

    table = ScoreTable.read(scores)
    open_scored(data, table)
    reference = read(source, table, None) if source is not None else None
    points = curve(
        table.scores,
        reference.scores if reference else None,
        hashes=table.column("row_hash") if reference else None,
    )
    if as_json:
        found = describe(reference) if reference else {"reference": None}
        print_json({"rows": len(table), **found, "curve": [asdict(point) for point in points]})
    else:
        _print_points(points, with_estimate=reference is not None)
    for warning in (*(reference.warnings if reference else ()), warning_of(table)):
        if warning:
            note(f"warning: {warning}")


def _print_points(points: "list[CurvePoint]", *, with_estimate: bool) -> None:
    head = ["choice", "drops scores from", "rows", "share"]
    cells = [
        [
            f"--drop-fraction {point.drop_fraction:g}"
            if point.fdr is None
            else f"--fdr {point.fdr:g}",
            "-" if point.threshold is None else f"{point.threshold:.6g}",
            f"{point.dropped:,}",
            f"{point.share:.1%}",
        ]
        for point in points
    ]
    if not with_estimate:
        print_table(head, cells)
        return
    for row, point in zip(cells, points, strict=True):
        row.append("-" if point.estimated_fdr is None else f"{point.estimated_fdr:.3f}")
    print_table([*head, "clean among them, at most about"], cells)
    click.echo(
        "\nThe last column is of different rows. It takes all for clean and the reference for one\n"
        "like them. For an FDR that is chosen beforehand it is a bound on average; for one picked\n"
        "here it is none."
    )
