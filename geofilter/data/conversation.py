"""A rendered conversation, and the places in it that a trainer would learn from.

Two kinds of places: a turn's *own* text (what the row says there), found by `marks`; and what of a
turn is *trained*: from the end of its header to the end of its closing, where TRL's training
templates put their markers. The header is what the template writes to ask for a response, the
closing what it writes after the turn when no other turn follows. Neither is searched for in the
rendered text, since a row may hold text that looks like a template.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from geofilter.data.marks import (
    Found,
    Marks,
    absent_characters,
    private_characters,
    texts_of,
    with_arguments,
)
from geofilter.data.problems import Unscorable
from geofilter.data.samples import Turn
from geofilter.data.template import Span, Template, Tools, given_parts, without_frame

# A token that opens something, and so closes no turn: `<|tool_response>` before a tool's answer,
# which `<tool_response|>` ends.
_OPENER = re.compile(r"<\|([^<>|]+)>")
# What a call's arguments may have around them in JSON, next to what differs in other arguments.
_BEFORE_ARGUMENTS, _AFTER_ARGUMENTS = "{\"'[", "}\"']"


class Conversation:
    """Rendered turns, and where each of them stands.

    Raises `Unscorable` (malformed) when the template refuses the turns. A system
    turn that the template refuses (Gemma's does) is put before the first user
    turn's text, an empty line between; `folded` then is 1, the turns are one less.
    `settings` are the row's own for the template.
    """

    def __init__(
        self,
        template: Template,
        turns: Sequence[Turn],
        tools: Tools,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self._template = template
        self._tools = tools
        self._settings = settings
        self.turns = tuple(turns)
        self.folded = 0
        try:
            self.full = template.render(self.turns, tools, settings)
        except Unscorable:
            folded = _fold_system(self.turns)
            if folded is None:
                raise
            with suppress(Unscorable):
                self.full = template.render(folded, tools, settings)
                self.turns, self.folded = folded, 1
            if not self.folded:
                raise  # the first refusal, which is about the row as it is
        self._last_until: tuple[int, Conversation | None] | None = None
        self._held: set[str] | None = None
        self._own: dict[int, list[Span] | None] = {}
        self._said: dict[int, list[Span] | None] | None = None

    def prompt(self, count: int, *, needed: bool = False) -> str | None:
        """The first `count` turns and the header of a response.

        None where the template refuses them; raises `Unscorable` (malformed) if they are `needed`.
        """
        if needed:
            turns = self.turns[:count]
            return self._template.render(turns, self._tools, self._settings, ask=True).text
        return self._rendered(self.turns[:count], ask=True)

    def own(self, index: int) -> list[Span] | None:
        """The characters that the turn itself holds, its reasoning and tool calls included.

        In order; empty where the template writes none of them. None where they cannot be found.
        """
        if self._said is None:
            self._said = self._find_all()
        if index not in self._own:
            spans = self._said[index]
            self._own[index] = None if spans is None else _joined([*spans, *self._arguments(index)])
        return self._own[index]

    def _find_all(self) -> dict[int, list[Span] | None]:
        """Each turn's own texts: with marks in all turns at once, then turn by turn."""
        found: dict[int, list[Span] | None] = {}
        missing = list(range(len(self.turns)))
        for inner in (False, True):
            at_once = self._find(missing, inner=inner)
            if at_once is not None:
                found |= {place: at_once.spans.get(place) for place in missing}
                missing = [place for place in missing if found[place] is None]
            if not missing:
                return found
        for place in missing:
            each = (self._find([place], inner=inner) for inner in (False, True))
            spans = (one.spans.get(place) for one in each if one is not None)
            found[place] = next((span for span in spans if span is not None), None)
        return found

    def _find(self, places: Sequence[int], *, inner: bool) -> Found | None:
        turns = list(self.turns)
        if self._held is None:
            texts = [text for turn in turns for text in texts_of(turn)]
            self._held = private_characters([self.full.text, *texts])
        marks = Marks(absent_characters(self._held))
        try:
            for place in places:
                turns[place] = marks.marked(place, turns[place], inner=inner)
        except StopIteration:
            return None  # the row holds the characters that marks are made of
        marked = self._rendered(turns)
        return None if marked is None else marks.found(marked, self.full.text)

    def _arguments(self, index: int) -> list[Span]:
        """The arguments of the turn's calls, where they are objects: what differs with others."""
        turn, text = self.turns[index], self.full.text
        calls = turn.tool_calls
        if not calls:
            return []
        mark = next(absent_characters(private_characters([text])), None)
        spans: list[Span] = []
        for place, call in enumerate(calls):
            other = with_arguments(call, mark) if mark else None
            if other is None:
                continue
            changed = replace(turn, tool_calls=(*calls[:place], other, *calls[place + 1 :]))
            rendered = self._rendered([*self.turns[:index], changed, *self.turns[index + 1 :]])
            if rendered is not None and rendered != text:
                spans.append(_differing(text, rendered))
        return spans

    def trained(self, index: int) -> list[Span] | None:
        """The turn from the end of its header to the end of its closing.

        This is where TRL's training templates put their markers. Several spans where the template
        writes a tool's answer within the turn. None where they cannot be found.
        """
        start, end = self._start(index), self._end(index)
        if start is None or end is None or end < start:
            return self._trained_if_it_spoke(index)
        return self._without_others(index, Span(start, end))

    def _start(self, index: int) -> int | None:
        own = self.own(index)
        text = self.full.text
        first = own[0].start if own else len(text)
        # A template may refuse to ask for a response to nothing, or write only the header then.
        head = self.prompt(index) if index else None
        head = None if head is None else self._without_frame(head)
        if head is None or not text.startswith(head):
            if not own:
                return None
            return self._start_after_others(index, own[0].start, head)
        # A content may begin with the end of the header.
        return self._past_header(min(len(head), first), first)

    def _past_header(self, place: int, first: int) -> int:
        """`place`, or after a header there, which ends before `first`.

        Gemma 4 asks without a header after a tool's answer, but may write one then.
        """
        header = self._template.header
        end = place + len(header)
        return end if end <= first and self.full.text.startswith(header, place) else place

    def _without_frame(self, asked: str) -> str:
        """What asks for the response, up to the end of the header."""
        head, header = without_frame(asked), self._template.header
        bare = head.rstrip()
        if head != asked and bare.endswith(header.rstrip()):
            return bare.removesuffix(header.rstrip()) + header
        return head

    def _start_after_others(self, index: int, first: int, asked: str | None) -> int:
        """The start where what comes before is written in another way when it is the last.

        `asked`: the turns before, with the header. Between what two turns say there is nothing but
        the template's own text.
        """
        text, header = self.full.text, self._template.header
        before = [self.own(turn) or () for turn in range(index)]
        if asked is not None and before[-1]:
            until = self._until(index - 1)
            said = until.own(index - 1) if until else None
            asks = asked[said[-1].end :] if said else ""
            place = before[-1][-1].end
            if asks and text.startswith(asks, place) and place + len(asks) <= first:
                return self._past_header(place + len(asks), first)
        ends = [span.end for spans in before for span in spans if span.end <= first]
        # A turn before that says nothing has a header too.
        find = text.find if before and before[-1] else text.rfind
        place = find(header, max(ends, default=0), first) if header else -1
        if place >= 0:
            return place + len(header)
        if index and before[-1] and self.turns[index - 1].role == "assistant":
            end = self._end(index - 1)
            if end is not None and end <= first:
                return end  # one turn of the model, with one header
        return first

    def _end(self, index: int) -> int | None:
        text = self.full.text
        if index == len(self.turns) - 1:
            return len(text)
        own, closing = self.own(index), self._template.closing
        if own and closing and text.startswith(closing, own[-1].end):
            return own[-1].end + len(closing)
        until = self._until(index)
        alone = until.full.text if until else None
        if alone is not None and text.startswith(alone):
            return len(alone) - len(self._opening(alone))
        if not own:
            return None
        # The template writes the turn in another way when it is the last.
        end = own[-1].end
        if alone is not None and _shared(alone, text) >= end:
            closing = alone[end:]
        elif until is not None and alone is not None:
            said = until.own(index)
            closing = alone[said[-1].end :] if said else closing
        if not text.startswith(closing, end):
            closing = self._other_closing(end, closing)
        return end + len(closing.removesuffix(self._opening(closing)))

    def _until(self, index: int) -> "Conversation | None":
        """The turns up to this one; None where the template refuses them."""
        if self._last_until is None or self._last_until[0] != index:
            turns = self.turns[: index + 1]
            try:
                shorter = Conversation(self._template, turns, self._tools, self._settings)
            except Unscorable:
                shorter = None
            self._last_until = index, shorter
        return self._last_until[1]

    def _trained_if_it_spoke(self, index: int) -> list[Span] | None:
        """A turn that says nothing stands where it would stand if it said something."""
        turn = self.turns[index]
        mark = next(absent_characters(private_characters([self.full.text])), None)
        if mark is None or self.own(index):
            return None
        text = self.full.text
        for parts in (None, (mark,)):  # a template may take the one or the other
            turns = [*self.turns[:index], replace(turn, content=mark, parts=parts)]
            try:
                spoken = Conversation(
                    self._template, [*turns, *self.turns[index + 1 :]], self._tools, self._settings
                )
            except Unscorable:
                continue
            spans = spoken.trained(index) if spoken.own(index) else None
            if not spans:
                continue
            start, rest = spans[0].start, spoken.full.text[spans[-1].end :]
            if text.startswith(spoken.full.text[:start]) and text.endswith(rest):
                return [Span(start, len(text) - len(rest))]
        return None

    def _without_others(self, index: int, whole: Span) -> list[Span]:
        """The turn without what other turns say in it: a tool's answer, and its frame."""
        others = [
            span
            for place, turn in enumerate(self.turns)
            if turn.role == "tool" and place > index
            for span in self.own(place) or ()
            if whole.start <= span.start < whole.end
        ]
        spans = [whole]
        for other in others:
            own = self.own(index) or ()
            before = [span.end for span in own if span.end <= other.start]
            after = [span.start for span in own if span.start >= other.end]
            start = max([whole.start, *before])
            start += len(_closers(self.full.text[start : other.start]))
            end = min([whole.end, *after])
            spans = [piece for span in spans for piece in _cut(span, start, end)]
        return spans

    def _opening(self, text: str) -> str:
        """The token at the end of a text that opens what follows; empty where none does."""
        for opener in _OPENER.finditer(text[-60:]):
            closer = f"<{opener[1]}|>"
            if text.endswith(opener[0]) and (
                closer in self._template.closers or closer in self.full.text
            ):
                return opener[0]
        return ""

    def _other_closing(self, place: int, last: str) -> str:
        """The closing at `place`, of a template that closes the last turn in another way (`last`).

        What both have, up to the special token in which they part; with that token, if no closing
        token comes before it (`<|end|>` in the place of `<|return|>`, but not what follows both).
        """
        text, template = self.full.text, self._template
        parted = place + _shared(text[place : place + len(last)], last)
        start, token = next(
            (
                (start, token)
                for start in range(parted, place - 1, -1)
                for token in template.closers
                if text.startswith(token, start) and start + len(token) > parted
            ),
            (parted, ""),
        )
        both = text[place:start]
        if any(token in both for token in template.closers if token in template.closing):
            return both
        if not token:
            return ""
        rest = last[len(both) :]
        instead = next((token for token in template.closers if rest.startswith(token)), "")
        rest = rest[len(instead) :]
        blank = rest[: len(rest) - len(rest.lstrip())]
        return both + token + (blank if text.startswith(blank, start + len(token)) else "")

    def _rendered(self, turns: Sequence[Turn], *, ask: bool = False) -> str | None:
        try:
            return self._template.render(turns, self._tools, self._settings, ask=ask).text
        except Unscorable:
            return None


def _cut(span: Span, start: int, end: int) -> list[Span]:
    """The span without the characters `start` to `end`."""
    pieces = (Span(span.start, min(span.end, start)), Span(max(span.start, end), span.end))
    return [piece for piece in pieces if piece.start < piece.end]


def _closers(gap: str) -> str:
    """What of a gap comes before the first token that opens something."""
    opener = _OPENER.search(gap)
    return gap[: opener.start()] if opener else ""


def _shared(one: str, other: str) -> int:
    """The number of characters that both begin with."""
    size = min(len(one), len(other))
    if one[:size] == other[:size]:
        return size
    return next(place for place in range(size) if one[place] != other[place])


def _differing(text: str, other: str) -> Span:
    """What of `text` differs from `other`, and the JSON signs next to it."""
    start = _shared(text, other)
    most = min(len(text), len(other)) - start
    same = next((place for place in range(most) if text[-1 - place] != other[-1 - place]), most)
    end = len(text) - same
    while start > 0 and text[start - 1] in _BEFORE_ARGUMENTS:
        start -= 1
    while end < len(text) and text[end] in _AFTER_ARGUMENTS:
        end += 1
    return Span(start, end)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """The spans in order, those that overlap or touch as one."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return joined


def _fold_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...] | None:
    if len(turns) < 2 or turns[0].role not in ("system", "developer") or turns[1].role != "user":
        return None
    if given_parts(turns[0]) or given_parts(turns[1]):
        return None
    user = replace(turns[1], content=f"{turns[0].content}\n\n{turns[1].content}", parts=None)
    return (user, *turns[2:])
