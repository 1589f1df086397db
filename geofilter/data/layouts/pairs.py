"""Layouts of a prompt's column and a response's column."""

from geofilter.data.layouts.cells import (
    Cells,
    as_text,
    as_turns,
    before,
    conversation,
    with_response,
)
from geofilter.data.problems import malformed
from geofilter.data.samples import Sample, Turn
from geofilter.support.display import kind_of, quote

# What an instruction may be followed by.
ADDED = ("input", "context")


def prompt_text(cells: Cells, role: str) -> object:
    """The prompt, with an instruction's `input` or `context` after an empty line."""
    extras = [cells.text(name) for name in ADDED] if role == "instruction" else []
    if any(extras):
        # Next to an input the instruction may be missing, as trainers have it.
        first = cells.get(role)
        texts = ["" if first is None else as_text(first, cells.column(role)), *extras]
        return "\n\n".join(filter(None, texts))
    cells.need(role)
    return cells.spoken(role)


def read_pair(cells: Cells) -> tuple[Sample, ...]:
    """A prompt and its answer, after what `system` and `history` say.

    The answers of a history are responses too, as trainers that know the column have it.
    """
    prompt_role, response_role = cells.required
    prompt = prompt_text(cells, prompt_role)
    given = cells.answer(response_role)
    if not isinstance(prompt, str):
        given = cells.spoken(response_role)
    answer = as_turns(given, cells.column(response_role), "assistant")
    asked = as_turns(prompt, cells.column(prompt_role), "user")
    earlier = before(cells, asked)
    talked = any(turn.role == "assistant" for turn in earlier)
    prompt_turns = 0 if talked else len(earlier) + len(asked)
    return (with_response(conversation(cells, earlier + asked + answer, prompt_turns)),)


def read_completion(cells: Cells) -> tuple[Sample, ...]:
    """TRL's prompt and completion: two texts, which it joins as they are, or two lists."""
    prompt = cells.need("prompt")
    completion = cells.answer("completion")
    talks = cells.spoken("prompt"), cells.spoken("completion")
    if not any(isinstance(talk, str) for talk in talks):
        prompt, completion = talks
    if isinstance(prompt, str) and isinstance(completion, str):
        turns = (Turn("user", prompt), Turn("assistant", completion))
        return (with_response(Sample(turns, plain=True, prompt_turns=1)),)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise malformed(
            f"{quote(cells.column('prompt'))} is {kind_of(prompt)} and "
            f"{quote(cells.column('completion'))} is {kind_of(completion)}: both must be text, "
            "or both lists of messages"
        )
    asked = as_turns(prompt, cells.column("prompt"), "user")
    answer = as_turns(completion, cells.column("completion"), "assistant")
    return (with_response(conversation(cells, asked + answer, len(asked))),)
