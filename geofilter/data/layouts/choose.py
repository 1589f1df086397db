"""Which layout a row has: by the columns that it fills, or as the caller says.

A row that fits no layout is malformed, with the columns that it has and what to type.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from geofilter.data.layouts import LAYOUTS, ROLES, WITHOUT_RESPONSE
from geofilter.data.layouts.cells import NAME_THEM, Cells, Record, is_filled, listing
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from geofilter.support.display import escape, quote

UNKNOWN = "unknown"
# Next to one of these a `text` may be the prompt, or be what was made of both.
# fmt: off
_ANSWERS = frozenset({
    "answer", "answers", "assistant", "canonical_solution", "code", "completion", "completions",
    "explanation", "generation", "highlights", "label_text", "output", "outputs", "rationale",
    "reply", "response", "responses", "result", "solution", "sql", "summary", "target", "targets",
    "translation",
})
_ASKS = frozenset({"ask", "input", "instruction", "prompt", "query", "question", "request", "user"})
# fmt: on


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
            roles = _roles(self.name)
            wrong = [role for role in self.columns if role not in roles]
            if wrong:
                raise DataError(
                    f"layout {self.name} has no column {quote(wrong[0])}; it has {', '.join(roles)}"
                )

    def columns_among(self, names: Collection[str]) -> frozenset[str]:
        """Those of the columns `names` that some layout reads."""
        roles = ROLES if self.name is None else _roles(self.name)
        return frozenset(self.columns.get(role, role) for role in roles).intersection(names)

    def deciding_among(self, names: Collection[str]) -> frozenset[str]:
        """Those of the columns `names` that say how another is read, where they are filled."""
        return frozenset() if self.name is not None else (_ANSWERS | _ASKS).intersection(names)

    def of(self, record: Record) -> Layout:
        """The layout of one row."""
        if self.problem is not None:
            return Layout(UNKNOWN, {}, self.problem)
        filled = frozenset(name for name, value in record.items() if is_filled(value))
        asked = _Asked(self.name, tuple(self.columns.items()))
        found = _choose(asked, filled, frozenset(record))
        if found.name == UNKNOWN and found.problem is None:
            return Layout(UNKNOWN, {}, Problem("malformed", _fits_none(record)))
        return found

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


def _roles(name: str) -> tuple[str, ...]:
    return (*LAYOUTS[name].required, *LAYOUTS[name].added)


# Few combinations of columns occur in a file, so that most rows are looked up.
@lru_cache(maxsize=1024)
def _choose(asked: _Asked, filled: frozenset[str], present: frozenset[str]) -> Layout:
    """The layout of a row that has the columns `present`, those in `filled` not empty."""
    columns = dict(asked.columns)
    name = asked.name or next(_fitting(columns, filled, present), None)
    if name is None:
        return Layout(UNKNOWN, {})
    if asked.name is None and name == "text" and "text" not in columns:
        problem = _text_of_what(filled)
        if problem is not None:
            return Layout(UNKNOWN, {}, problem)
    if asked.name is None and name in WITHOUT_RESPONSE:
        (role,) = LAYOUTS[name].required
        problem = _prompt_of_what(columns.get(role, role), filled)
        if problem is not None:
            return Layout(UNKNOWN, {}, problem)
    return Layout(name, {role: columns.get(role, role) for role in _roles(name)})


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
        if columns.keys() <= set(_roles(name))
    }
    answered = [name for name in needs if name not in WITHOUT_RESPONSE]
    yield from (name for name in answered if filled.issuperset(needs[name]))
    there = [name for name in answered if present.issuperset(needs[name])]
    partly = [name for name in there if not filled.isdisjoint(needs[name])]
    yield from sorted(partly, key=lambda name: -len(filled.intersection(needs[name])))
    yield from (name for name in needs if filled.issuperset(needs[name]))
    yield from there
    yield from (name for name in needs if present.issuperset(needs[name]))


def _text_of_what(filled: frozenset[str]) -> Problem | None:
    """A row of a text and of what may be its answer or its question: nobody can know."""
    answer = min(filled & _ANSWERS, default=None)
    ask = min(filled & _ASKS, default=None)
    if answer is None and ask is None:
        return None
    prompt, response = (ask, "text") if answer is None else ("text", answer)
    return Problem(
        "malformed",
        f"'text' stands next to {quote(ask or answer)}, so it may be a part of the row: "
        f"--column prompt={prompt} --column response={response} if it is that, "
        "--layout text to score it alone",
    )


def _prompt_of_what(prompt: str, filled: frozenset[str]) -> Problem | None:
    """A row of a prompt and of what may be its response, under a name that no layout has."""
    answers = sorted((filled & (_ANSWERS | {"chosen"})) - {prompt})
    if not answers:
        return None
    if len(answers) > 1:
        found = " and ".join(map(quote, answers))
        which = f"{found} may be the response; say which is, as in --column response=NAME"
    else:
        which = _pair(prompt, answers[0], filled)
    return Problem("malformed", f"the columns fit no layout; {which}")


def _pair(ask: str, answer: str, filled: Collection[str]) -> str:
    """What to type if these are a prompt and its response, with what adds to the prompt."""
    added = {"input", "context"}.intersection(filled) - {ask, answer}
    role = "instruction" if added else "prompt"
    others = sorted(set(filled) - {ask, answer, *added, *_roles("prompt-response")})
    left = f" (not read then: {listing(others)})" if others else ""
    return (
        f"if {quote(ask)} is the prompt and {quote(answer)} the response: "
        f"{_typed(**{role: ask, 'response': answer})}{left}"
    )


def _fits_none(record: Record) -> str:
    """Why a row fits no layout: first what to type, then what it holds, which may be long."""
    return f"the columns fit no layout; {_remedy(record)}; found {listing(record)}"


def _remedy(record: Record) -> str:
    ask = _named(record, _ASKS)
    answer = _named(record, _ANSWERS)
    if ask is not None and answer is not None:
        return _pair(ask, answer, [name for name, value in record.items() if is_filled(value)])
    talk = next((name for name, value in record.items() if _is_talk(value)), None)
    if talk is not None:
        return f"if {quote(talk)} is the conversation: {_typed(messages=talk)}"
    return NAME_THEM


def _typed(**columns: str) -> str:
    pairs = (f"--column {role}={escape(name, limit=60)}" for role, name in columns.items())
    return " ".join(pairs)


def _named(record: Record, names: Collection[str]) -> str | None:
    """The only column of text or turns that is called so, whatever its capitals."""
    found = [
        name
        for name, value in record.items()
        if name.casefold() in names and (_is_words(value) or _is_talk(value))
    ]
    return found[0] if len(found) == 1 else None


def _is_words(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_talk(value: object) -> bool:
    if not isinstance(value, list) or not value or not isinstance(value[0], Mapping):
        return False
    return any(key in value[0] for key in ("role", "from")) and len(value[0]) > 1
