"""What to type for a row whose columns fit no layout, or more than one that differ in meaning."""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache

from geofilter.data.layouts import LAYOUTS, WITHOUT_RESPONSE
from geofilter.data.layouts.cells import NAME_THEM, Record, is_filled, listing
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.turns import read_turns
from geofilter.support.display import escape, kind_of, quote

# Next to one of these a `text` may be the prompt, or be what was made of both.
# fmt: off
_ANSWERS = frozenset({
    "answer", "answers", "assistant", "canonical_solution", "chosen", "code", "completion",
    "completions", "explanation", "generation", "highlights", "label_text", "output", "outputs",
    "rationale", "reply", "response", "responses", "result", "solution", "sql", "summary", "target",
    "targets", "translation",
})
_ASKS = frozenset({
    "ask", "human", "input", "inputs", "instruction", "message", "problem", "prompt", "query",
    "question", "request", "user",
})
# fmt: on
# One of several answers: `response_a`, `answer2`, `best_answer`, `chosen_response`.
_ONE_OF = re.compile(
    r"(?:answer|completion|generation|output|reply|response|solution)s?"
    r"_?(?:[a-z]|\d+|chosen|rejected|accepted|good|bad)"
    r"|(?:best|chosen|rejected|accepted|good|bad|model|correct)"
    r"_(?:answer|completion|output|reply|response|solution)s?"
)
_CHAT_KEYS = ("role", "from", "author")


@lru_cache(maxsize=1024)
def _answers(name: str) -> bool:
    """Whether a column is called as one with a response may be."""
    folded = name.casefold()
    return folded in _ANSWERS or _ONE_OF.fullmatch(folded) is not None


def may_say(name: str) -> bool:
    """Whether what a column holds may say how another one is to be read."""
    return name.casefold() in _ASKS or _answers(name)


def text_of_what(record: Record) -> Problem | None:
    """A row of a text and of what may be its answer or its question: nobody can know."""
    found = {
        name: value
        for name, value in sorted(record.items())
        if may_say(name) and isinstance(value, str | list | dict) and is_filled(value)
    }
    if not found:
        return None
    answer = next((name for name in found if _answers(name)), None)
    other = answer if answer is not None else next(iter(found))
    if not _is_said(found[other]):
        return Problem(
            "malformed",
            f"'text' stands next to {quote(other)}, which is {kind_of(found[other])} and may be "
            "its answer or its question; --layout text to score the text alone",
        )
    prompt, response = (other, "text") if answer is None else ("text", other)
    return Problem(
        "malformed",
        f"'text' stands next to {quote(other)}, so it may be a part of the row: "
        f"{_typed(prompt=prompt, response=response)} if it is that, "
        "--layout text to score it alone",
    )


def prompt_of_what(prompt: str, record: Record) -> Problem | None:
    """A row of a prompt and of what may be its response, under a name that no layout has."""
    given = {
        name: value
        for name, value in sorted(record.items())
        if name != prompt and _answers(name) and is_filled(value)
    }
    if not given:
        return None
    answers = [name for name, value in given.items() if _is_said(value)]
    if not answers:
        name, value = next(iter(given.items()))
        which = (
            f"{quote(name)} may be the response, but it is {kind_of(value)}; "
            "write its text or its messages into a column"
        )
    elif len(answers) > 1:
        found = " and ".join(map(quote, answers[:3])) + (" and more" if answers[3:] else "")
        which = (
            f"{found} may be the response; say which is, as in --column response=NAME, "
            "or --column chosen=NAME --column rejected=NAME for two answers"
        )
    else:
        which = _pair(prompt, answers[0], record)
    return Problem("malformed", f"the columns fit no layout; {which}")


