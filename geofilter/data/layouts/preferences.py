"""Layouts of two answers to one prompt: both are samples, the chosen one first."""

from collections.abc import Iterable, Sequence

from geofilter.data.containers import messages_in
from geofilter.data.layouts.cells import (
    Cells,
    as_turns,
    before,
    conversation,
    is_filled,
    with_response,
)
from geofilter.data.layouts.pairs import prompt_text
from geofilter.data.problems import malformed
from geofilter.data.samples import Sample, Turn
from geofilter.data.turns import read_answer, read_turns
from geofilter.support.display import kind_of, quote

# Where the prompt of two answers may stand, in this order.
PROMPTS = ("prompt", "instruction", "question", "query", "input")
# Columns whose conversation may be the prompt, where those are missing.
ASIDE = ("messages", "conversations", "conversation")
_SIDES = ("chosen", "rejected")


def shared(chosen: Sequence[object], rejected: Sequence[object]) -> int:
    """How much of both is the prompt, counted as TRL's `extract_prompt` does.

    Without a difference within the shorter one, its last item is response.
    """
    pairs = zip(chosen, rejected, strict=False)
    for place, (left, right) in enumerate(pairs):
        if left != right:
            return place - 1 if place and chosen[place - 1] == " " else place
    return max(0, min(len(chosen), len(rejected)) - 1)


def read_preference(cells: Cells) -> tuple[Sample, ...]:
    """Two answers, `chosen` and `rejected`.

    The prompt is the first that is filled of `PROMPTS` and `ASIDE`. Without one, or with a text
    next to two conversations, it is what both sides begin with, as in TRL's
    `maybe_extract_prompt`; if that is nothing, it is the text.
    """
    for side in _SIDES:
        if cells.column(side) not in cells.record:
            cells.need(side)  # which says what is there instead
    chosen, rejected = (cells.answer(side) for side in _SIDES)
    talks = [cells.spoken(side) for side in _SIDES]
    if not all(isinstance(talk, str) for talk in talks):
        chosen, rejected = talks
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise malformed(
            f"{quote(cells.column('chosen'))} is {kind_of(chosen)} and "
            f"{quote(cells.column('rejected'))} is {kind_of(rejected)}: both must be of one kind"
        )
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _two_texts(cells, chosen, rejected)
    sides = zip(_SIDES, (chosen, rejected), strict=True)
    turns = (read_answer(value, cells.column(side), "assistant") for side, value in sides)
    return _two_talks(cells, *turns)


def _two_texts(cells: Cells, chosen: str, rejected: str) -> tuple[Sample, ...]:
    role = next((role for role in PROMPTS if is_filled(cells.get(role))), None)
    sides = [(Turn("assistant", side),) for side in (chosen, rejected)]
    if role is None and (talk := _talk(cells, sides)) is not None:
        return both(cells, before(cells, talk) + talk, sides)
    if role is None:
        cut = shared(chosen, rejected)
        prompt: object = chosen[:cut]
        chosen, rejected = chosen[cut:], rejected[cut:]
    else:
        prompt = cells.spoken(role) if role in ("prompt", "input") else prompt_text(cells, role)
    answers = ((Turn("assistant", side),) for side in (chosen, rejected))
    asked = as_turns(prompt, cells.column(role or "prompt"), "user")
    earlier = before(cells, asked)
    if role in (None, "prompt") and isinstance(prompt, str) and not earlier:
        # TRL joins a prompt and an answer that are both text as they are.
        samples = (Sample(asked + answer, plain=True, prompt_turns=1) for answer in answers)
        return _checked(samples)
    return both(cells, earlier + asked, answers)


def _two_talks(
    cells: Cells, chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]
) -> tuple[Sample, ...]:
    prompt = messages_in(_aside(cells, "prompt"), quote(cells.column("prompt")))
    if is_filled(prompt) and not isinstance(prompt, str):
        asked = as_turns(cells.spoken("prompt"), cells.column("prompt"), "user")
    elif chosen[:1] and chosen[0].role != "assistant":
        # The sides are whole conversations, and begin with the prompt.
        asked = chosen[: shared(chosen, rejected)]
    else:
        asked = _prompt_of_answers(cells, chosen, rejected)
    earlier = before(cells, asked)
    # Some data sets repeat the prompt at the start of both sides.
    answers = (_without(side, asked) for side in (chosen, rejected))
    return both(cells, earlier + asked, answers)


def _without(side: tuple[Turn, ...], asked: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return side[len(asked) :] if side[: len(asked)] == asked else side


def _aside(cells: Cells, role: str) -> object:
    """The role's value, which may be left unread."""
    return cells.record.get(cells.columns.get(role) or "")


def _prompt_of_answers(
    cells: Cells, chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]
) -> tuple[Turn, ...]:
    """The prompt of two sides that begin with an answer."""
    common = chosen[: shared(chosen, rejected)]
    if is_filled(_aside(cells, "prompt")):
        return common or as_turns(cells.get("prompt"), cells.column("prompt"), "user")
    talk = _talk(cells, (chosen, rejected))
    if talk is not None:
        return talk
    for role in PROMPTS[1:]:
        if is_filled(cells.get(role)):
            prompt = cells.spoken(role) if role == "input" else prompt_text(cells, role)
            return as_turns(prompt, cells.column(role), "user")
    return common


def _talk(cells: Cells, sides: Iterable[tuple[Turn, ...]]) -> tuple[Turn, ...] | None:
    """The conversation that stands next to two answers; None without one.

    Some sets give one of the two once more at its end.
    """
    for role in ASIDE:
        if not is_filled(_aside(cells, role)):
            continue
        talk = read_turns(cells.get(role), cells.column(role))
        for side in sides:
            if side and talk[-len(side) :] == side:
                talk = talk[: -len(side)]
                break
        if talk and talk[-1].role == "assistant":
            raise malformed(
                f"the conversation in {quote(cells.column(role))} ends with an answer that is "
                "neither the chosen nor the rejected one; take it off the end, or score that "
                f"conversation alone: --layout {role}"
            )
        return talk
    return None


def both(
    cells: Cells, asked: tuple[Turn, ...], answers: Iterable[tuple[Turn, ...]]
) -> tuple[Sample, ...]:
    """The two samples of a prompt and two answers, the chosen one first."""
    return _checked(conversation(cells, asked + answer, len(asked)) for answer in answers)


def _checked(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(with_response(sample, side) for side, sample in zip(_SIDES, samples, strict=True))
