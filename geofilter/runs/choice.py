"""Which rows of a score table are meant: by a share, a threshold, or a bound on clean rows."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from geofilter.data.rows import Data
from geofilter.errors import GeofilterError
from geofilter.runs.provenance import open_scored
from geofilter.runs.reference import Reference, read_reference
from geofilter.scoring.summary import warning_of
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import Selection, Unscored, drop_fraction, margin, threshold
from geofilter.selection.fdr import CurvePoint, curve, fdr, reference_needed, smallest_drop
from geofilter.selection.short import short_note
from geofilter.support.display import escape
from geofilter.support.progress import Progress, no_progress

# A reference that can drop no fewer rows than this share is called small.
_MANY = 0.1
_FEW = 0.01  # what a larger one should be able to drop


@dataclass(frozen=True)
class Choice:
    """How rows are chosen: one of these, and a reference with `fdr`.

    `reference`: clean rows, or their score table; see `runs.reference`. `margin` is for rows of
    two answers.
    """

    drop_fraction: float | None = None
    threshold: float | None = None
    fdr: float | None = None
    reference: str | os.PathLike[str] | None = None
    margin: float | None = None

    @property
    def given(self) -> int:
        """How many choices were made; one is right."""
        made = (self.drop_fraction, self.threshold, self.fdr, self.margin)
        return sum(one is not None for one in made)

    def check(self) -> None:
        """Raise `GeofilterError` for a bound without a reference, or the other way round."""
        if (self.fdr is None) != (self.reference is None):
            raise GeofilterError("--fdr and --reference go together: give both or neither")


@dataclass(frozen=True)
class Bound:
    """What a selection at an FDR of `q` promises, and under what condition.

    `scored` and `dropped` count the different rows that have a score, and those of them that
    are dropped. `unscored_dropped` rows went without a score, and are promised nothing.
    """

    reference: Reference
    q: float
    scored: int
    dropped: int
    unscored_dropped: int

    @property
    def n(self) -> int:
        return len(self.reference.scores)

    def in_words(self) -> str:
        """The guarantee and its condition, for people."""
        others = (
            f" The {self.unscored_dropped:,} rows that\nwere dropped without a score are others."
            if self.unscored_dropped
            else ""
        )
        bound = (
            f"Of the {self.dropped:,} different scored rows dropped, a share of at most "
            f"{self.q:g} is clean, on\n"
            "average over references and data sets, if the reference is exchangeable with the\n"
            "different clean rows of the data: of the same source, picked in the same way from\n"
            "different rows, all clean. Of a single draw that says little, of the kept rows\n"
            f"nothing.{others}"
        )
        none = (
            "No row is dropped for its score: none is so far above the reference that at most "
            f"{self.q:g}\nof the dropped could be promised to be clean. That does not say that all "
            f"rows are\nclean: this scorer may not tell them apart.{others}"
        )
        source, share = escape(self.reference.source, limit=None), self.reference.clean.estimate
        return (
            f"{bound if self.dropped else none}\n"
            f"Reference: {self.n:,} rows of {source}; if they are exchangeable,\n"
            f"about {share:.0%} of the data's different rows are clean."
        )

    @property
    def notes(self) -> list[str]:
        """What was left out of the reference, and what speaks against it."""
        return [*_notes_of(self.reference), *self._too_small()]

    def as_record(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "q": self.q,
            "smallest_p": 1 / (self.n + 1),
            "smallest_drop": self._smallest,
            "different_scored": self.scored,
            "different_dropped": self.dropped,
            **_describe(self.reference),
        }

    @property
    def _smallest(self) -> int:
        return smallest_drop(self.scored, self.n, self.q)

    def _too_small(self) -> list[str]:
        none_went = not self.dropped and self._smallest > 1
        if not none_went and self._smallest <= _MANY * self.scored:
            return []
        return [
            f"warning: the reference is small: with {self.n:,} rows no p-value is below "
            f"1/{self.n + 1:,}, so that an FDR of {self.q:g} drops {self._smallest:,} of the "
            f"{self.scored:,} scored rows or more, or none; to drop as little as "
            f"{_FEW:.0%} takes {reference_needed(self.q, _FEW):,} rows"
        ]


class Chosen(NamedTuple):
    """The rows that are meant, what is promised of them, and what people should know."""

    selection: Selection
    bound: Bound | None = None
    notes: tuple[str, ...] = ()


def choose(
    table: ScoreTable,
    choice: Choice,
    *,
    unscored: Unscored = "keep",
    progress: Progress = no_progress,
) -> Chosen:
    """The rows of `table` that `choice` means.

    A reference that was never scored is scored now, which `progress` follows. Raises
    `GeofilterError` for a choice that cannot be right, and what `read_reference` raises.
    """
    choice.check()
    found = _choose(table, choice, unscored, progress)
    scored = ~np.ma.getmaskarray(table.scores)
    chosen = np.isin(np.arange(len(table)), found.selection.drop)
    note = short_note(np.ma.filled(table.column("n_tokens"), 0)[scored], chosen[scored])
    return found if note is None else found._replace(notes=(*found.notes, note))


def _choose(table: ScoreTable, choice: Choice, unscored: Unscored, progress: Progress) -> Chosen:
    scores = table.scores
    if choice.fdr is not None and choice.reference is not None:
        clean = read_reference(choice.reference, table, q=choice.fdr, progress=progress)
        hashes = table.column("row_hash")
        chosen = fdr(scores, clean.scores, choice.fdr, hashes=hashes, unscored=unscored)
        counts = _different(hashes.tolist(), chosen)
        left = len(chosen.unscored) if unscored == "drop" else 0
        return Chosen(chosen, Bound(clean, choice.fdr, *counts, unscored_dropped=left))
    if choice.drop_fraction is not None:
        return Chosen(drop_fraction(scores, choice.drop_fraction, unscored=unscored))
    if choice.threshold is not None:
        return Chosen(threshold(scores, choice.threshold, unscored=unscored))
    if choice.margin is not None:
        return _by_margin(table, choice.margin, unscored)
    raise GeofilterError("give one of --drop-fraction, --threshold and --fdr")


def _by_margin(table: ScoreTable, value: float, unscored: Unscored) -> Chosen:
    scores, rejected = table.scores, table.column("rejected_score")
    compared = int((~(np.ma.getmaskarray(scores) | np.ma.getmaskarray(rejected))).sum())
    if not compared:
        raise GeofilterError(
            "no row has a chosen and a rejected answer that both have a score, which --margin "
            "compares; choose by --drop-fraction, --threshold or --fdr"
        )
    chosen = margin(scores, rejected, value, unscored=unscored)
    others = len(table) - compared
    note = f"{others:,} of {len(table):,} rows do not have two answers with a score: not compared"
    return Chosen(chosen, notes=(note,) if others else ())


def _different(hashes: list[str], chosen: Selection) -> tuple[int, int]:
    """How many different rows have a score, and how many of these are dropped."""
    scored = np.setdiff1d(np.arange(len(hashes)), chosen.unscored)
    dropped = np.setdiff1d(chosen.drop, chosen.unscored)
    every, gone = ({hashes[place] for place in places.tolist()} for places in (scored, dropped))
    return len(every), len(gone)


def _notes_of(reference: Reference) -> Iterable[str]:
    if reference.left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in reference.left_out.items())
        yield (
            f"left out of the {reference.rows:,} reference rows, which leaves "
            f"{len(reference.scores):,}: {reasons}"
        )
    yield from (f"warning: {warning}" for warning in reference.warnings)


def _describe(reference: Reference) -> dict[str, object]:
    """The reference, for programs."""
    return {
        "reference": reference.source,
        "reference_rows": len(reference.scores),
        "left_out": dict(reference.left_out),
        "differences": [asdict(one) for one in reference.differences],
        "clean_share": asdict(reference.clean),
        "warnings": list(reference.warnings),
    }


@dataclass(frozen=True)
class Curve:
    """What each choice would drop, by which reference, and what people should know of it."""

    rows: int
    points: list[CurvePoint]
    reference: Reference | None
    notes: list[str]

    def as_record(self) -> dict[str, object]:
        """The same for programs."""
        found = _describe(self.reference) if self.reference else {"reference": None}
        return {"rows": self.rows, **found, "curve": [asdict(point) for point in self.points]}


def curve_of(
    data: Data,
    scores: str | os.PathLike[str],
    reference: str | os.PathLike[str] | None = None,
    *,
    progress: Progress = no_progress,
) -> Curve:
    """What each drop fraction, and with a reference each FDR, would drop.

    Raises `TableError` where the table at `scores` is not of `data`, and what `read_reference`
    raises.
    """
    table = ScoreTable.read(scores)
    open_scored(data, table)
    clean = read_reference(reference, table, progress=progress) if reference is not None else None
    points = curve(
        table.scores,
        clean.scores if clean else None,
        hashes=table.column("row_hash") if clean else None,
    )
    notes = list(_notes_of(clean)) if clean else []
    if warning := warning_of(table):
        notes.append(f"warning: {warning}")
    return Curve(len(table), points, clean, notes)
