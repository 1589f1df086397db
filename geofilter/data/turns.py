"""A list of messages as turns, in every spelling that trainers and vendors use.

`{"role": ..., "content": ...}` (OpenAI, TRL), `{"from": ..., "value": ...}` (ShareGPT),
`{"role": ..., "parts": ...}` (Gemini), `{"role": ..., "message": ...}` (Cohere),
`{"role": ..., "text": ...}` (OASST), and exchanges such as `{"human": ..., "assistant": ...}`
(ms-swift, Firefly), each with reasoning and tool calls. The list may be JSON text, a struct of
lists, or hold Spark's maps. What a row lacks or holds too much of is named by its path
(`messages[1].content`), with the value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from geofilter.data.containers import as_object, as_rows, looks_like_json, unpacked
from geofilter.data.exchanges import exchange_names
from geofilter.data.formats.strict_json import parse_json
from geofilter.data.parts import Piece, plain_texts, read_parts, text_of
from geofilter.data.problems import malformed
from geofilter.data.samples import Turn
from geofilter.data.tool_calls import Objects, calls_in, legacy_call, read_objects, read_tools
from geofilter.support.display import escape, kind_of, quote

__all__ = ["read_answer", "read_history", "read_input", "read_system", "read_tools", "read_turns"]

# In lower case; a role is read in any case, without blanks around it.
_ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool_calls": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "tool_responses": "tool",
}
_CALLERS = frozenset({"function_call", "tool_call", "tool_calls"})
ROLE_KEYS = ("role", "from", "author")  # the last is PaLM's
CONTENT_KEYS = ("content", "value", "parts", "message", "text")
# The order in which transformers takes them; the first that is not null, even if empty.
_REASONING = ("reasoning_content", "thinking", "reasoning")
# `weight`: OpenAI, Mistral; `train`, `train_on_turn`: axolotl; `loss`: ms-swift;
# `loss_weight`: LLaMA-Factory.
_LOSS = ("weight", "train", "train_on_turn", "loss", "loss_weight")
_SYSTEM_KEYS = ("text", "parts", "content")
_LOSS_SPANS = ("train_detail", "training_detail")
_THOUGHT_END = "</think>"
_FLAGS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def _reasoning(message: Mapping[str, object], path: str) -> str | None:
    for name in _REASONING:
        value = message.get(name)
        if value is not None:
            return text_of(value, f"{path}.{name}")
    return None


def _trained(message: Mapping[str, object], path: str) -> bool:
    """Whether loss falls on a turn of the assistant, by what the message itself says."""
    said: dict[str, bool] = {}
    for name in _LOSS:
        value = message.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        if name == "loss" and isinstance(value, float):
            continue  # a measured loss
        flag = None
        if isinstance(value, str):
            flag = _FLAGS.get(value.strip().lower())
        elif isinstance(value, int | float) and value in (0, 1):
            flag = bool(value)
        if flag is None:
            raise malformed(
                f"{path}.{name} is {quote(value)}; known are 0 and 1, false and true: a turn is "
                "scored as a whole or not at all"
            )
        said[name] = flag
    if len(set(said.values())) > 1:
        raise malformed(f"{path} says both that it is trained and that it is not: {quote(said)}")
    trained = all(said.values())
    for name in _LOSS_SPANS:
        if trained and message.get(name):
            raise malformed(
                f"{path}.{name} names parts of the turn that are trained; a turn is scored as a "
                "whole or not at all"
            )
    return trained


def _optional_text(message: Mapping[str, object], name: str) -> str | None:
    value = message.get(name)
    return value if isinstance(value, str) else None


def _role_key(message: Mapping[str, object]) -> str | None:
    # Arrow gives each message of a column both spellings as soon as one row has the other.
    filled = (key for key in ("from", "role", "author") if message.get(key) is not None)
    return next(filled, None) or next((key for key in ROLE_KEYS if key in message), None)


def _content(
    message: Mapping[str, object], role_key: str, path: str, *, may_be_null: bool
) -> tuple[list[Piece], tuple[str, ...] | None]:
    """The parts of the message's content, a text being one, and `Turn.parts`."""
    usual = "value" if role_key == "from" else "content"
    names = (usual, *(name for name in CONTENT_KEYS if name != usual))
    key = next((name for name in names if message.get(name) is not None), None)
    if key is None:
        if may_be_null:
            return [], ()
        key = next((name for name in names if name in message), None)
        if key is None:
            raise malformed(f"{path} has no {usual}: {quote(message)}")
        raise malformed(f"{path}.{key} is null")
    value = message[key]
    if isinstance(value, str):
        return [Piece("text", value)], None
    pieces = read_parts(value, f"{path}.{key}", texts=key == "parts")
    return pieces, plain_texts(value) if key in ("content", "value") else None


