"""Which layout a row has: by the columns that it fills, or as the caller says.

A row that fits no layout is malformed, with the columns that it has and what to type.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from geofilter.data.layouts import LAYOUTS, ROLES, TALKS, WITHOUT_RESPONSE
from geofilter.data.layouts.cells import Cells, Record, is_filled, listing
from geofilter.data.layouts.hints import fits_none, may_say, prompt_of_what, text_of_what
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from geofilter.support.display import quote

UNKNOWN = "unknown"
# How writers of tables pad a column of JSON text.
_NOTHING = ("[]", "{}", "null")


@dataclass(frozen=True, slots=True)
class Layout:
    """How one row is read: the name, a key of `LAYOUTS` or "unknown", and role -> column.

    `problem`: set where the columns fit no layout, or more than one that differ in meaning.
    """

    name: str
    columns: Mapping[str, str]
    problem: Problem | None = None

    def samples(self, record: Record, seen: set[str] | None = None) -> tuple[Sample, ...]:
        """The samples of a row of this layout; `seen` gets the columns that were read.

        Raises `Unscorable`.
        """
        if self.problem is not None:
            raise Unscorable(self.problem)
        shape = LAYOUTS[self.name]
        cells = Cells(record, self.columns, shape.required, set() if seen is None else seen)
        return shape.read(cells)


class _Asked(NamedTuple):
    """What the caller says of all rows."""

    name: str | None
    columns: tuple[tuple[str, str], ...]  # role -> column, an empty one for what is not to be read


@dataclass(frozen=True)
class Layouts:
    """How each row of a data set is read.

    `name`: a key of `LAYOUTS` for all rows, or None: the columns that a row fills decide.
    `columns`: role -> the file's column that is read in its place; an empty name leaves the
    role's column unread. `problem`: set when no row of the file can be read, and why.

    Raises `DataError` for a name or a role that does not exist.
    """

    name: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    problem: Problem | None = None

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in LAYOUTS:
            raise DataError(
                f"layout {quote(self.name)} is not known; choose from {', '.join(LAYOUTS)}"
            )
        for role in self.columns:
            if role not in ROLES:
                raise DataError(
                    f"{quote(role)} is no column of any layout; choose from {', '.join(ROLES)}"
                )
        if self.name is not None:
            roles = LAYOUTS[self.name].roles
            wrong = [role for role in self.columns if role not in roles]
            if wrong:
                raise DataError(
                    f"layout {self.name} has no column {quote(wrong[0])}; it has {', '.join(roles)}"
                )

    def columns_among(self, names: Collection[str]) -> frozenset[str]:
        """Those of the columns `names` that some layout reads."""
        roles = ROLES if self.name is None else LAYOUTS[self.name].roles
        return frozenset(self.columns.get(role, role) for role in roles).intersection(names)

    def deciding_among(self, names: Collection[str]) -> frozenset[str]:
        """Those of the columns `names` that say how another is read, where they are filled."""
        return frozenset() if self.name is not None else frozenset(filter(may_say, names))

    def of(self, record: Record) -> Layout:
        """The layout of one row."""
        if self.problem is not None:
            return Layout(UNKNOWN, {}, self.problem)
        filled = frozenset(
            name
            for name, value in record.items()
            if is_filled(value) and not (value in _NOTHING and name in self._talks)
        )
        asked = _Asked(self.name, tuple(self.columns.items()))
        found = _choose(asked, filled, frozenset(record))
        problem = None if self.name is not None else self._question(found, record)
        return found if problem is None else Layout(UNKNOWN, {}, problem)

    def _question(self, found: Layout, record: Record) -> Problem | None:
        """What has to be asked about a row for which this layout was found."""
        if found.name == UNKNOWN:
            return Problem("malformed", fits_none(record))
        if found.name == "text" and "text" not in self.columns:
            return text_of_what(record)
        if found.name in WITHOUT_RESPONSE:
            (role,) = LAYOUTS[found.name].required
            return prompt_of_what(found.columns[role], record)
        return None

    @cached_property
    def _talks(self) -> frozenset[str]:
        """The columns that hold conversations, or answers that may be ones."""
        return frozenset(self.columns.get(role, role) for role in (*TALKS, "chosen", "rejected"))

    def samples(self, record: Record) -> tuple[Sample, ...]:
        """Return one sample, or two for two answers to one prompt (the chosen one first).

        Raises `Unscorable` with the status `malformed`, `no_response` or `empty`.
        """
        return self.of(record).samples(record)


def check_columns(source: str, columns: Mapping[str, str], rows: Sequence[Collection[str]]) -> None:
    """Raise `DataError` where none of the first `rows` of `source` has a column that is named."""
    for role, column in columns.items():
        # A column under its own name may be absent, and an empty one is not read.
        if rows and column not in ("", role) and not any(column in row for row in rows):
            raise DataError(f"{source}: no column {quote(column)}; found {listing(rows[0])}")


# Few combinations of columns occur in a file, so that most rows are looked up.
@lru_cache(maxsize=1024)
def _choose(asked: _Asked, filled: frozenset[str], present: frozenset[str]) -> Layout:
    """The layout of a row that has the columns `present`, those in `filled` not empty."""
    columns = dict(asked.columns)
    name = asked.name or next(_fitting(columns, filled, present), None)
    if name is None:
        return Layout(UNKNOWN, {})
    return Layout(name, {role: columns.get(role, role) for role in LAYOUTS[name].roles})


def _fitting(
    columns: Mapping[str, str], filled: frozenset[str], present: frozenset[str]
) -> Iterator[str]:
    """Names of layouts, the best first.

    Those with a response all of whose columns are filled, in the order of `LAYOUTS`; then those
    whose columns are all there, most of them filled first, so that a row with an empty response
    is known for what it is; then those with a prompt only.
    """
    needs = {
        name: [columns.get(role, role) for role in shape.required]
        for name, shape in LAYOUTS.items()
        if columns.keys() <= set(shape.roles)
    }
    answered = [name for name in needs if name not in WITHOUT_RESPONSE]
    yield from (name for name in answered if filled.issuperset(needs[name]))
    there = [name for name in answered if present.issuperset(needs[name])]
    partly = [name for name in there if not filled.isdisjoint(needs[name])]
    yield from sorted(partly, key=lambda name: -len(filled.intersection(needs[name])))
    yield from (name for name in needs if filled.issuperset(needs[name]))
    yield from there
    yield from (name for name in needs if present.issuperset(needs[name]))
