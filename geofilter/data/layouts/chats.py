"""Layouts of one column that holds a conversation, every assistant turn of it a response."""

from geofilter.data.layouts.cells import Cells, before, conversation, with_response
from geofilter.data.samples import Sample
from geofilter.data.turns import read_turns


def read_chat(cells: Cells) -> tuple[Sample, ...]:
    """The conversation, and before it what a column `system` says."""
    (role,) = cells.required
    turns = read_turns(cells.need(role), cells.column(role))
    return (with_response(conversation(cells, before(cells, turns) + turns)),)
