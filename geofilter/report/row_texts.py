"""One pass over the rows: the text of those that are shown, and the group of every row.

Memory holds the shown texts, cut short, and a number per row and column. A group is the
value of a column of the rows, or the script that most letters of the response belong to.
Values are as they are in the data: hostile, and not escaped here.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geofilter.data.problems import Unscorable
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from geofilter.report.places import named
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.rows import Row, RowFile

# Columns in which data sets say where a row is from, what it is about or in which language.
USUAL = ("source", "dataset", "label", "domain", "category", "language", "lang")
ROW_CHARACTERS = 2000  # of one row's text, over all its turns
_TURNS = 12
_VALUE_CHARACTERS = 80
_MOST_VALUES = 10_000  # of one column; what comes later shares a group
_LETTERS_FROM = 600  # characters of a response that show its script
_FIRST = 100  # rows that show which usual columns there are

MISSING, OTHER = "(none)", "(other values)"
NO_LETTERS = "no letters"
# What Unicode's names begin with, where that is not the name of the script.
_SCRIPTS = {
    "CJK": "Han",
    "HIRAGANA": "Japanese kana",
    "KATAKANA": "Japanese kana",
    "HALFWIDTH": "Japanese kana",
    "FULLWIDTH": "Latin",
    "MATHEMATICAL": "mathematical letters",
}


@dataclass(frozen=True, slots=True)
class TurnText:
    """A turn as it is shown; `cut` says that its text goes on."""

    role: str
    text: str
    response: bool
    cut: bool


@dataclass(frozen=True, slots=True)
class RowText:
    """A row as it is shown. `turns` is one turn of role `row` where it is no conversation."""

    where: str
    turns: tuple[TurnText, ...]
    left_out_turns: int = 0


@dataclass(frozen=True)
class Grouping:
    """The groups of one column: `codes` (rows,) point into `names`."""

    column: str
    names: Sequence[str]
    codes: NDArray[np.int64]


@dataclass
class _Values:
    """The values of one column as they come, numbered."""

    numbers: dict[str, int] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)

    def add(self, value: str) -> None:
        if value not in self.numbers and len(self.numbers) >= _MOST_VALUES:
            value = OTHER
        self.codes.append(self.numbers.setdefault(value, len(self.numbers)))

    def grouping(self, column: str) -> Grouping:
        return Grouping(column, list(self.numbers), np.array(self.codes, np.int64))


@dataclass(frozen=True)
class Read:
    """What one pass over the rows found; `groupings` in the order asked for, script last."""

    texts: Mapping[int, RowText]
    groupings: Sequence[Grouping]

    @property
    def n_rows(self) -> int:
        return len(self.groupings[-1].codes)


def read(rows: "RowFile", wanted: Collection[int], by: Sequence[str] = ()) -> Read:
    """Read every row once; keep the text of the `wanted` ones.

    Groups by the columns `by`, or by those of `USUAL` that the first rows have. Raises
    `DataError` for a column that no row has.
    """
    kept = frozenset(wanted)
    texts: dict[int, RowText] = {}
    columns: dict[str, _Values] = {name: _Values() for name in by or _usual(rows)}
    scripts = _Values()
    known: set[str] = set()
    for row in rows:
        record = row.record or {}
        known.update(record.keys() & columns.keys())
        for name, values in columns.items():
            values.add(_value(record.get(name)))
        sample = _sample(rows, row)
        scripts.add(script_of(_response(sample)) if sample else NO_LETTERS)
        if row.index in kept:
            texts[row.index] = _row_text(row, sample)
    for name in by:
        if name not in known and scripts.codes:
            raise DataError(
                f"{escape(rows.source, limit=200)}: no row has a column {escape(name)}; "
                "give --by a column of the data"
            )
    groupings = [values.grouping(name) for name, values in columns.items()]
    return Read(texts, [*groupings, scripts.grouping("script")])


def _usual(rows: Iterable["Row"]) -> list[str]:
    there = {name for row in islice(rows, _FIRST) for name in row.record or ()}
    return [name for name in USUAL if name in there]


def _value(value: object) -> str:
    if value is None or value == "":
        return MISSING
    shown = value if isinstance(value, str) else _json(value)
    return shown if len(shown) <= _VALUE_CHARACTERS else shown[:_VALUE_CHARACTERS] + "…"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _sample(rows: "RowFile", row: "Row") -> Sample | None:
    """The row as a conversation; of chosen and rejected the chosen one, which has the score."""
    if row.record is None:
        return None
    try:
        return rows.layouts.samples(row.record)[0]
    except Unscorable:
        return None


def _response(sample: Sample) -> str:
    if sample.text is not None:
        return sample.text
    turns = sample.turns[sample.prompt_turns :]
    return next((turn.content for turn in reversed(turns) if turn.role == "assistant"), "")


def script_of(text: str) -> str:
    """The script of most letters at the start of `text`, by the names that Unicode gives them.

    A script is no language: Latin letters are those of hundreds. Of two with as many letters
    the one that comes first.
    """
    start = text[:_LETTERS_FROM]
    if start.isascii():
        return "Latin" if any(map(str.isalpha, start)) else NO_LETTERS
    scripts: Counter[str] = Counter()
    for character, count in Counter(start).items():
        script = _script(character)
        if script is not None:
            scripts[script] += count
    return scripts.most_common(1)[0][0] if scripts else NO_LETTERS


@lru_cache(maxsize=20_000)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "UNKNOWN").split(" ")[0].split("-")[0]
    return _SCRIPTS.get(first, first.capitalize())


def _row_text(row: "Row", sample: Sample | None) -> RowText:
    where = named(row.where)
    if sample is None:
        return RowText(where, (_cut("row", _raw(row), True, ROW_CHARACTERS),))
    if sample.text is not None:
        return RowText(where, (_cut("text", sample.text, True, ROW_CHARACTERS),))
    turns: list[TurnText] = []
    # The prompt may take half of the room, and what it leaves is the response's.
    room = ROW_CHARACTERS
    last = len(sample.turns) - 1
    for place, turn in enumerate(sample.turns[:_TURNS]):
        response = place >= sample.prompt_turns and turn.role == "assistant"
        share = room if place == last else room // 2
        whole = "\n".join(filter(None, (turn.reasoning, turn.content, _calls(turn.tool_calls))))
        turns.append(_cut(turn.role, whole, response, share))
        room -= len(turns[-1].text)
    return RowText(where, tuple(turns), max(0, len(sample.turns) - _TURNS))


def _calls(calls: object) -> str:
    return _json(calls) if calls else ""


def _raw(row: "Row") -> str:
    """The start of a row that is no conversation: its values, else its bytes, else the reason."""
    if row.record is not None:
        return _json({name: _short(value) for name, value in row.record.items()})
    if row.raw is not None:
        # The start of it: a line may be as long as the file. One character more than is
        # shown says that there is more.
        return (
            row.raw[: 4 * (ROW_CHARACTERS + 1)].decode("utf-8", "backslashreplace").rstrip("\r\n")
        )
    return row.problem.reason if row.problem else ""


def _short(value: object) -> object:
    return value[: ROW_CHARACTERS + 1] if isinstance(value, str) else value


def _cut(role: str, text: str, response: bool, room: int) -> TurnText:
    return TurnText(role, text[:room], response, len(text) > room)
