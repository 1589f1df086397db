"""Layouts without turns: one plain text, and a prompt that nothing answers."""

from geofilter.data.layouts.cells import NAME_THEM, Cells, as_text, as_turns
from geofilter.data.problems import Problem, Unscorable, malformed
from geofilter.data.samples import Sample
from geofilter.support.display import quote


def read_text(cells: Cells) -> tuple[Sample, ...]:
    """One text, all of it response."""
    (role,) = cells.required
    text = as_text(cells.need(role), cells.column(role))
    if not text.strip():
        raise Unscorable(Problem("empty", "the text holds no visible character"))
    return (Sample(text=text),)


def read_prompt_only(cells: Cells) -> tuple[Sample, ...]:
    """Raises `Unscorable`: the row holds no response."""
    (role,) = cells.required
    column = cells.column(role)
    value = cells.need(role)
    try:
        as_turns(value, column, "user")
    except Unscorable as error:
        raise malformed(
            f"{quote(column)} holds no prompt ({error.problem.reason}), and no column a response; "
            f"{NAME_THEM}"
        ) from error
    raise Unscorable(Problem("no_response", f"only a prompt ({quote(column)}) and no response"))
