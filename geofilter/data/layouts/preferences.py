"""Layouts of two answers to one prompt: both are samples, the chosen one first."""

from collections.abc import Iterable, Mapping, Sequence

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
# Columns whose conversation may be the prompt, where there is none of those.
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
    `maybe_extract_prompt`.
    """
    for side in _SIDES:
        if cells.column(side) not in cells.record:
            cells.need(side)  # which says what is there instead
    chosen, rejected = (cells.answer(side) for side in _SIDES)
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise malformed(
            f"{quote(cells.column('chosen'))} is {kind_of(chosen)} and "
            f"{quote(cells.column('rejected'))} is {kind_of(rejected)}: both must be of one kind"
        )
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _two_texts(cells, chosen, rejected)
    sides = {side: read_answer(cells.get(side), cells.column(side), "assistant") for side in _SIDES}
    return _two_talks(cells, sides)


def _two_texts(cells: Cells, chosen: str, rejected: str) -> tuple[Sample, ...]:
    role = next((role for role in PROMPTS if is_filled(cells.get(role))), None)
    if role is None and (talk := _talk(cells, (Turn("assistant", chosen),))) is not None:
        answers = ((Turn("assistant", side),) for side in (chosen, rejected))
        return both(cells, before(cells, talk) + talk, answers)
    if role is None:
        cut = shared(chosen, rejected)
        prompt: object = chosen[:cut]
        chosen, rejected = chosen[cut:], rejected[cut:]
    else:
        prompt = cells.get(role) if role in ("prompt", "input") else prompt_text(cells, role)
    answers = ((Turn("assistant", side),) for side in (chosen, rejected))
    asked = as_turns(prompt, cells.column(role or "prompt"), "user")
    earlier = before(cells, asked)
    if role in (None, "prompt") and isinstance(prompt, str) and not earlier:
        # TRL joins a prompt and an answer that are both text as they are.
        samples = (Sample(asked + answer, plain=True, prompt_turns=1) for answer in answers)
        return _checked(samples)
    return both(cells, earlier + asked, answers)


def _two_talks(cells: Cells, sides: Mapping[str, tuple[Turn, ...]]) -> tuple[Sample, ...]:
    chosen, rejected = sides["chosen"], sides["rejected"]
    prompt = cells.columns.get("prompt") and cells.record.get(cells.columns["prompt"])
    if is_filled(prompt) and not isinstance(prompt, str):
        asked = as_turns(cells.get("prompt"), cells.column("prompt"), "user")
    elif chosen[:1] and chosen[0].role != "assistant":
        # The sides are whole conversations, and begin with the prompt.
        asked = chosen[: shared(chosen, rejected)]
    else:
        asked = _prompt_of_answers(cells, chosen)
    earlier = before(cells, asked)
    # Some data sets repeat the prompt at the start of both sides.
    answers = (_without(side, asked) for side in (chosen, rejected))
    return both(cells, earlier + asked, answers)


def _without(side: tuple[Turn, ...], asked: tuple[Turn, ...]) -> tuple[Turn, ...]:
    return side[len(asked) :] if side[: len(asked)] == asked else side


def _prompt_of_answers(cells: Cells, chosen: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The prompt of two sides that hold answers only."""
    talk = _talk(cells, chosen)
    if talk is not None:
        return talk
    for role in PROMPTS[1:]:
        if is_filled(cells.get(role)):
            prompt = cells.get(role) if role == "input" else prompt_text(cells, role)
            return as_turns(prompt, cells.column(role), "user")
    return ()


def _talk(cells: Cells, chosen: tuple[Turn, ...]) -> tuple[Turn, ...] | None:
    """The conversation that stands next to two answers; None where there is none.

    Some sets give the chosen answer once more at its end.
    """
    for role in ASIDE:
        value = cells.record.get(cells.columns.get(role) or "")
        if not is_filled(value):
            continue
        talk = read_turns(cells.get(role), cells.column(role))
        if talk[-len(chosen) :] == chosen:
            talk = talk[: -len(chosen)]
        if talk and talk[-1].role == "assistant":
            column = quote(cells.column(role))
            raise malformed(
                f"the conversation in {column} ends with an answer that is not the chosen one; "
                f"say which to read: --layout {role}, or --layout chosen-rejected --column {role}="
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