def _message(message: Mapping[str, Any], path: str) -> Iterator[Turn]:
    """The turns of one message: one, or more where a user's message holds answers of tools."""
    role_key = _role_key(message)
    if role_key is None:
        yield from _exchange(message, path)
        return
    given = message[role_key]
    spelled = given.strip().lower() if isinstance(given, str) else ""
    role = _ROLES.get(spelled)
    if role is None:
        raise malformed(f"{path}.{role_key} is {quote(given)}; known are {', '.join(_ROLES)}")
    calls = read_objects(message.get("tool_calls"), f"{path}.tool_calls")
    calls = calls or legacy_call(message.get("function_call"), f"{path}.function_call") or calls
    reasoning = _reasoning(message, path)
    if spelled in _CALLERS and not calls:
        thought, found = _called(message, path)
        if found is not None:
            yield Turn(role, thought, reasoning, found, trained=_trained(message, path))
            return
    needless = bool(calls) or reasoning is not None
    pieces, parts = _content(message, role_key, path, may_be_null=needless)
    turn = Turn(
        role,
        "",
        reasoning,
        calls,
        _optional_text(message, "name"),
        _optional_text(message, "tool_call_id"),
        trained=role != "assistant" or _trained(message, path),
        parts=parts,
    )
    if role == "assistant":
        yield _answered(turn, pieces, path)
    else:
        yield from _asked(turn, pieces, path)


def _called(message: Mapping[str, Any], path: str) -> tuple[str, Objects | None]:
    """The calls that a message of `function_call` holds, and the thought before them."""
    key = next((name for name in CONTENT_KEYS if message.get(name) is not None), None)
    value, thought = message.get(key or ""), ""
    if isinstance(value, str) and _THOUGHT_END in value:
        thought, end, value = value.rpartition(_THOUGHT_END)
        thought += end
    return thought, calls_in(value, f"{path}.{key}")


def _answered(turn: Turn, pieces: list[Piece], path: str) -> Turn:
    """A turn of the assistant with its parts."""
    if any(piece.kind == "answer" for piece in pieces):
        raise malformed(f"{path} is a turn of the assistant that holds a tool's answer")
    thoughts = [piece.text for piece in pieces if piece.kind == "reasoning"]
    calls = tuple(call for piece in pieces for call in piece.calls)
    if thoughts and turn.reasoning and "".join(thoughts) != turn.reasoning:
        raise malformed(f"{path} holds its reasoning twice: in its parts and next to them")
    if calls and turn.tool_calls and len(calls) != len(turn.tool_calls):
        raise malformed(f"{path} holds other tool calls in its parts than in tool_calls")
    return replace(
        turn,
        content="".join(piece.text for piece in pieces if piece.kind == "text"),
        reasoning=turn.reasoning or "".join(thoughts) if thoughts else turn.reasoning,
        tool_calls=turn.tool_calls or calls or turn.tool_calls,
    )


def _asked(turn: Turn, pieces: list[Piece], path: str) -> Iterator[Turn]:
    """A turn of another role; answers of tools among its parts are turns of their own."""
    wrong = next((piece.kind for piece in pieces if piece.kind in ("reasoning", "calls")), None)
    if wrong is not None:
        what = "reasoning" if wrong == "reasoning" else "a tool call"
        raise malformed(f"{path} holds {what}, which only a turn of the assistant may: {turn.role}")
    if not pieces:
        yield turn
    for answers, group in groupby(pieces, key=lambda piece: piece.kind == "answer"):
        if answers:
            yield from (
                Turn("tool", piece.text, name=piece.name or turn.name, tool_call_id=piece.call_id)
                for piece in group
            )
        else:
            yield replace(turn, content="".join(piece.text for piece in group))


def _exchange(message: Mapping[str, Any], path: str) -> Iterator[Turn]:
    """A question and its answer in one object, without roles."""
    names = exchange_names(message)
    if names is None:
        raise malformed(f"{path} has no role: {quote(message)}")
    role = "tool" if names[0] == "tool" else "user"
    yield from _pair(message[names[0]], message[names[1]], path, names, role)


def _pair(
    question: object, answer: object, path: str, names: tuple[str, ...], role: str = "user"
) -> Iterator[Turn]:
    yield Turn(role, text_of(question, f"{path}.{names[0]}"))
    yield Turn("assistant", text_of(answer, f"{path}.{names[1]}"))


def _merged(turns: Iterator[tuple[Turn, bool]]) -> tuple[Turn, ...]:
    """The turns, with a message that only calls tools joined to the assistant's before it.

    ms-swift writes one such message per call, after the text of the turn.
    """
    merged: list[Turn] = []
    joined: dict[int, list[dict[str, Any]]] = {}  # by the turn's place; a row may hold very many
    for turn, calls in turns:
        last = merged[-1] if merged else None
        if calls and last is not None and last.role == "assistant" and last.trained == turn.trained:
            place = len(merged) - 1
            joined.setdefault(place, [*(last.tool_calls or ())]).extend(turn.tool_calls or ())
        else:
            merged.append(turn)
    for place, both in joined.items():
        merged[place] = replace(merged[place], tool_calls=tuple(both))
    return tuple(merged)