def _pair(ask: str, answer: str, record: Record) -> str:
    """What to type if these are a prompt and its response, with what adds to the prompt."""
    filled = [name for name, value in record.items() if is_filled(value)]
    # What is empty here may be filled in the next row.
    added = {"input", "context"}.intersection(record) - {ask, answer}
    typed = {"instruction" if added else "prompt": ask, "response": answer}
    earlier = [name for name in filled if "history" in name.casefold() and _is_talk(record[name])]
    if "history" not in filled and len(earlier) == 1 and earlier[0] not in typed.values():
        typed["history"] = earlier[0]
    read = {*typed.values(), *added, *LAYOUTS["prompt-response"].roles}
    return (
        f"if {quote(ask)} is the prompt and {quote(answer)} the response: "
        f"{_typed(**typed)}{_left(filled, read)}"
    )


def fits_none(record: Record) -> str:
    """Why a row fits no layout: first what to type, then what it holds, which may be long."""
    return f"the columns fit no layout; {_remedy(record)}; found {listing(record)}"


def _remedy(record: Record) -> str:
    ask, answer = _named(record, _ASKS), _named(record, _ANSWERS)
    paired = None if ask is None or answer is None else _pair(ask, answer, record)
    filled = [name for name, value in record.items() if is_filled(value)]
    capitals = None if paired is not None and len(record) == 2 else _by_capitals(record)
    for known in (capitals, paired):
        if known is not None:
            return known
    talks = [name for name in filled if _is_talk(record[name])]
    answers = [name for name in filled if _answers(name) and _is_said(record[name])]
    if len(talks) > 1:
        found = " and ".join(map(quote, talks[:3])) + (" and more" if talks[3:] else "")
        return (
            f"{found} may be the conversation; say which is, as in --column messages=NAME, "
            "or --column chosen=NAME --column rejected=NAME for two answers"
        )
    if talks and len(answers) == 1 and answers != talks:
        return _pair(talks[0], answers[0], record)
    if talks and len(answers) > 1:
        return (
            f"if {quote(talks[0])} is the prompt of two answers: {_typed(messages=talks[0])} "
            "--column chosen=NAME --column rejected=NAME"
        )
    if talks:
        read = {talks[0], *LAYOUTS["messages"].roles}
        return (
            f"if {quote(talks[0])} is the conversation: {_typed(messages=talks[0])}"
            f"{_left(filled, read)}"
        )
    return NAME_THEM


def _by_capitals(record: Record) -> str | None:
    """What to type where only the capitals of the columns keep them from fitting a layout."""
    names: dict[str, str] = {}
    for name in record:
        if names.setdefault(name.casefold(), name) != name:
            return None
    full = {folded for folded, name in names.items() if is_filled(record[name])}
    for layout, shape in LAYOUTS.items():
        if layout in WITHOUT_RESPONSE or not full.issuperset(shape.required):
            continue
        if layout == "text" and any(map(may_say, full)):
            return None
        typed = {role: names[role] for role in shape.roles if names.get(role, role) != role}
        read = {names[role] for role in shape.roles if role in names}
        left = _left((names[folded] for folded in full), read)
        return f"only capitals differ from {layout}: {_typed(**typed)}{left}"
    return None


def _left(filled: Iterable[str], read: Collection[str]) -> str:
    others = sorted(set(filled).difference(read))
    return f" (not read then: {listing(others)})" if others else ""


def _typed(**columns: str) -> str:
    pairs = (f"--column {role}={escape(name, limit=60)}" for role, name in columns.items())
    return " ".join(pairs)


def _named(record: Record, names: Collection[str]) -> str | None:
    """The only column of text or turns that is called so, whatever its capitals."""
    found = [name for name, value in record.items() if name.casefold() in names and _is_said(value)]
    return found[0] if len(found) == 1 else None


def _is_said(value: object) -> bool:
    """Whether a value is what somebody says: text or turns."""
    return (isinstance(value, str) and bool(value.strip())) or _is_talk(value)


def _is_talk(value: object) -> bool:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        if any(key in value[0] for key in _CHAT_KEYS) and len(value[0]) > 1:
            return True  # whatever is wrong with its turns
    elif not isinstance(value, str | dict | list):
        return False
    try:
        return any(turn.role == "assistant" for turn in read_turns(value, ""))
    except Unscorable:
        return False
