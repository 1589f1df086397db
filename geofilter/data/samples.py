"""A row read as a conversation: what every layout gives and every later step takes."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as a chat template takes it.

    `role` is system, developer, user, assistant or tool. `reasoning` is the
    message's `reasoning_content` or `thinking`. `tool_calls` are as the row
    spells them, an empty list as `()`; a tool's answer may hold `name` and `tool_call_id`.
    `trained`: False where the row itself says that no loss falls on this turn (`weight: 0`).
    `parts`: how the row gives `content`: None as one string; else the texts of its content
    parts, which `content` joins; `()` where it gives none at all (null, or no such key).
    Templates treat the three differently, so the trainer's tokens depend on it.
    """

    role: str
    content: str
    reasoning: str | None = None
    tool_calls: tuple[dict[str, object], ...] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    trained: bool = True
    parts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A row read as a conversation.

    `turns`: the conversation, empty in the layout `text`.
    `text`: in the layout `text` the whole text, all of it response; else None.
    `plain`: the two turns hold a prompt and a completion that the trainer joins
    without any template, as TRL does for a string prompt and completion.
    `prompt_turns`: this many leading turns are prompt, assistant turns among
    them too: TRL puts no loss on the prompt of a prompt/completion row, nor on
    what a chosen and a rejected conversation have in common.
    `tools`: the row's tool definitions, for the template; `()` for an empty list, None where the
    row has none: some templates write a line for the first. `template_kwargs`: what else the row
    hands to the template (TRL's column `chat_template_kwargs`).
    """

    turns: tuple[Turn, ...] = ()
    text: str | None = None
    plain: bool = False
    prompt_turns: int = 0
    tools: tuple[dict[str, object], ...] | None = None
    template_kwargs: Mapping[str, object] | None = None
