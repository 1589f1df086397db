"""What was read of a data set: how many rows by which layout, which columns, and which not."""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from geofilter.data.layouts.cells import filled
from geofilter.data.layouts.choose import UNKNOWN, Layouts
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from geofilter.support.display import escape, quote

# Gets what was read of a data set as soon as that is known.
OnReading = Callable[["Reading"], object]


def unheard(reading: "Reading") -> None:
    """The `OnReading` of a caller who does not ask."""


# Statuses of rows of which nothing was understood. Of others it is known what they hold.
NOT_UNDERSTOOD = frozenset({"unreadable", "malformed"})
# A larger share of such rows stops a run before any work.
UNREAD_LIMIT = 0.1
_COLUMNS = 12  # that are named


@dataclass(frozen=True)
class LayoutUse:
    """The rows of one layout: how many, the columns read, and those filled but not read."""

    rows: int
    read: tuple[str, ...]
    not_read: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What was read of a data set.

    `layouts`: name -> its use. `unread`: rows that were not
    understood, because they are unreadable or malformed; `first_unread` says where the first
    one stands and why. `form`: how a CSV file is written, where that is unusual.
    """

    rows: int
    layouts: Mapping[str, LayoutUse]
    unread: int = 0
    first_unread: str | None = None
    form: str = ""

    def __str__(self) -> str:
        """One line: layouts, most rows first; columns read and not; what was not understood."""
        # A manifest does not keep the order of the file.
        layouts = dict(sorted(self.layouts.items(), key=lambda one: (-one[1].rows, one[0])))
        parts = [_read_as(layouts, self.rows), self.form]
        missed = dict.fromkeys(name for use in layouts.values() for name in use.not_read)
        if missed:
            parts.append(f"not read: {_listing(missed)}")
        if self.unread:
            parts.append(
                f"{_rows(self.unread)} of {self.rows:,} ({self.unread / self.rows:.1%}) cannot be "
                f"read, first {self.first_unread}"
            )
        return "; ".join(filter(None, parts))

    def record(self) -> dict[str, Any]:
        """The same as JSON holds it."""
        return {
            "rows": self.rows,
            "layouts": {
                name: {"rows": use.rows, "read": list(use.read), "not_read": list(use.not_read)}
                for name, use in self.layouts.items()
            },
            "unread": self.unread,
            "first_unread": self.first_unread,
            "form": self.form,
        }

    def is_above(self, limit: float) -> bool:
        """Whether a larger share than `limit` of the rows was not understood."""
        return self.rows > 0 and self.unread / self.rows > limit

    def refuse_above(self, limit: float, source: str, option: str = "--unread-limit") -> None:
        """Raise `DataError` where a larger share than `limit` of the rows was not understood.

        `option`: what the user sets the limit with.
        """
        if self.is_above(limit):
            raise DataError(
                f"{source}: {_rows(self.unread)} of {self.rows:,} ({self.unread / self.rows:.1%}) "
                f"cannot be read, more than {option} {limit:g} allows; repair them, or allow "
                f"more. The first: {self.first_unread}"
            )


def reading_from(record: object) -> Reading | None:
    """The reading that a manifest records; None where it has none."""
    try:
        match record:
            case {"rows": int(rows), "layouts": dict(layouts), "unread": int(unread), **rest}:
                first = rest.get("first_unread")
                uses = {str(name): _use_from(use) for name, use in layouts.items()}
                form = str(rest.get("form", ""))
                return Reading(rows, uses, unread, None if first is None else str(first), form)
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _use_from(use: Mapping[str, Any]) -> LayoutUse:
    read, missed = (tuple(map(str, use[name])) for name in ("read", "not_read"))
    return LayoutUse(int(use["rows"]), read, missed)


@dataclass
class _Use:
    rows: int = 0
    seen: set[str] = field(default_factory=set)
    filled: dict[str, None] = field(default_factory=dict)  # in the order of the columns


class Tally:
    """Counts, row by row, what is read. `form`: as of `Reading`."""

    def __init__(self, layouts: Layouts, form: str = "") -> None:
        self._layouts = layouts
        self._form = form
        self._uses: dict[str, _Use] = {}
        self._rows = 0
        self._problems: Counter[str] = Counter()
        self._first: str | None = None

    def samples(
        self, record: Mapping[str, object] | None, where: str, problem: Problem | None = None
    ) -> tuple[Sample, ...]:
        """Count a row and return its samples. Raises `Unscorable` where it has none.

        `record`: None for a row that could not be read, and `problem` says why.
        """
        self._rows += 1
        if record is None:
            raise Unscorable(self._counted(problem or Problem("unreadable", "no record"), where))
        layout = self._layouts.of(record)
        seen: set[str] = set()
        try:
            samples = layout.samples(record, seen)
        except Unscorable as error:
            if self._counted(error.problem, where).status not in NOT_UNDERSTOOD:
                self._use(layout.name, record, seen)
            raise
        self._use(layout.name, record, seen)
        return samples

    def add(
        self, record: Mapping[str, object] | None, where: str, problem: Problem | None = None
    ) -> None:
        """Count a row, as `samples` does, whatever it is."""
        with suppress(Unscorable):
            self.samples(record, where, problem)

    def _use(self, name: str, record: Mapping[str, object], seen: set[str]) -> None:
        if name == UNKNOWN:
            return
        use = self._uses.setdefault(name, _Use())
        use.rows += 1
        use.seen |= seen
        use.filled.update(dict.fromkeys(filled(record)))

    def _counted(self, problem: Problem, where: str) -> Problem:
        if problem.status in NOT_UNDERSTOOD:
            self._problems[problem.status] += 1
            self._first = self._first or f"{where}: {problem.reason}"
        return problem

    def reading(self) -> Reading:
        """What was read so far."""
        uses = {
            name: LayoutUse(
                use.rows,
                tuple(column for column in use.filled if column in use.seen),
                tuple(column for column in use.filled if column not in use.seen),
            )
            for name, use in self._uses.items()
        }
        return Reading(self._rows, uses, self._problems.total(), self._first, self._form)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _read_as(layouts: Mapping[str, LayoutUse], rows: int) -> str:
    if not layouts:
        return "nothing was read" if rows else "no rows"
    if len(layouts) == 1:
        ((name, use),) = layouts.items()
        return f"{_rows(use.rows)} read as {name} ({_listing(use.read)})"
    each = (f"{use.rows:,} as {name} ({_listing(use.read)})" for name, use in layouts.items())
    return f"{_rows(rows)} read: {', '.join(each)}"


def _listing(columns: Mapping[str, object] | tuple[str, ...]) -> str:
    names = [name if name.isidentifier() and len(name) <= 40 else quote(name) for name in columns]
    more = f" and {len(names) - _COLUMNS} more" if len(names) > _COLUMNS else ""
    return ", ".join(map(escape, names[:_COLUMNS])) + more or "no column"
