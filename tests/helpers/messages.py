"""A conversation as a row spells it and as turns, shared by the tests of the reader."""

from dataclasses import replace
from typing import Any

from geofilter.data.samples import Turn

SAY = {"role": "user", "content": "Is the kettle on?"}
YES = {"role": "assistant", "content": "It boils."}
TURNS = (Turn("user", "Is the kettle on?"), Turn("assistant", "It boils."))
CALL = {"type": "function", "function": {"name": "heat", "arguments": {"degrees": 90}}}
CALLED = Turn("assistant", "", None, (CALL,))
NO_CONTENT = replace(CALLED, parts=())


def with_id(place: str) -> dict[str, Any]:
    return {"type": "function", "id": place, "function": CALL["function"]}
