"""From the columns of a record to the conversation that a trainer would see.

A layout says which columns hold the prompt and the response. It is found once
per file from the names of the columns, and can be given instead. Reading a
record by its layout gives samples: turns as a chat template takes them, or a
prompt and a completion that the trainer joins as they are, or one plain text.

A conversation that the chat template refuses is found later, by the encoder.

Which columns win. A layout needs all of its columns by name; the first in
`LAYOUTS` that fits most of the first rows is taken, and other columns are left
alone. So `question, prompt, answer` is question/answer: `prompt` alone is no
layout as long as a response pairs with another column.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from geofilter.data.problems import Problem, Unscorable, malformed
from geofilter.data.samples import Sample, Turn
from geofilter.data.turns import read_tools, read_turns
from geofilter.errors import DataError
from geofilter.support.display import kind_of, quote

__all__ = ["LAYOUTS", "Layout", "detect_layout"]

Record = Mapping[str, object]


def _visible(turn: Turn) -> bool:
    return bool(turn.content.strip() or (turn.reasoning or "").strip() or turn.tool_calls)


def _require_response(sample: Sample, side: str = "") -> Sample:
    """Refuse a sample in which there is nothing to score."""
    answers = [turn for turn in sample.turns[sample.prompt_turns :] if turn.role == "assistant"]
    prefix = f"{side}: " if side else ""
    if not answers:
        raise Unscorable(Problem("no_response", f"{prefix}no turn is the assistant's"))
    if not any(map(_visible, answers)):
        raise Unscorable(Problem("empty", f"{prefix}the response holds no visible character"))
    return sample


def _value(record: Record, column: str) -> object:
    if column not in record:
        raise malformed(f"no column {quote(column)}; found {_listing(record)}")
    value = record[column]
    if value is None:
        raise malformed(f"{quote(column)} is null")
    return value


def _response(record: Record, column: str) -> object:
    """A response that is absent or null is a row without a response, not a broken row."""
    if record.get(column) is None:
        found = "is null" if column in record else f"is missing; found {_listing(record)}"
        raise Unscorable(Problem("no_response", f"{quote(column)} {found}"))
    return record[column]


def _text(value: object, column: str) -> str:
    if not isinstance(value, str):
        raise malformed(f"{quote(column)} is {kind_of(value)}, text is needed: {quote(value)}")
    return value


def _turns(value: object, column: str, role: str) -> tuple[Turn, ...]:
    """A list of messages as turns, or a text as one turn of `role`."""
    if isinstance(value, list):
        return read_turns(value, column)
    return (Turn(role, _text(value, column)),)


def _listing(columns: Collection[str]) -> str:
    if not columns:
        return "no columns"
    names = list(columns)
    return ", ".join(map(quote, names[:12])) + (" and more" if len(names) > 12 else "")


def _read_messages(record: Record, columns: Mapping[str, str]) -> tuple[Sample, ...]:
    (column,) = columns.values()
    turns = read_turns(_value(record, column), column)
    return (_require_response(Sample(turns, tools=read_tools(record.get("tools")))),)


def _read_pair(record: Record, columns: Mapping[str, str]) -> tuple[Sample, ...]:
    """A prompt column, columns that add to it, and the response column, in this order.

    An instruction's `input` or `context` follows it after an empty line.
    """
    prompt_column, *added, response_column = columns.values()
    prompt = _value(record, prompt_column)
    answer = _turns(_response(record, response_column), response_column, "assistant")
    extras = [_text(record[name], name) for name in added if record.get(name) is not None]
    if any(extras):
        prompt = "\n\n".join([_text(prompt, prompt_column), *filter(None, extras)])
    asked = _turns(prompt, prompt_column, "user")
    tools = read_tools(record.get("tools"))
    return (_require_response(Sample(asked + answer, prompt_turns=len(asked), tools=tools)),)


def _read_completion(record: Record, columns: Mapping[str, str]) -> tuple[Sample, ...]:
    prompt = _value(record, columns["prompt"])
    completion = _response(record, columns["completion"])
    if isinstance(prompt, str) and isinstance(completion, str):
        turns = (Turn("user", prompt), Turn("assistant", completion))
        return (_require_response(Sample(turns, plain=True, prompt_turns=1)),)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise malformed(
            f"{quote(columns['prompt'])} is {kind_of(prompt)} and "
            f"{quote(columns['completion'])} is {kind_of(completion)}: both must be text, "
            "or both lists of messages"
        )
    return _read_pair(record, columns)


def _shared(chosen: Sequence[object], rejected: Sequence[object]) -> int:
    """How much of both is the prompt, counted as TRL's `extract_prompt` does.

    Without a difference within the shorter one, its last item is response.
    """
    pairs = zip(chosen, rejected, strict=False)
    for place, (left, right) in enumerate(pairs):
        if left != right:
            return place - 1 if place and chosen[place - 1] == " " else place
    return max(0, min(len(chosen), len(rejected)) - 1)


def _read_preference(record: Record, columns: Mapping[str, str]) -> tuple[Sample, ...]:
    """Both sides, chosen first. Without a prompt, what both begin with is the prompt."""
    for name in ("chosen", "rejected"):
        if columns[name] not in record:
            raise malformed(f"no column {quote(columns[name])}; found {_listing(record)}")
    sides = {name: _response(record, columns[name]) for name in ("chosen", "rejected")}
    chosen, rejected = sides.values()
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise malformed(
            f"{quote(columns['chosen'])} is {kind_of(chosen)} and "
            f"{quote(columns['rejected'])} is {kind_of(rejected)}: both must be of one kind"
        )
    prompt = record.get(columns["prompt"])
    plain = isinstance(chosen, str) and not isinstance(prompt, list)
    if isinstance(chosen, str) and isinstance(rejected, str) and prompt is None:
        cut = _shared(chosen, rejected)
        prompt, sides = chosen[:cut], {"chosen": chosen[cut:], "rejected": rejected[cut:]}
    turns = {name: _turns(side, columns[name], "assistant") for name, side in sides.items()}
    if prompt is None:
        asked = turns["chosen"][: _shared(turns["chosen"], turns["rejected"])]
    else:
        asked = _turns(prompt, columns["prompt"], "user")
    tools = read_tools(record.get("tools"))
    samples = []
    for name, side_turns in turns.items():
        # Some data sets repeat the prompt at the start of both sides.
        answer = side_turns[len(asked) :] if side_turns[: len(asked)] == asked else side_turns
        sample = Sample(asked + answer, plain=plain, prompt_turns=len(asked), tools=tools)
        samples.append(_require_response(sample, side=name))
    return tuple(samples)


def _read_text(record: Record, columns: Mapping[str, str]) -> tuple[Sample, ...]:
    text = _text(_value(record, columns["text"]), columns["text"])
    if not text.strip():
        raise Unscorable(Problem("empty", "the text holds no visible character"))
    return (Sample(text=text),)


def _read_prompt_only(record: Record, columns: Mapping[str, str]) -> tuple[Sample, ...]:
    (column,) = columns.values()
    _turns(_value(record, column), column, "user")
    raise Unscorable(Problem("no_response", f"only a prompt ({quote(column)}) and no response"))


class _Shape(NamedTuple):
    required: tuple[str, ...]
    added: tuple[str, ...]  # columns that a row may have
    read: Callable[[Record, Mapping[str, str]], tuple[Sample, ...]]


_ADDED = ("input", "context")

# In the order of preference; the key is the name, the columns are also the
# names that a mapping of columns may use.
LAYOUTS: Mapping[str, _Shape] = {
    "messages": _Shape(("messages",), (), _read_messages),
    "conversations": _Shape(("conversations",), (), _read_messages),
    "chosen-rejected": _Shape(("chosen", "rejected"), ("prompt",), _read_preference),
    "prompt-completion": _Shape(("prompt", "completion"), (), _read_completion),
    "prompt-response": _Shape(("prompt", "response"), (), _read_pair),
    "query-response": _Shape(("query", "response"), (), _read_pair),
    "question-answer": _Shape(("question", "answer"), (), _read_pair),
    "question-response": _Shape(("question", "response"), (), _read_pair),
    "instruction-output": _Shape(("instruction", "output"), _ADDED, _read_pair),
    "instruction-response": _Shape(("instruction", "response"), _ADDED, _read_pair),
    "context-response": _Shape(("context", "response"), (), _read_pair),
    "text": _Shape(("text",), (), _read_text),
    # The following hold no response: their rows are read to say so.
    "prompt-only": _Shape(("prompt",), (), _read_prompt_only),
    "instruction-only": _Shape(("instruction",), (), _read_prompt_only),
    "query-only": _Shape(("query",), (), _read_prompt_only),
    "question-only": _Shape(("question",), (), _read_prompt_only),
}
_WITHOUT_RESPONSE = frozenset(name for name in LAYOUTS if name.endswith("-only"))
ROLES = tuple(dict.fromkeys(c for s in LAYOUTS.values() for c in (*s.required, *s.added)))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of one file become samples.

    `name`: a key of `LAYOUTS`, or "unknown".
    `columns`: the layout's own column name -> the file's column name.
    `problem`: set when the columns of the file fit no layout; every row then has
    this problem, so that a file can be opened, counted and kept without one.
    """

    name: str
    columns: dict[str, str]
    problem: Problem | None = None

    def samples(self, record: Record) -> tuple[Sample, ...]:
        """Return one sample, or two for chosen/rejected (chosen first).

        Raises `Unscorable` with the status `malformed`, `no_response` or `empty`.
        """
        if self.problem is not None:
            raise Unscorable(self.problem)
        return LAYOUTS[self.name].read(record, self.columns)


