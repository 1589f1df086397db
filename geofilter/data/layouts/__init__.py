"""From the columns of a record to the conversation that a trainer would see.

A layout says which columns hold the prompt and the response. Each row has its own: the first in
`LAYOUTS` all of whose columns the row fills. So files that mix layouts, and unions that are padded
with null, are read row by row. A layout can be given instead, for all rows.

A contributor adds a layout with a function in a module of this package and a line in `LAYOUTS`.
Other columns are left alone; `geofilter.data.reading` says which.

A conversation that the chat template refuses is found later, by the encoder.
"""

from collections.abc import Callable
from typing import NamedTuple

from geofilter.data.layouts.cells import FOR_TEMPLATE, Cells
from geofilter.data.layouts.chats import read_chat
from geofilter.data.layouts.pairs import ADDED, read_completion, read_pair
from geofilter.data.layouts.preferences import ASIDE, PROMPTS, read_preference
from geofilter.data.layouts.texts import read_prompt_only, read_text
from geofilter.data.layouts.vendors import (
    read_gemini_preference,
    read_openai_preference,
    read_rejected_messages,
    read_rejected_response,
)
from geofilter.data.samples import Sample

__all__ = ["AROUND", "LAYOUTS", "ROLES", "TALKS", "WITHOUT_RESPONSE", "Shape"]


class Shape(NamedTuple):
    """A layout: the columns it needs, those it also reads, and what makes samples of them."""

    required: tuple[str, ...]
    added: tuple[str, ...]
    read: Callable[[Cells], tuple[Sample, ...]]

    @property
    def roles(self) -> tuple[str, ...]:
        """All columns that the layout reads, by its own names for them."""
        return (*self.required, *self.added)


_SYSTEM = ("system", "system_prompt", *FOR_TEMPLATE)
_GEMINI = ("systemInstruction", "system_instruction", "system", *FOR_TEMPLATE)
_EARLIER = ("history", *_SYSTEM)

# In the order of preference; the key is the name, the columns are also the
# names that a mapping of columns may use.
LAYOUTS: dict[str, Shape] = {
    # Two answers to one prompt.
    "openai-preference": Shape(
        ("input", "preferred_output", "non_preferred_output"), (), read_openai_preference
    ),
    "gemini-preference": Shape(("contents", "completions"), _GEMINI, read_gemini_preference),
    "messages-rejected": Shape(("messages", "rejected_response"), _SYSTEM, read_rejected_response),
    "messages-rejected-messages": Shape(
        ("messages", "rejected_messages"), _SYSTEM, read_rejected_messages
    ),
    "query-response-rejected": Shape(
        ("query", "response", "rejected_response"), _EARLIER, read_rejected_response
    ),
    "chosen-rejected": Shape(
        ("chosen", "rejected"), (*PROMPTS, "context", *ASIDE, *_EARLIER), read_preference
    ),
    # One conversation.
    "messages": Shape(("messages",), _SYSTEM, read_chat),
    "conversations": Shape(("conversations",), _SYSTEM, read_chat),
    "conversation": Shape(("conversation",), _SYSTEM, read_chat),
    "contents": Shape(("contents",), _GEMINI, read_chat),
    # A prompt and a response.
    "prompt-completion": Shape(("prompt", "completion"), FOR_TEMPLATE, read_completion),
    "prompt-response": Shape(("prompt", "response"), _EARLIER, read_pair),
    "query-response": Shape(("query", "response"), _EARLIER, read_pair),
    "question-answer": Shape(("question", "answer"), _EARLIER, read_pair),
    "question-response": Shape(("question", "response"), _EARLIER, read_pair),
    "instruction-output": Shape(("instruction", "output"), (*ADDED, *_EARLIER), read_pair),
    "instruction-response": Shape(("instruction", "response"), (*ADDED, *_EARLIER), read_pair),
    "context-response": Shape(("context", "response"), _EARLIER, read_pair),
    "text_input-output": Shape(("text_input", "output"), _EARLIER, read_pair),
    "input_text-output_text": Shape(("input_text", "output_text"), _EARLIER, read_pair),
    "text": Shape(("text",), (), read_text),
    # The following hold no response: their rows are read to say so.
    "prompt-only": Shape(("prompt",), (), read_prompt_only),
    "instruction-only": Shape(("instruction",), (), read_prompt_only),
    "query-only": Shape(("query",), (), read_prompt_only),
    "question-only": Shape(("question",), (), read_prompt_only),
}
# The columns that hold conversations and nothing else.
TALKS = ("messages", "conversations", "conversation", "contents")
# Those that come with a conversation and are none.
AROUND = tuple(dict.fromkeys((*_EARLIER, *_GEMINI)))
WITHOUT_RESPONSE = frozenset(name for name in LAYOUTS if name.endswith("-only"))
ROLES = tuple(dict.fromkeys(c for s in LAYOUTS.values() for c in (*s.required, *s.added)))
