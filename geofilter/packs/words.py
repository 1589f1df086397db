"""The words of a sample's response, as runs of tokens.

A token is a piece of a word in most vocabularies, and a feature of a word may fire at its
last piece only. A word is a run of adjacent pooled tokens that decode to letters and
digits without a space between; any other token is a word by itself, and so is each token
of a script that puts no spaces between words.
"""

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Word = tuple[int, ...]

# A piece of a character that needs several tokens decodes to this.
_PIECE = "\ufffd"
# Thai, Lao, Burmese and Khmer; Chinese, Japanese and the rest of the ideographs.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


class WordFinder:
    """Finds words by what the tokenizer decodes; remembers each pair of tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._decode = cache(tokenizer.decode)
        self._joined = cache(self._one_word)

    def words(self, sample: "Encoded") -> tuple[tuple[Word, slice], ...]:
        """Each word of the pooled tokens and its place in the sample, in order."""
        places = np.flatnonzero(sample.pooled).tolist()
        starts: list[int] = []
        for number, place in enumerate(places):
            joined = (
                number > 0
                and places[number - 1] == place - 1
                and self._joined(int(sample.ids[place - 1]), int(sample.ids[place]))
            )
            if not joined:
                starts.append(number)
        bounds = zip(starts, [*starts[1:], len(places)], strict=False)
        slices = [slice(places[first], places[last - 1] + 1) for first, last in bounds]
        return tuple((tuple(sample.ids[place].tolist()), place) for place in slices)

    def text(self, word: Word) -> str:
        """A word as the tokenizer decodes it, without spaces around."""
        return str(self._decode(word)).strip()

    def _one_word(self, first: int, second: int) -> bool:
        before, after = (str(self._decode((token,))).strip() for token in (first, second))
        pair = str(self._decode((first, second))).strip()
        if not before or not after or any(map(str.isspace, pair)) or _UNSPACED.search(pair):
            return False
        return all(end.isalnum() or end == _PIECE for end in (before[-1], after[0]))
