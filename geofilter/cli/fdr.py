"""What `geofilter filter` says about a reference, the bound it gives, and the curve.

This module decides nothing; `conformal` and `reference` do.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from geofilter.cli.output import note, print_json, print_table, progress
from geofilter.terminal import escape

if TYPE_CHECKING:
    from geofilter.conformal import CurvePoint
    from geofilter.reference import Reference
    from geofilter.selection import Selection
    from geofilter.table import ScoreTable

# A reference that can drop no fewer rows than this share is called small.
_MANY = 0.1
_FEW = 0.01  # what a larger one is to be able to drop


def read(source: str, table: "ScoreTable", q: float | None) -> "Reference":
    """The reference, scored if need be, with what was left out of it told."""
    from geofilter.reference import read_reference

    with progress() as report:
        found = read_reference(source, table, q=q, report=report)
    if found.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
        note(
            f"left out of the {found.rows:,} reference rows, which leaves "
            f"{len(found.scores):,}: {reasons}"
        )
    return found


@dataclass(frozen=True)
class Bound:
    """What a selection at an FDR of `q` promises, and under what condition."""

    reference: "Reference"
    q: float
    chosen: "Selection"

    @property
    def n(self) -> int:
        return len(self.reference.scores)

    def in_words(self) -> str:
        """The guarantee and its condition, for people."""
        return (
            f"Of the rows dropped a share of at most {self.q:g} is clean, on average over\n"
            "references and data sets, if the reference is exchangeable with the clean rows of\n"
            "the data: of the same source, picked in the same way, all clean. Of a single draw\n"
            "that says little, and of the kept rows nothing.\n"
            f"Reference: {self.n:,} rows of {escape(self.reference.source, limit=None)}; by these "
            f"about {self.reference.clean.estimate:.0%} of the data is clean."
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
            **describe(self.reference),
        }

    @property
    def _smallest(self) -> int:
        from geofilter.conformal import smallest_drop

        return smallest_drop(self.chosen.n_scored, self.n, self.q)

    def _too_small(self) -> list[str]:
        from geofilter.conformal import reference_needed

        none_went = self.chosen.threshold is None and self._smallest > 1
        if not none_went and self._smallest <= _MANY * self.chosen.n_scored:
            return []
        return [
            f"the reference is small: with {self.n:,} rows no p-value is below "
            f"1/{self.n + 1:,}, so that an FDR of {self.q:g} drops {self._smallest:,} of the "
            f"{self.chosen.n_scored:,} scored rows or more, or none; to drop as little as "
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
    from geofilter.conformal import curve
    from geofilter.run import open_scored
    from geofilter.summary import warning_of
    from geofilter.table import ScoreTable

    table = ScoreTable.read(scores)
    open_scored(data, table)
    reference = read(source, table, None) if source is not None else None
    points = curve(table.scores, reference.scores if reference else None)
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
        "\nThe last column takes every row for clean and the reference for one like them. For an\n"
        "FDR that is chosen beforehand it is a bound on average; for one picked here it is none."
    )
