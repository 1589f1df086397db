"""Layouts of two answers as providers of fine-tuning and their trainers write them."""

from collections.abc import Mapping

from geofilter.data.layouts.cells import Cells, as_turns, before, with_response
from geofilter.data.layouts.chats import read_chat
from geofilter.data.layouts.pairs import read_pair
from geofilter.data.layouts.preferences import both, shared
from geofilter.data.problems import malformed
from geofilter.data.samples import Sample, Turn
from geofilter.data.turns import read_answer, read_input, read_turns
from geofilter.support.display import kind_of, quote


def read_openai_preference(cells: Cells) -> tuple[Sample, ...]:
    """OpenAI's `input` (messages and tools), `preferred_output` and `non_preferred_output`."""
    asked, tools = read_input(cells.need("input"), cells.column("input"))
    return tuple(
        with_response(
            Sample(
                asked + _output(cells, role),
                prompt_turns=len(asked),
                tools=tools,
            ),
            role,
        )
        for role in ("preferred_output", "non_preferred_output")
    )


def _output(cells: Cells, role: str) -> tuple[Turn, ...]:
    cells.answer(role)
    return read_answer(cells.spoken(role), cells.column(role), "assistant")


def read_gemini_preference(cells: Cells) -> tuple[Sample, ...]:
    """Gemini's `contents` and two `completions`, of which the one that scores more is chosen."""
    talk = read_turns(cells.need("contents"), cells.column("contents"))
    column, given = cells.column("completions"), cells.answer("completions")
    if not isinstance(given, list) or len(given) != 2:
        raise malformed(f"{quote(column)} is {kind_of(given)}, two completions are needed")
    found = [_completion(one, f"{column}[{place}]") for place, one in enumerate(given)]
    # The first of two that score alike stays the first.
    answers = [answer for _, answer in sorted(found, key=lambda one: one[0], reverse=True)]
    return both(cells, before(cells, talk) + talk, answers)


def _completion(given: object, path: str) -> tuple[float, tuple[Turn, ...]]:
    if isinstance(given, Mapping) and "completion" in given:
        score = given.get("score")
        if isinstance(score, int | float):
            return score, read_answer(given["completion"], f"{path}.completion", "assistant")
    raise malformed(f"{path} has to hold a score and a completion; it is {quote(given)}")


def read_rejected_response(cells: Cells) -> tuple[Sample, ...]:
    """ms-swift's conversation, the last answer of which has a `rejected_response` next to it."""
    own = cells.required[:-1]
    side = Cells(cells.record, cells.columns, own, cells.seen)
    (chosen,) = read_pair(side) if len(own) == 2 else read_chat(side)
    last = len(chosen.turns) - 1
    if chosen.turns[last].role != "assistant":
        raise malformed(
            "the conversation does not end with an answer, with which "
            f"{quote(cells.column('rejected_response'))} could be compared"
        )
    rejected = as_turns(
        cells.answer("rejected_response"), cells.column("rejected_response"), "assistant"
    )
    return both(cells, chosen.turns[:last], (chosen.turns[last:], rejected))


def read_rejected_messages(cells: Cells) -> tuple[Sample, ...]:
    """ms-swift's two conversations, `messages` and `rejected_messages`, with a common beginning.

    The second may also be the other answer alone.
    """
    sides: list[tuple[Turn, ...]] = [
        read_turns(cells.need(role), cells.column(role)) for role in cells.required
    ]
    cut = shared(*sides)
    asked = sides[0][:cut]
    if not asked and sides[1][:1] and sides[1][0].role == "assistant":
        answered = next(
            (place for place, turn in enumerate(reversed(sides[0])) if turn.role != "assistant"), 0
        )
        asked = sides[0][: len(sides[0]) - answered]
        return both(cells, before(cells, asked) + asked, [sides[0][len(asked) :], sides[1]])
    return both(cells, before(cells, asked) + asked, [side[cut:] for side in sides])
