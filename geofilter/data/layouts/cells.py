"""A record by the roles of its layout, and what every layout takes from it in the same way."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geofilter.data.containers import messages_in, unpacked
from geofilter.data.problems import Problem, Unscorable, malformed
from geofilter.data.samples import Sample, Turn
from geofilter.data.turns import read_answer, read_history, read_system, read_tools
from geofilter.support.display import kind_of, quote

Record = Mapping[str, object]

# What to do where nothing is known of the columns.
NAME_THEM = (
    "say which hold what, as in --column prompt=NAME --column response=NAME, "
    "or --column text=NAME for one text"
)
# Columns that a trainer hands to the chat template along with the turns.
FOR_TEMPLATE = ("tools", "chat_template_kwargs")
# What the system turn is called: Gemini has a name of its own, in two spellings.
SYSTEMS = ("system", "system_prompt", "systemInstruction", "system_instruction")


@dataclass(slots=True)
class Cells:
    """The values of one record, by the roles of its layout.

    `columns`: role -> column, with an empty name for a role that is not to be read.
    `required`: the roles that the layout cannot do without, the prompt's first, the response's
    last. `seen`: the columns that held something and were read.
    """

    record: Record
    columns: Mapping[str, str]
    required: tuple[str, ...]
    seen: set[str] = field(default_factory=set)

    def column(self, role: str) -> str:
        """The name of the role's column, for a message."""
        return self.columns.get(role) or role

    def get(self, role: str) -> object:
        """The role's value; None where the column is absent, null, or not to be read."""
        column = self.columns.get(role, role)
        value = self.record.get(column) if column else None
        if is_filled(value):
            self.seen.add(column)
        return value

    def need(self, role: str) -> object:
        """The role's value. Raises `Unscorable` (malformed) without one."""
        value = self.get(role)
        if value is None:
            column = self.column(role)
            if column in self.record:
                raise malformed(f"{quote(column)} is null")
            raise malformed(f"no column {quote(column)}; found {listing(self.record)}")
        return value

    def answer(self, role: str) -> object:
        """A response. Where it is absent or null the row has none, and is not broken."""
        value = self.get(role)
        if value is None:
            column = self.column(role)
            state = "is null" if column in self.record else "is missing"
            found = "" if column in self.record else f"; found {listing(self.record)}"
            raise Unscorable(Problem("no_response", f"{quote(column)} {state}{found}"))
        return value

    def spoken(self, role: str) -> object:
        """The role's value, messages also where the cell holds them as JSON text."""
        return messages_in(self.get(role), quote(self.column(role)))

    def text(self, role: str) -> str:
        """The role's text, empty where it is missing."""
        value = self.get(role)
        return "" if value is None else as_text(value, self.column(role))


def is_filled(value: object) -> bool:
    """Whether a cell holds anything: concatenated sets pad with null, CSV with nothing."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, float):
        return not math.isnan(value)  # pandas pads with NaN
    if isinstance(value, Mapping):
        # `datasets` pads a struct with one whose fields are null or empty.
        return any(inner is not None and inner != "" and inner != [] for inner in value.values())
    return value is not None and value != []


def as_text(value: object, column: str) -> str:
    """The value, which has to be text."""
    if not isinstance(value, str):
        raise malformed(f"{quote(column)} is {kind_of(value)}, text is needed: {quote(value)}")
    return value


def listing(columns: Collection[str]) -> str:
    """Names of columns for a message, the first twelve of them."""
    if not columns:
        return "no columns"
    names = list(columns)
    return ", ".join(map(quote, names[:12])) + (" and more" if len(names) > 12 else "")


def as_turns(value: object, column: str, role: str) -> tuple[Turn, ...]:
    """One message or a list of them as turns, or a text as one turn of `role`."""
    is_message = isinstance(value, Mapping) and ("role" in value or "from" in value)
    if is_message or isinstance(value, list):
        return read_answer(value, column, role)
    return (Turn(role, as_text(value, column)),)


def before(cells: Cells, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns of the columns `system` and `history`, which come before `turns`.

    A system turn that the conversation itself begins with is the one that counts.
    """
    history = read_history(cells.get("history"), cells.column("history"))
    first = (*history, *turns)[:1]
    if first and first[0].role in ("system", "developer"):
        return history
    name = next((name for name in SYSTEMS if is_filled(cells.get(name))), "system")
    return read_system(cells.get(name), cells.column(name)) + history


def conversation(cells: Cells, turns: tuple[Turn, ...], prompt_turns: int = 0) -> Sample:
    """The sample of `turns`, with what the row hands to the chat template."""
    return Sample(
        turns,
        prompt_turns=prompt_turns,
        tools=read_tools(cells.get("tools")),
        template_kwargs=_template_kwargs(cells),
    )


def _template_kwargs(cells: Cells) -> dict[str, Any] | None:
    value = cells.get("chat_template_kwargs")
    if not is_filled(value):
        return None
    column = cells.column("chat_template_kwargs")
    value = unpacked(value, quote(column))
    if not isinstance(value, Mapping):
        raise malformed(f"{quote(column)} is {kind_of(value)}, an object is needed: {quote(value)}")
    return dict(value)


def _visible(turn: Turn) -> bool:
    return bool(turn.content.strip() or (turn.reasoning or "").strip() or turn.tool_calls)


def with_response(sample: Sample, side: str = "") -> Sample:
    """The sample. Raises `Unscorable` where there is nothing in it to score."""
    spoken = [turn for turn in sample.turns[sample.prompt_turns :] if turn.role == "assistant"]
    answers = [turn for turn in spoken if turn.trained]
    prefix = f"{side}: " if side else ""
    if not spoken:
        raise Unscorable(Problem("no_response", f"{prefix}no turn is the assistant's"))
    if not answers:
        raise Unscorable(
            Problem("no_response", f"{prefix}the row says that no assistant turn is trained on")
        )
    if not any(map(_visible, answers)):
        raise Unscorable(Problem("empty", f"{prefix}the response holds no visible character"))
    return sample


def filled(record: Record) -> Iterable[str]:
    """The columns of a record that hold anything."""
    return (name for name, value in record.items() if is_filled(value))