def _ordered_columns(name: str, mapping: Mapping[str, str]) -> dict[str, str]:
    """Layout column -> file column: the prompt, what adds to it, the response last."""
    shape = LAYOUTS[name]
    *first, last = shape.required
    return {role: mapping.get(role, role) for role in (*first, *shape.added, last)}


def _fits(name: str, columns: Collection[str], mapping: Mapping[str, str]) -> bool:
    shape = LAYOUTS[name]
    if not set(mapping) <= {*shape.required, *shape.added}:
        return False
    return all(mapping.get(role, role) in columns for role in shape.required)


def _check_arguments(
    source: str, rows: Sequence[Collection[str]], name: str | None, mapping: Mapping[str, str]
) -> None:
    if name is not None and name not in LAYOUTS:
        raise DataError(f"layout {quote(name)} is not known; choose from {', '.join(LAYOUTS)}")
    for role, column in mapping.items():
        if role not in ROLES:
            raise DataError(
                f"{quote(role)} is no column of any layout; choose from {', '.join(ROLES)}"
            )
        # A column under its own name may be absent: `Layout.columns` lists the
        # columns that a row may have, and can be handed in again.
        if rows and role != column and not any(column in columns for columns in rows):
            raise DataError(f"{source}: no column {quote(column)}; found {_listing(rows[0])}")
    if name is not None:
        shape = LAYOUTS[name]
        wrong = [role for role in mapping if role not in {*shape.required, *shape.added}]
        if wrong:
            raise DataError(
                f"layout {name} has no column {quote(wrong[0])}; it has "
                f"{', '.join((*shape.required, *shape.added))}"
            )


