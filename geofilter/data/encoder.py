"""A sample as token ids, with a mask of the tokens that a trainer would learn from.

The conversation is rendered once and tokenised once. `window` cuts it, `chat_mask` finds the
response of a chat, by TRL's rules. Of a plain text every token is response. A string
completion or text is closed with the end-of-sequence token, as TRL does.

`pooled` leaves out what the row did not say: special tokens, BOS, and what the template
writes around the text. An unknown word is the row's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from geofilter.data.chat_mask import ChatMask, after_prompt, overlapping
from geofilter.data.conversation import Conversation
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Sample
from geofilter.data.template import ChatTemplate, PlainTemplate, Span, Template
from geofilter.data.window import Mask, Window, WindowCutter

__all__ = ["Encoded", "Encoder", "Placed", "special_ids"]


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


class Placed(NamedTuple):
    """The text that a sample's tokens are cut from; `offsets` (tokens, 2): start and end in it."""

    text: str
    offsets: npt.NDArray[np.int64]


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
        self._cutter = WindowCutter(tokenizer, max_length)
        self.max_length = max_length
        self.last_turn = last_turn
        self._eos: str = tokenizer.eos_token or ""
        self._template: Template = (
            PlainTemplate(self._eos) if tokenizer.chat_template is None else ChatTemplate(tokenizer)
        )
        self._unknown = _unknown_id(tokenizer)
        self._special = special_ids(tokenizer)

    def encode(self, sample: Sample) -> Encoded:
        """Return the sample's window.

        Raises `Unscorable`: `no_response`, `empty` (nothing but special tokens or
        nothing at all), `out_of_window` (the window ends before the response), or
        `malformed` (the template refuses the conversation, or a lone surrogate).
        """
        if sample.text is not None:
            window = self._cutter.cut(_closed(sample.text, self._eos), special=True)
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
        answers = answers[-1:] if self.last_turn else answers
        answers = [place for place in answers if sample.turns[place].trained]
        if not answers:
            reason = "the row leaves each of the assistant's turns out of training"
            raise Unscorable(Problem("no_response", f"{reason} (a weight of 0, or the like)"))
        return self._encode_chat(sample, answers)

    def own_text(self, sample: Sample) -> Encoded:
        """The sample's window with `pooled` at every token of the row's own text.

        In prompts as well as in responses, which `encode` leaves out; `response` is the same
        mask. Errors as in `encode`.
        """
        if sample.text is not None or sample.plain:
            parts = [sample.text] if sample.text is not None else [t.content for t in sample.turns]
            window = self._cutter.cut(_closed("".join(parts), self._eos), special=True)
            return self._finish(window, np.ones(len(window.ids), np.bool_), None)
        chat, window = self._rendered(sample)
        own = [span for place in range(len(chat.turns)) for span in chat.own(place) or ()]
        return self._finish(window, overlapping(window, own), None)

    def placed(self, sample: Sample) -> Placed:
        """Where each token of `encode`'s window stands in the text. Errors as in `encode`.

        Of a chat, in what the template makes of it.
        """
        if sample.text is not None:
            text = _closed(sample.text, self._eos)
        elif sample.plain:
            text = _closed("".join(turn.content for turn in sample.turns), self._eos)
        else:
            chat, window = self._rendered(sample)
            return Placed(chat.full.text, window.offsets)
        return Placed(text, self._cutter.cut(text, special=True).offsets)

    def _encode_plain(self, sample: Sample) -> Encoded:
        prompt = "".join(turn.content for turn in sample.turns[: sample.prompt_turns])
        completion = "".join(turn.content for turn in sample.turns[sample.prompt_turns :])
        if not completion:
            raise Unscorable(Problem("empty", "the response holds no character"))
        window = self._cutter.cut(prompt + _closed(completion, self._eos), special=True)
        return self._finish(window, after_prompt(self._cutter, window, prompt, special=True), None)

    def _encode_chat(self, sample: Sample, answers: Sequence[int]) -> Encoded:
        chat, window = self._rendered(sample)
        answers = [place - chat.folded for place in answers]
        answers = [place for place in answers if place < len(chat.turns)]
        mask = ChatMask(
            self._cutter,
            chat,
            window,
            prompt_turns=sample.prompt_turns,
            last_turn=self.last_turn,
            special=self._template.adds_special_tokens,
        )
        return self._finish(window, *mask.response(answers))

    def _rendered(self, sample: Sample) -> tuple[Conversation, Window]:
        """The rendered turns and their window; turns beyond the window may be left out.

        A template is rendered several times per turn, so a row of very many turns
        would take a time that grows with the square of its length.
        """
        special = self._template.adds_special_tokens
        sizes = np.cumsum([len(turn.content) for turn in sample.turns])
        count, characters = self.max_length, self._cutter.characters
        while True:
            # The turn that reaches past the last character is kept, and one in any case.
            kept = min(count, int(np.searchsorted(sizes, characters)) + 1, len(sizes))
            chat = Conversation(
                self._template, sample.turns[:kept], sample.tools, sample.template_kwargs
            )
            window = self._cutter.cut(chat.full.text, special=special)
            if kept == len(sizes):
                return chat, window
            if len(window.ids) == self.max_length:
                share = max(int(sizes[kept - 1]), 1) / max(int(sizes[-1]), 1)
                return chat, window._replace(total=round(window.total / share))
            count, characters = 2 * count, 2 * characters

    def _finish(self, window: Window, response: Mask, own: Sequence[Span] | None) -> Encoded:
        pooled = response & window.text_tokens & ~np.isin(window.ids, self._special)
        if own is not None:
            pooled &= overlapping(window, own)
        truncated = window.total > self.max_length
        if not pooled.any():
            raise Unscorable(self._nothing(window, truncated))
        share = None
        if self._unknown is not None:
            share = float(np.mean(window.ids[response] == self._unknown))
        return Encoded(window.ids, response, pooled, truncated, window.total, share)

    def _nothing(self, window: Window, truncated: bool) -> Problem:
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


def special_ids(tokenizer: PreTrainedTokenizerBase) -> npt.NDArray[np.int32]:
    """The tokens that no row says and that are never pooled; an unknown word is the row's own."""
    unknown = _unknown_id(tokenizer)
    added = (place for place, token in tokenizer.added_tokens_decoder.items() if token.special)
    special = {*tokenizer.all_special_ids, *added} - {unknown}
    return np.array(sorted(special), np.int32)
