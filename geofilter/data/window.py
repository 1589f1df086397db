"""The window of a text: its first tokens, and where their characters stand.

The conversation is rendered as one text and cut after `max_length` tokens, as TRL does with
`keep_start`. What lies beyond is neither scored nor seen by the model.
"""

from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from geofilter.data.problems import malformed
from geofilter.errors import ModelError
from geofilter.support.display import escape, quote

Mask = npt.NDArray[np.bool_]

# Tokens of a row that are looked at by default. Models may take far more, but the memory of a
# batch grows with its longest row, and the rows of fine-tuning sets are seldom longer.
WINDOW = 2048

# A text is cut before it is tokenised when it is longer than both: 10 MB would take
# 20 seconds and 3 GB for a window of which a thousandth is used.
_CUT_CHARACTERS = 1 << 18
_CUT_CHARACTERS_PER_TOKEN = 32
# The window must end this far before the cut, so that the cut cannot change its tokens.
_CUT_MARGIN = 1 << 12


class Limited(Protocol):
    """A model as far as its longest context goes."""

    @property
    def name(self) -> str: ...

    @property
    def max_context(self) -> int: ...


def window_length(model: Limited, asked: int | None = None) -> int:
    """The number of tokens of a row that are looked at.

    `asked`, or else `WINDOW`, or what the model can take if that is less. Raises
    `ModelError` when more is asked for than the model can take.
    """
    if asked is not None and asked > model.max_context:
        raise ModelError(
            f"a window of {asked} tokens is more than the {model.max_context} that "
            f"{escape(model.name, limit=200)} can take; give a smaller --max-length"
        )
    return asked or min(WINDOW, model.max_context)


class Window(NamedTuple):
    """The first tokens of a text.

    `encoding`: the `tokenizers.Encoding`, cut to the window. `ids` (tokens,). `offsets`
    (tokens, 2): each token's characters, start and end. `text_tokens` (tokens,): False where
    the tokenizer added the token itself. `total`: the tokens of the whole text.
    """

    encoding: Any
    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    text_tokens: Mask
    total: int

    @property
    def end(self) -> int:
        """The number of characters that the window covers."""
        return int(self.offsets[:, 1].max(initial=0))


class WindowCutter:
    """Cuts windows of `max_length` tokens with one tokenizer.

    Raises `ModelError` for a tokenizer without character offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        if max_length < 1:
            raise ValueError(f"max_length is {max_length}, at least 1 is needed")
        if not getattr(tokenizer, "is_fast", False):
            raise ModelError(
                f"the tokenizer {quote(tokenizer.name_or_path)} gives no character offsets, so "
                "the response cannot be separated from the prompt; give one with a tokenizer.json"
            )
        self.max_length = max_length
        # Characters that are tokenised at first.
        self.characters = max(_CUT_CHARACTERS, _CUT_CHARACTERS_PER_TOKEN * max_length)
        self._tokenizer = tokenizer

    def cut(self, text: str, *, special: bool) -> Window:
        """The text's window; `special`: whether the tokenizer adds BOS and the like.

        Raises `Unscorable` (malformed) for a lone surrogate.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise malformed(
                f"character {error.start + 1} is a lone surrogate ({escape(text[error.start])})"
            ) from error
        length = self.characters
        encoding = self._encoding(text[:length], special)
        while length < len(text) and not self._is_filled(encoding, length):
            length *= 2
            encoding = self._encoding(text[:length], special)
        total = len(encoding)
        if length < len(text):
            total = round(total * len(text) / length)
        # Read before truncating, which forgets which tokens the tokenizer added.
        text_tokens = [place is not None for place in encoding.sequence_ids[: self.max_length]]
        encoding.truncate(self.max_length)
        return Window(
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
