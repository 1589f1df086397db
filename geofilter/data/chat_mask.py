"""How a chat is masked: which tokens of a rendered conversation are response.

The mask comes from the characters' places in the rendered text, and equals the loss mask that
TRL's SFTTrainer makes of the same row:

- turns without a prompt: `assistant_only_loss`, by the template's generation
  markers, or, where it has none, each assistant turn from the end of its header
  to the end of its closing (where TRL's own training templates put the markers);
- turns with a prompt, and a string prompt and completion: `completion_only_loss`,
  everything from the first token in which prompt and conversation differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geofilter.data.conversation import Conversation
from geofilter.data.problems import malformed
from geofilter.data.template import Span
from geofilter.data.window import Mask, Window, WindowCutter


@dataclass(frozen=True, slots=True)
class ChatMask:
    """The mask of one rendered conversation, in its window.

    `prompt_turns`: this many of the row's leading turns are prompt. `last_turn`: only the last
    assistant turn is response. `special`: whether the tokenizer adds BOS and the like.
    """

    cutter: WindowCutter
    chat: Conversation
    window: Window
    prompt_turns: int
    last_turn: bool
    special: bool

    def response(self, answers: Sequence[int]) -> tuple[Mask, list[Span] | None]:
        """The response tokens, and the characters of the turns' own text among them.

        `answers`: the places of the assistant turns after the prompt that are trained. The
        characters are None where a turn's own text cannot be found. Raises `Unscorable`
        (malformed).
        """
        places: Sequence[int] = answers
        response = self._after_prompt(answers)
        if response is not None and not self.last_turn:
            # All that follows the prompt is under the loss, whatever its role.
            turns = self.chat.turns
            first = self.prompt_turns - self.chat.folded
            places = [place for place in range(first, len(turns)) if turns[place].trained]
        if response is None and self.chat.full.generated is not None:
            response = between_markers(self.window, self._markers(answers))
            if not response.any():
                response = None  # TRL refuses to train on such a row
        if response is None:
            return self._assistant_turns(answers)
        return response & ~overlapping(self.window, self._untrained()), self._own_spans(places)

    def _untrained(self) -> list[Span]:
        """The characters of the turns of which the row itself says that no loss falls on them."""
        if all(turn.trained for turn in self.chat.turns):
            return []
        spans: dict[bool, list[Span]] = {True: [], False: []}
        for place, turn in enumerate(self.chat.turns):
            trained = self.chat.trained(place) if turn.role == "assistant" else None
            spans[turn.trained] += trained or self.chat.own(place) or ()
        # What the template marks may begin before the header's end: with the turn goes all of it.
        marked = self.chat.full.generated or ()
        return [
            *spans[False],
            *(
                span
                for span in marked
                if _meets(span, spans[False]) and not _meets(span, spans[True])
            ),
        ]

    def _after_prompt(self, answers: Sequence[int]) -> Mask | None:
        """The mask of a row with a prompt; None where the turns have to be found one by one."""
        if not self.prompt_turns:
            return None
        count = self.prompt_turns - self.chat.folded
        if count >= len(self.chat.turns):
            return np.zeros(len(self.window.ids), np.bool_)  # the response was cut off
        if self.last_turn and answers:
            if answers[-1] != len(self.chat.turns) - 1:
                return None
            count = answers[-1]
        if not count:
            return None
        prompt = self.chat.prompt(count, needed=not self.last_turn)
        if prompt is None:
            return None
        return after_prompt(self.cutter, self.window, prompt, special=self.special)

    def _markers(self, answers: Sequence[int]) -> Sequence[Span]:
        spans = self.chat.full.generated or ()
        if not self.last_turn or not answers:
            return spans
        head = self.chat.prompt(answers[-1])
        if head is None or not self.chat.full.text.startswith(head):
            return spans[-1:]
        return [span for span in spans if span.end > len(head)]

    def _own_spans(self, places: Sequence[int]) -> list[Span] | None:
        """The turns' own characters in the window; None where a turn cannot be found."""
        spans: list[Span] = []
        for place in places:
            own = self.chat.own(place)
            if own is None:
                own = self.chat.trained(place)
            if own is None:
                return None
            spans += own
            if own and own[0].start >= self.window.end:
                break
        return spans

    def _assistant_turns(self, answers: Sequence[int]) -> tuple[Mask, list[Span]]:
        trained: list[Span] = []
        owned: list[Span] = []
        for place in answers:
            own, spans = self.chat.own(place), self.chat.trained(place)
            if spans is None and own is None:
                raise malformed(
                    f"the chat template rewrites turn {place + self.chat.folded + 1}, so that its "
                    "tokens cannot be separated from the template's; give a template with "
                    "generation markers"
                )
            if spans is None:
                spans = own  # the template writes the turn in part, or not at all
            if spans and spans[0].start >= self.window.end:
                break
            trained += spans or ()
            owned += (spans or ()) if own is None else own
        return overlapping(self.window, trained), owned


def _meets(span: Span, others: Sequence[Span]) -> bool:
    return any(span.start < other.end and other.start < span.end for other in others)


def after_prompt(cutter: WindowCutter, window: Window, prompt: str, *, special: bool) -> Mask:
    """All tokens from the first one that the prompt, tokenised alone, does not share.

    TRL's rule. It is not the same as the tokens that begin after the prompt:
    a token across the boundary can change those before it.
    """
    alone = cutter.cut(prompt, special=special).ids
    size = min(len(alone), len(window.ids))
    differing = np.flatnonzero(alone[:size] != window.ids[:size])
    shared = int(differing[0]) if differing.size else size
    return np.arange(len(window.ids)) >= shared


def between_markers(window: Window, spans: Sequence[Span]) -> Mask:
    """The mask as transformers makes it for a template with generation markers.

    Its rule for a character that no token covers (the tokenizer dropped a space)
    is kept, since trainers get the same: a missing start ends the search, a
    missing end reaches to the end of the conversation.
    """
    mask = np.zeros(len(window.ids), np.bool_)
    for span in spans:
        first = window.encoding.char_to_token(span.start)
        last = window.encoding.char_to_token(span.end - 1) if span.end else None
        if first is None:
            break
        mask[first : last + 1 if last else None] = True
    return mask


def overlapping(window: Window, spans: Sequence[Span]) -> Mask:
    """The tokens that hold a character of one of the spans.

    A tokenizer that trims offsets gives a token of blanks no width, at its end.
    """
    start, end = window.offsets[:, 0], window.offsets[:, 1]
    mask = np.zeros(len(window.ids), np.bool_)
    for span in spans:
        mask |= (start < span.end) & (end > span.start) & (start < end)
        mask |= (start == end) & (start > span.start) & (start <= span.end)
    return mask