def _calls_only(message: Mapping[str, Any], turn: Turn) -> bool:
    given = message.get(_role_key(message) or "")
    named = isinstance(given, str) and given.strip().lower() in _CALLERS
    return named and bool(turn.tool_calls) and not turn.content and turn.reasoning is None


def _listed(value: object, path: str) -> list[Any]:
    """The list of messages that a value is."""
    given = as_rows(unpacked(value, path), path, ROLE_KEYS)
    if not isinstance(given, list):
        raise malformed(f"{path} is {kind_of(given)}, a list of messages is needed: {quote(value)}")
    return given


def _read(given: object, path: str) -> Iterator[tuple[Turn, bool]]:
    """The turns of one message, each with whether it only calls tools."""
    given = unpacked(given, path)
    message = as_object(given, path)
    if message is None:
        raise malformed(f"{path} is {kind_of(given)}, an object is needed: {quote(given)}")
    for turn in _message(message, path):
        yield turn, _calls_only(message, turn)


def read_turns(value: object, path: str) -> tuple[Turn, ...]:
    """Read a list of messages; raises `Unscorable` (malformed) with the path of the fault."""
    shown = escape(path, limit=60)
    messages = enumerate(_listed(value, shown))
    return _merged(
        found for place, message in messages for found in _read(message, f"{shown}[{place}]")
    )


def read_answer(value: object, path: str, role: str) -> tuple[Turn, ...]:
    """Read a text as one turn of `role`, one message, or a list of messages."""
    if isinstance(value, str):
        return (Turn(role, value),)
    shown = escape(path, limit=60)
    given = as_rows(value, shown, ROLE_KEYS)
    message = None if _is_messages(given) else as_object(given, shown)
    if message is not None:
        return tuple(_message(message, shown))
    if not isinstance(given, list):
        raise malformed(
            f"{shown} is {kind_of(value)}, text or a list of messages is needed: {quote(value)}"
        )
    return read_turns(given, path)


def _is_messages(value: object) -> bool:
    """Whether a list is one of messages, and not one message as a map of Spark's."""
    return isinstance(value, list) and any(
        isinstance(item, list) or (isinstance(item, Mapping) and item.keys() != {"key", "value"})
        for item in value
    )


def read_input(value: object, path: str) -> tuple[tuple[Turn, ...], Objects | None]:
    """Read an object of `messages` and `tools` (OpenAI's preference rows): turns and tools."""
    shown = escape(path, limit=60)
    found = as_object(unpacked(value, shown), shown)
    if found is None or "messages" not in found:
        raise malformed(f"{shown} is no object that holds messages: {quote(value)}")
    tools = read_objects(found.get("tools"), f"{shown}.tools")
    return read_turns(found["messages"], f"{path}.messages"), tools


def read_history(value: object, path: str) -> tuple[Turn, ...]:
    """Read earlier turns: a list of [question, answer] pairs or of messages, or JSON text of it."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    shown = escape(path, limit=60)
    turns: list[tuple[Turn, bool]] = []
    for place, item in enumerate(_listed(value, shown)):
        here = f"{shown}[{place}]"
        if isinstance(item, list | tuple) and not any(isinstance(i, Mapping | tuple) for i in item):
            if len(item) != 2:
                raise malformed(
                    f"{here} is a list of {len(item)}, a question and its answer are needed: "
                    f"{quote(item)}"
                )
            question, answer = item
            pair = _pair(question, answer, here, ("question", "answer"))
            turns += [(turn, False) for turn in pair]
        else:
            turns += _read(item, here)
    return _merged(iter(turns))


def _parts_in(value: object) -> object:
    """The parts or the message that a text holds as JSON; any other value as it is."""
    if not isinstance(value, str) or not looks_like_json(value):
        return value
    found, fault = parse_json(value.encode("utf-8", "surrogatepass"))
    if fault is not None:
        return value
    parts = found if isinstance(found, list) else [found]
    known = (isinstance(p, Mapping) and not p.keys().isdisjoint(_SYSTEM_KEYS) for p in parts)
    return found if parts and all(known) else value


def read_system(value: object, path: str) -> tuple[Turn, ...]:
    """Read what the system says: a text, parts of text, or a message. Nothing for blank text."""
    if value is None:
        return ()
    shown = escape(path, limit=60)
    value = _parts_in(value)
    if isinstance(value, str):
        text = value
    elif isinstance(value, Mapping) and not any(key in value for key in CONTENT_KEYS):
        raise malformed(f"{shown} is {kind_of(value)}, text is needed: {quote(value)}")
    else:
        message = value if isinstance(value, Mapping) else {"content": value}
        if message.keys() == {"text"}:  # one part
            message = {"content": [message]}
        pieces, _ = _content(message, "role", shown, may_be_null=True)
        other = next((piece.kind for piece in pieces if piece.kind != "text"), None)
        if other is not None:
            raise malformed(f"{shown} holds {other}, text is needed: {quote(value)}")
        text = "".join(piece.text for piece in pieces)
    return (Turn("system", text),) if text.strip() else ()
