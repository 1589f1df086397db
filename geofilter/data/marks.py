"""Where a template puts what the turns say: marks around each text, rendered along with it.

A mark is a character that the conversation holds nowhere. Each text of a turn (content, reasoning,
name and arguments of a call) gets one before and one after it. If the rendered text without the
marks is the text without them, they have changed nothing, and their places are the text's own.
So nothing is searched for in the rendered text, which may hold anything.

A template may strip blanks, or take a thought out of the content by its tags, and then a mark at
the outside is lost or changes the text. The second style, `inner`, marks what stands between such
tags, without the blanks around it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from geofilter.data.samples import Turn
from geofilter.data.template import Span, given_parts

# `</think>`, `<|channel>`, `[THINK]`: by these a template may take a thought out of a content.
_TAG = re.compile(
    r"<[^<>\s]{0,20}(?:think|thought|reason|channel)[^<>\s]{0,20}>|\[/?THINK\]|[◁＜]/?think[▷＞]",
    re.IGNORECASE,
)
# Private use, which no template treats in a special way; the last planes too, for a text that was
# made to hold all of the first.
_PRIVATE = ((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD))
_PRIVATE_CHARACTER = re.compile("[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]")


def private_characters(texts: Iterable[str]) -> set[str]:
    """The characters of private use that the texts hold."""
    odd = (text for text in texts if not text.isascii())
    return set().union(*(_PRIVATE_CHARACTER.findall(text) for text in odd))


def absent_characters(held: set[str]) -> Iterator[str]:
    """Characters of private use but for those that are held."""
    for first, last in _PRIVATE:
        for code in range(first, last + 1):
            if chr(code) not in held:
                yield chr(code)


def texts_of(turn: Turn) -> list[str]:
    """All texts of the turn that can be marked."""
    texts: list[str] = []

    def keep(text: str) -> str:
        texts.append(text)
        return text

    _with_texts(turn, keep)
    return texts


@dataclass(frozen=True, slots=True)
class _Segment:
    """Characters `start` to `end` of `text`, between the marks `before` and `after`."""

    text: str
    start: int
    end: int
    before: str
    after: str


@dataclass
class Marks:
    """Marks for turns, taken from `characters`. One instance for one rendering."""

    characters: Iterator[str]
    _segments: dict[int, list[_Segment]] = field(default_factory=dict)

    def marked(self, place: int, turn: Turn, *, inner: bool) -> Turn:
        """The turn at `place` with marks in its texts; raises StopIteration if none are left."""
        segments = self._segments.setdefault(place, [])

        def mark(text: str) -> str:
            result, done = [], 0
            for start, end in _inner(text) if inner else [(0, len(text))] * bool(text):
                segment = _Segment(text, start, end, next(self.characters), next(self.characters))
                segments.append(segment)
                result += [text[done:start], segment.before, text[start:end], segment.after]
                done = end
            return "".join([*result, text[done:]])

        return _with_texts(turn, mark)

    def found(self, marked: str, text: str) -> "Found | None":
        """Where the texts stand in `text`; None where the marks have changed it."""
        marks = "".join(s.before + s.after for each in self._segments.values() for s in each)
        places: dict[str, list[int]] = {mark: [] for mark in marks}
        kept, done, count = [], 0, 0
        for match in _PRIVATE_CHARACTER.finditer(marked):
            if match[0] not in places:
                continue  # the row's own
            places[match[0]].append(match.start() - count)
            kept.append(marked[done : match.start()])
            done, count = match.end(), count + 1
        if "".join([*kept, marked[done:]]) != text:
            return None
        spans: dict[int, list[Span] | None] = {}
        reached = 0  # the end of what the turns before say
        for place in sorted(self._segments):
            spans[place] = found = _spans(self._segments[place], places, text, reached)
            reached = max([reached, *(span.end for span in found or ())])
        return Found(spans)


@dataclass(frozen=True, slots=True)
class Found:
    """The spans of each turn's texts; None for a turn of which a text lost one of its marks."""

    spans: dict[int, list[Span] | None]


def _spans(
    segments: Sequence[_Segment], places: dict[str, list[int]], text: str, reached: int
) -> list[Span] | None:
    """Where the segments of a turn stand; None if one has lost a mark."""
    spans: list[Span] = []
    last: tuple[_Segment, Span] | None = None
    for segment in segments:
        starts, ends = places[segment.before], places[segment.after]
        if len(starts) != len(ends):
            return None
        if not starts:
            continue
        # A name may be written again, in the header of a tool's answer: the turn's own is the first
        # after what the turns before say.
        first = next((place for place, start in enumerate(starts) if start >= reached), 0)
        span = Span(starts[first], ends[first])
        if span.end < span.start:
            return None
        if last is not None and last[0].text is segment.text:
            between = segment.text[last[0].end : segment.start]
            if text[last[1].end : span.start] == between:
                span = Span(spans.pop().start, span.end)
        spans.append(span)
        last = segment, span
    return spans


def _inner(text: str) -> Iterator[tuple[int, int]]:
    """What stands between the tags of a text, without the blanks around it."""
    done = 0
    for start, end in [*((m.start(), m.end()) for m in _TAG.finditer(text)), (len(text),) * 2]:
        said = text[done:start]
        core = said.strip()
        if core:
            first = done + len(said) - len(said.lstrip())
            yield first, first + len(core)
        done = end


def _with_texts(turn: Turn, change: Callable[[str], str]) -> Turn:
    """The turn with each of its texts changed."""
    parts = given_parts(turn)
    if parts:
        parts = tuple(map(change, parts))
        content = "".join(parts)
    else:
        content = change(turn.content) if turn.content else turn.content
    calls = turn.tool_calls
    return replace(
        turn,
        content=content,
        parts=parts,
        reasoning=change(turn.reasoning) if turn.reasoning else turn.reasoning,
        tool_calls=None if calls is None else tuple(_call(call, change) for call in calls),
    )


def _call(call: dict[str, object], change: Callable[[str], str]) -> dict[str, object]:
    inner = call.get("function")
    if isinstance(inner, dict):
        return {**call, "function": _call(inner, change)}
    texts = {key: call.get(key) for key in ("name", "arguments")}
    return call | {key: change(text) for key, text in texts.items() if isinstance(text, str)}


def with_arguments(call: dict[str, object], value: str) -> dict[str, object] | None:
    """The call with `value` instead of its arguments; None where they are text, or left out."""
    inner = call.get("function")
    if isinstance(inner, dict):
        changed = with_arguments(inner, value)
        return None if changed is None else {**call, "function": changed}
    if isinstance(call.get("arguments"), dict):
        return {**call, "arguments": {value: value}}
    return None