def detect_layout(
    source: str,
    rows: Sequence[Collection[str]],
    *,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Layout:
    """Choose the layout from the column names of the first rows, in the order of the file.

    `name` fixes the layout. `columns` maps a layout's column to the file's
    ({"response": "reply"}): that column is read as if it had the layout's name.
    `source` is used in messages only. Columns that fit no layout give a layout
    with a `problem`. Raises `DataError` for a name or a mapping that is wrong.
    """
    mapping = dict(columns or {})
    _check_arguments(source, rows, name, mapping)
    if name is None:
        counts = {n: sum(_fits(n, row, mapping) for row in rows) for n in LAYOUTS}
        with_response = [n for n in LAYOUTS if counts[n] and n not in _WITHOUT_RESPONSE]
        # max() keeps the first of equals: the order of LAYOUTS breaks a tie.
        name = max(with_response, key=counts.__getitem__, default=None) or next(
            (n for n in LAYOUTS if counts[n]), None
        )
    if name is None:
        found = _listing(rows[0]) if rows else "no rows"
        reason = (
            f"the columns fit no layout: found {found}; known are {', '.join(LAYOUTS)}; "
            "say which columns hold what, as in --column prompt=ASK --column response=REPLY"
        )
        return Layout("unknown", {}, Problem("malformed", reason))
    return Layout(name, _ordered_columns(name, mapping))
