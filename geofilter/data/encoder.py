"""A sample as token ids, with a mask of the tokens that a trainer would learn from.

The conversation is rendered once and tokenised once; the mask comes from the
characters' places in the rendered text. `response` equals the loss mask that
TRL's SFTTrainer makes of the same row:

- turns without a prompt: `assistant_only_loss`, by the template's generation
  markers, or, where it has none, each assistant turn from the end of its header
  to the end of its closing (where TRL's own training templates put the markers);
- turns with a prompt, and a string prompt and completion: `completion_only_loss`,
  everything from the first token in which prompt and conversation differ;
- plain text: every token.

A string completion or text is closed with the end-of-sequence token, as TRL
does. `pooled` leaves out what the row did not say: special tokens, BOS, and
what the template writes around the text. An unknown word is the row's own.

This module knows nothing about models, files, layouts or scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from geofilter.data.chat import Problem, Unscorable, malformed
from geofilter.data.layouts import Sample
from geofilter.data.template import ChatTemplate, Conversation, PlainTemplate, Span, Template
from geofilter.errors import ModelError
from geofilter.support.display import escape, quote

__all__ = ["Encoded", "Encoder"]

Mask = npt.NDArray[np.bool_]

# A text is cut before it is tokenised when it is longer than both: 10 MB would take
# 20 seconds and 3 GB for a window of which a thousandth is used.
_CUT_CHARACTERS = 1 << 18
_CUT_CHARACTERS_PER_TOKEN = 32
# The window must end this far before the cut, so that the cut cannot change its tokens.
_CUT_MARGIN = 1 << 12


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """A sample's window: the first `max_length` tokens of the conversation.

    `ids` (tokens,): token ids. `response` (tokens,): the tokens under the
    trainer's loss. `pooled` (tokens,): those of them that are the row's own text;
    at least one. `truncated`: whether the window ends before the conversation.
    `total_tokens`: the conversation's length, an estimate where it was cut before
    tokenising: more than 2^18 characters and 32 per token of the window, or more
    turns than the window has tokens.
    `unknown_share`: share of response tokens that are the unknown token, 0 to 1;
    None where the tokenizer has no such token of its own.
    """

    ids: npt.NDArray[np.int32]
    response: Mask
    pooled: Mask
    truncated: bool
    total_tokens: int
    unknown_share: float | None


class _Window(NamedTuple):
    encoding: Any  # tokenizers.Encoding, cut to the window
    ids: npt.NDArray[np.int32]  # (tokens,)
    offsets: npt.NDArray[np.int64]  # (tokens, 2)
    text_tokens: Mask  # (tokens,): False where the tokenizer added the token itself
    total: int

    @property
    def end(self) -> int:
        """The number of characters that the window covers."""
        return int(self.offsets[:, 1].max(initial=0))


class Encoder:
    """Turns samples into `Encoded`; one call does not influence another.

    `max_length` is the window in tokens (TRL's `max_length` with `keep_start`).
    `last_turn` counts only the last assistant turn as response. Raises
    `ModelError` for a tokenizer without character offsets, or with a chat
    template that cannot render a user and an assistant turn.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, max_length: int, last_turn: bool = False
    ) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is {max_length}, at least 1 is needed")
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"the tokenizer {quote(tokenizer.name_or_path)} gives no character offsets, "
                "so the response cannot be told from the prompt; give one with a tokenizer.json"
            )
        self.max_length = max_length
        self.last_turn = last_turn
        self._tokenizer = tokenizer
        self._eos: str = tokenizer.eos_token or ""
        self._template: Template = (
            PlainTemplate(self._eos) if tokenizer.chat_template is None else ChatTemplate(tokenizer)
        )
        self._unknown = _unknown_id(tokenizer)
        self._special = _special_ids(tokenizer, self._unknown)

    def encode(self, sample: Sample) -> Encoded:
        """Return the sample's window.

        Raises `Unscorable`: `no_response`, `empty` (nothing but special tokens or
        nothing at all), `out_of_window` (the window ends before the response), or
        `malformed` (the template refuses the conversation, or a lone surrogate).
        """
        if sample.text is not None:
            window = self._tokenize(_closed(sample.text, self._eos), special=True)
            return self._finish(window, np.ones(len(window.ids), np.bool_), None)
        answers = [
            place
            for place, turn in enumerate(sample.turns)
            if turn.role == "assistant" and place >= sample.prompt_turns
        ]
        if not answers:
            raise Unscorable(Problem("no_response", "no turn is the assistant's"))
        if sample.plain:
            return self._encode_plain(sample)
        return self._encode_chat(sample, answers[-1:] if self.last_turn else answers)

    def _encode_plain(self, sample: Sample) -> Encoded:
        prompt = "".join(turn.content for turn in sample.turns[: sample.prompt_turns])
        completion = "".join(turn.content for turn in sample.turns[sample.prompt_turns :])
        if not completion:
            raise Unscorable(Problem("empty", "the response holds no character"))
        window = self._tokenize(prompt + _closed(completion, self._eos), special=True)
        return self._finish(window, self._after_prompt(window, prompt, special=True), None)

    def _encode_chat(self, sample: Sample, answers: Sequence[int]) -> Encoded:
        chat, window = self._rendered(sample)
        answers = [place - chat.folded for place in answers]
        answers = [place for place in answers if place < len(chat.turns)]
        places: Sequence[int] = answers
        response = self._prompted(sample, chat, window, answers)
        if response is not None and not self.last_turn:
            # All that follows the prompt is under the loss, whoever speaks.
            places = range(sample.prompt_turns - chat.folded, len(chat.turns))
        if response is None and chat.full.generated is not None:
            response = _between_markers(window, self._wanted_markers(chat, answers))
            if not response.any():
                response = None  # TRL refuses to train on such a row
        if response is None:
            return self._finish(window, *_assistant_turns(chat, answers, window))
        return self._finish(window, response, _own_spans(chat, places, window.end))

    def _rendered(self, sample: Sample) -> tuple[Conversation, _Window]:
        """The rendered turns and their window; turns beyond the window may be left out.

        A template is rendered several times per turn, so a row of very many turns
        would take a time that grows with the square of its length.
        """
        special = self._template.adds_special_tokens
        sizes = np.cumsum([len(turn.content) for turn in sample.turns])
        count, characters = self.max_length, self._cut_length
        while True:
            # The turn that reaches past the last character is kept, and one in any case.
            kept = min(count, int(np.searchsorted(sizes, characters)) + 1, len(sizes))
            chat = Conversation(self._template, sample.turns[:kept], sample.tools)
            window = self._tokenize(chat.full.text, special=special)
            if kept == len(sizes):
                return chat, window
            if len(window.ids) == self.max_length:
                share = max(int(sizes[kept - 1]), 1) / max(int(sizes[-1]), 1)
                return chat, window._replace(total=round(window.total / share))
            count, characters = 2 * count, 2 * characters

    def _prompted(
        self, sample: Sample, chat: Conversation, window: _Window, answers: Sequence[int]
    ) -> Mask | None:
        """The mask of a row with a prompt; None where the turns have to be found one by one."""
        if not sample.prompt_turns:
            return None
        count = sample.prompt_turns - chat.folded
        if count >= len(chat.turns):
            return np.zeros(len(window.ids), np.bool_)  # the response was cut off
        if self.last_turn and answers:
            if answers[-1] != len(chat.turns) - 1:
                return None
            count = answers[-1]
        prompt = chat.prompt(count) if count else None
        if prompt is None:
            return None
        return self._after_prompt(window, prompt, special=self._template.adds_special_tokens)

    def _wanted_markers(self, chat: Conversation, answers: Sequence[int]) -> Sequence[Span]:
        spans = chat.full.generated or ()
        if not self.last_turn or not answers:
            return spans
        head = chat.prompt(answers[-1])
        if head is None or not chat.full.text.startswith(head):
            return spans[-1:]
        return [span for span in spans if span.end > len(head)]

    def _after_prompt(self, window: _Window, prompt: str, *, special: bool) -> Mask:
        """All tokens from the first one that the prompt, tokenised alone, does not share.

        TRL's rule. It is not the same as the tokens that begin after the prompt:
        a token across the boundary can change those before it.
        """
        alone = self._tokenize(prompt, special=special).ids
        size = min(len(alone), len(window.ids))
        differing = np.flatnonzero(alone[:size] != window.ids[:size])
        shared = int(differing[0]) if differing.size else size
        return np.arange(len(window.ids)) >= shared

    @property
    def _cut_length(self) -> int:
        return max(_CUT_CHARACTERS, _CUT_CHARACTERS_PER_TOKEN * self.max_length)

    def _tokenize(self, text: str, *, special: bool) -> _Window:
        """The first `max_length` tokens; `special`: whether the tokenizer adds BOS and its like."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise malformed(
                f"character {error.start + 1} is a lone surrogate ({escape(text[error.start])})"
            ) from error
        length = self._cut_length
        encoding = self._encoding(text[:length], special)
        while length < len(text) and not self._is_filled(encoding, length):
            length *= 2
            encoding = self._encoding(text[:length], special)
        total = len(encoding)
        if length < len(text):
            total = round(total * len(text) / length)
        # Asked before truncating, which forgets which tokens the tokenizer added.
        text_tokens = [place is not None for place in encoding.sequence_ids[: self.max_length]]
        encoding.truncate(self.max_length)
        return _Window(
            encoding=encoding,
            ids=np.array(encoding.ids, np.int32),
            offsets=np.array(encoding.offsets, np.int64).reshape(-1, 2),
            text_tokens=np.array(text_tokens, np.bool_),
            total=total,
        )

    def _encoding(self, text: str, special: bool) -> Any:
        batch = self._tokenizer(
            text,
            add_special_tokens=special,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        encodings: Any = batch.encodings
        return encodings[0]

    def _is_filled(self, encoding: Any, length: int) -> bool:
        """Whether the window of a cut text ends safely before the cut.

        Exact unless one unbroken word reaches from the window to the cut.
        """
        if len(encoding) <= self.max_length:
            return False
        place = encoding.token_to_chars(self.max_length - 1)
        return place is not None and place[1] <= length - _CUT_MARGIN

    def _finish(self, window: _Window, response: Mask, own: Sequence[Span] | None) -> Encoded:
        pooled = response & window.text_tokens & ~np.isin(window.ids, self._special)
        if own is not None:
            pooled &= _overlapping(window, own)
        truncated = window.total > self.max_length
        if not pooled.any():
            raise Unscorable(self._nothing(window, truncated))
        share = None
        if self._unknown is not None:
            share = float(np.mean(window.ids[response] == self._unknown))
        return Encoded(window.ids, response, pooled, truncated, window.total, share)

    def _nothing(self, window: _Window, truncated: bool) -> Problem:
        if not truncated:
            return Problem("empty", "the response holds no token of its own")
        return Problem(
            "out_of_window",
            f"the window of {self.max_length} tokens ends before the response begins; "
            f"the conversation has {window.total} tokens",
        )


def _closed(text: str, eos: str) -> str:
    return text if text.endswith(eos) else text + eos


def _unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The unknown token's id; None where it also begins or ends texts (GPT-2), or is not set."""
    unknown = tokenizer.unk_token_id
    shared = unknown in (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return None if unknown is None or shared else int(unknown)


def _special_ids(tokenizer: PreTrainedTokenizerBase, unknown: int | None) -> npt.NDArray[np.int32]:
    added = (place for place, token in tokenizer.added_tokens_decoder.items() if token.special)
    special = {*tokenizer.all_special_ids, *added} - {unknown}
    return np.array(sorted(special), np.int32)


def _own_spans(chat: Conversation, places: Sequence[int], end: int) -> list[Span] | None:
    """The turns' own characters up to `end`; None where a turn cannot be found."""
    spans = []
    for place in places:
        own = chat.own(place)
        span = own or chat.trained(place, None)
        if span is None:
            return None
        if span.start >= end:
            break
        spans.append(span)
    return spans


def _assistant_turns(
    chat: Conversation, answers: Sequence[int], window: _Window
) -> tuple[Mask, list[Span]]:
    trained: list[Span] = []
    owned: list[Span] = []
    for place in answers:
        own = chat.own(place)
        span = chat.trained(place, own)
        if span is None:
            raise malformed(
                f"the chat template rewrites turn {place + chat.folded + 1}, so that its tokens "
                "cannot be told from the template's; give a template with generation markers"
            )
        if span.start >= window.end:
            break
        trained.append(span)
        owned.append(own or span)
    return _overlapping(window, trained), owned


def _between_markers(window: _Window, spans: Sequence[Span]) -> Mask:
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


def _overlapping(window: _Window, spans: Sequence[Span]) -> Mask:
    """The tokens that hold a character of one of the spans.

    A tokenizer that trims offsets gives a token of blanks no width, at its end.
    """
    start, end = window.offsets[:, 0], window.offsets[:, 1]
    mask = np.zeros(len(window.ids), np.bool_)
    for span in spans:
        mask |= (start < span.end) & (end > span.start) & (start < end)
        mask |= (start == end) & (start > span.start) & (start <= span.end)
    return mask
