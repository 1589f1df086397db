"""The parts of a message's content, as OpenAI, Anthropic, Gemini, Bedrock and others write them.

Parts with a `type` (`{"type": "text", "text": ...}`) and parts that are named by their key
(`{"text": ...}`, `{"functionCall": ...}`) are read: text, reasoning, calls of tools and their
answers. A part that is none of these cannot be scored, so it is refused by its name.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from geofilter.data.containers import as_object, as_rows, without_nulls
from geofilter.data.problems import malformed
from geofilter.data.tool_calls import Objects, as_text, calls_in, function_call
from geofilter.support.display import kind_of, quote

Part = Mapping[str, Any]


class Piece(NamedTuple):
    """One part. `text`: what is said, thought or answered; `name`, `call_id`: of an answer."""

    kind: Literal["text", "reasoning", "calls", "answer"]
    text: str = ""
    calls: Objects = ()
    name: str | None = None
    call_id: str | None = None


def text_of(value: object, path: str) -> str:
    if isinstance(value, str):
        return value
    raise malformed(f"{path} is {kind_of(value)}, text is needed: {quote(value)}")


def _object_of(value: object, path: str) -> Part:
    found = as_object(value, path)
    if found is None:
        raise malformed(f"{path} is {kind_of(value)}, an object is needed: {quote(value)}")
    return found


def _first(part: Part, *names: str) -> Any:
    return next((part[name] for name in names if name in part), None)


def _text(part: Part, path: str) -> Piece:
    # LLaMA-Factory's own format has `value` here.
    name = "value" if "text" not in part and "value" in part else "text"
    kind: Literal["text", "reasoning"] = "reasoning" if part.get("thought") is True else "text"
    return Piece(kind, text_of(part.get(name), f"{path}.{name}"))


def _reasoning(part: Part, path: str) -> Piece:
    name = next((n for n in ("thinking", "reasoning", "text", "value") if n in part), "thinking")
    value = part.get(name)
    if isinstance(value, list):  # Mistral's
        return Piece("reasoning", only_text(value, f"{path}.{name}"))
    return Piece("reasoning", text_of(value, f"{path}.{name}"))


def _bedrock_reasoning(part: Part, path: str) -> Piece:
    inner = _object_of(part["reasoningContent"], f"{path}.reasoningContent")
    found = inner.get("reasoningText")
    text = found.get("text") if isinstance(found, Mapping) else found
    return Piece("reasoning", text_of(text, f"{path}.reasoningContent.reasoningText.text"))


def _call(part: Part, path: str, *, inside: str | None = None) -> Piece:
    inner = part if inside is None else _object_of(part[inside], f"{path}.{inside}")
    shown = path if inside is None else f"{path}.{inside}"
    if inside is None and "value" in part and "name" not in part:  # LLaMA-Factory's own format
        calls = calls_in(part["value"], f"{path}.value")
        if calls is None:
            raise malformed(f"{path}.value is no call (name, arguments): {quote(part['value'])}")
        return Piece("calls", calls=calls)
    arguments = _first(inner, "input", "args", "arguments")
    place = _first(inner, "id", "toolUseId")
    return Piece("calls", calls=(function_call(inner.get("name"), arguments, shown, place),))


def _answer(part: Part, path: str, *, inside: str | None = None) -> Piece:
    inner = part if inside is None else _object_of(part[inside], f"{path}.{inside}")
    shown = path if inside is None else f"{path}.{inside}"
    name, call_id = inner.get("name"), _first(inner, "tool_use_id", "toolUseId", "id")
    if "response" in inner:
        text = as_text(inner["response"])
    else:
        text = _answer_text(inner.get("content"), f"{shown}.content")
    return Piece(
        "answer",
        text,
        name=name if isinstance(name, str) else None,
        call_id=call_id if isinstance(call_id, str) else None,
    )


def _answer_text(content: object, path: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise malformed(f"{path} is {kind_of(content)}, text is needed: {quote(content)}")
    texts = []
    for place, part in enumerate(content):
        if isinstance(part, Mapping) and "json" in part and "type" not in part:
            texts.append(as_text(part["json"]))
        else:
            texts.append(only_text([part], path, place))
    return "".join(texts)


_Reader = Callable[[Part, str], Piece]

_TYPED: dict[str, _Reader] = {
    "text": _text,
    "input_text": _text,
    "output_text": _text,
    "thinking": _reasoning,
    "reasoning": _reasoning,
    "tool_use": _call,
    "tool_call": _call,
    "tool_result": _answer,
}
_NAMED: dict[str, _Reader] = {
    "text": _text,
    "reasoningContent": _bedrock_reasoning,
    "functionCall": lambda part, path: _call(part, path, inside="functionCall"),
    "function_call": lambda part, path: _call(part, path, inside="function_call"),
    "functionResponse": lambda part, path: _answer(part, path, inside="functionResponse"),
    "function_response": lambda part, path: _answer(part, path, inside="function_response"),
    "toolUse": lambda part, path: _call(part, path, inside="toolUse"),
    "toolResult": lambda part, path: _answer(part, path, inside="toolResult"),
}
_SILENT = frozenset({"cachePoint"})  # a vendor's settings, which no model reads


def _piece(given: object, path: str) -> Piece | None:
    found = as_object(given, path)
    if found is None:
        raise malformed(f"{path} is {kind_of(given)}, a content part is needed: {quote(given)}")
    part: Part = without_nulls(found, path)
    if "type" in part:
        kind = part["type"]
        read = _TYPED.get(kind) if isinstance(kind, str) else None
        if read is None:
            raise _refused(kind, path)
        return read(part, path)
    # Texts and numbers next to the part's own key are notes on it (`thoughtSignature`).
    keys = [key for key in part if key in _NAMED or isinstance(part[key], Mapping | list)]
    keys = [key for key in keys if key not in _SILENT]
    if not keys and _SILENT & part.keys():
        return None
    unknown = next((key for key in keys if key not in _NAMED), None)
    if unknown is not None or len(keys) != 1:
        raise _refused(unknown if unknown is not None else next(iter(keys or part), None), path)
    return _NAMED[keys[0]](part, path)


def _refused(kind: object, path: str) -> Exception:
    return malformed(f"{path} is a part of type {quote(kind)}; only text parts can be read")


def read_parts(content: object, path: str, *, texts: bool = False) -> list[Piece]:
    """The parts of a content, in their order. `texts`: whether plain texts may be among them.

    Raises `Unscorable` (malformed) with the path of the fault.
    """
    rows = as_rows(content, path, ("type", *_NAMED))
    if not isinstance(rows, list):
        raise malformed(f"{path} is {kind_of(content)}, text is needed: {quote(content)}")
    pieces = []
    for place, part in enumerate(rows):
        if texts and isinstance(part, str):
            pieces.append(Piece("text", part))
        elif (piece := _piece(part, f"{path}[{place}]")) is not None:
            pieces.append(piece)
    return pieces


def plain_texts(content: object) -> tuple[str, ...] | None:
    """The texts of a list of `{"type": "text", "text": ...}` alone, which templates take as such.

    None for any other content: a vendor's own parts reach no template as they are.
    """
    if not isinstance(content, list):
        return None
    plain = (isinstance(part, Mapping) and part.get("type") == "text" for part in content)
    texts = tuple(part.get("text") for part in content) if all(plain) else (None,)
    return None if None in texts else texts


def only_text(content: list[Any], path: str, first: int = 0) -> str:
    """The text of parts that may be nothing but text."""
    found = []
    for place, part in enumerate(content, first):
        piece = _piece(part, f"{path}[{place}]")
        if piece is not None and piece.kind != "text":
            raise malformed(f"{path}[{place}] is no text: {quote(part)}")
        found.append("" if piece is None else piece.text)
    return "".join(found)
