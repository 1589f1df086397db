"""The words of a sample's response, as runs of tokens, and samples that change words.

A token is a piece of a word in most vocabularies, and a feature of a word may fire at its
last piece only. A word is a run of adjacent pooled tokens that decode to letters and
digits without a space between; any other token is a word by itself, and so is each token
of a script that puts no spaces between words.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Word = tuple[int, ...]
# A word and the places of its tokens in the sample.
Placed = tuple[Word, slice]

# A benign row keeps at least this part of its own words.
_KEPT = 0.5
# A piece of a character that needs several tokens decodes to this.
_PIECE = "\ufffd"
# Thai, Lao, Burmese and Khmer; Chinese, Japanese and the rest of the ideographs.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class WordedSample:
    """A sample and its words, in order."""

    sample: "Encoded"
    words: tuple[Placed, ...]

    def holds(self, words: frozenset[Word]) -> bool:
        """Whether one of `words` is among its own."""
        return any(word in words for word, _ in self.words)


class WordFinder:
    """Finds words by what the tokenizer decodes; remembers each pair of tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._decode = cache(tokenizer.decode)
        self._joined = cache(self._one_word)

    def read(self, samples: Iterable["Encoded"]) -> list[WordedSample]:
        """The samples that have words, with them."""
        worded = [WordedSample(sample, self.words(sample)) for sample in samples]
        return [one for one in worded if one.words]

    def words(self, sample: "Encoded") -> tuple[Placed, ...]:
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


def exchange(
    toxic: Iterable[WordedSample],
    benign: Iterable[WordedSample],
    words: frozenset[Word],
    longest: int,
) -> tuple[list["Encoded"], list["Encoded"]]:
    """Toxic samples without the words, and benign ones with them, pair by pair.

    The words leave a toxic sample for a benign one, whose own words take their places.
    What grows is cut at `longest` tokens.
    """
    candidates = sorted(words)
    # Of the words alone, so that no other feature of the pack changes a trial.
    rng = np.random.default_rng([token for word in candidates for token in word])
    without, alone = [], []
    for giver, taker in zip(toxic, benign, strict=False):
        there = [(word, place) for word, place in giver.words if word in words]
        moving = [word for word, _ in there] or [candidates[rng.integers(len(candidates))]]
        # Where a feature is active at every word, any word has to do.
        free = [(word, place) for word, place in taker.words if word not in words]
        free = free or list(taker.words)
        room = max(1, int(len(free) * (1 - _KEPT)))
        chosen = rng.permutation(len(free))[: min(room, len(moving))]
        leaving = [free[number] for number in sorted(chosen)]
        ordinary = [word for word, _ in leaving]
        returned = [
            (ordinary[number % len(ordinary)], place) for number, (_, place) in enumerate(there)
        ]
        moved = [(word, place) for (_, place), word in zip(leaving, moving, strict=False)]
        without.append(_replaced(giver.sample, returned, longest))
        alone.append(_replaced(taker.sample, moved, longest))
    return without, alone


def _replaced(sample: "Encoded", new: Sequence[Placed], longest: int) -> "Encoded":
    """The sample with other words at some places, in order; cut at `longest` tokens."""

    def spliced(old: NDArray[Any], of_word: Callable[[Word], Sequence[int]]) -> NDArray[Any]:
        parts, at = [], 0
        for word, place in new:
            parts += [old[at : place.start], np.array(of_word(word), old.dtype)]
            at = place.stop
        return np.concatenate([*parts, old[at:]])

    def pooled(word: Word) -> list[bool]:
        return [True] * len(word)

    ids = spliced(sample.ids, lambda word: word)
    return replace(
        sample,
        ids=ids[:longest],
        response=spliced(sample.response, pooled)[:longest],
        pooled=spliced(sample.pooled, pooled)[:longest],
        total_tokens=sample.total_tokens + len(ids) - len(sample.ids),
    )
