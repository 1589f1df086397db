"""How well length alone, and words alone, tell two contrast sets apart.

Whatever separates the sets is chosen as if it were harm. Both are measured on the rows that the
figures of the pack come from; the words' weights are learnt on those that choose features.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofilter.packs.halves import Halves
from geofilter.packs.words import WordFinder
from geofilter.stats.auroc import Range, auroc
from geofilter.stats.groups import grouped_auroc, numbered

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

Floats64 = NDArray[np.float64]

# The shipped pairs are held to the same limit (`tools/pairs/check.py`).
LIMIT = 0.60
# Of each side of each half, so that large sets take seconds.
_MOST_ROWS = 1000
# Rows of the half learnt from that a word must stand in to count.
_SEEN = 2
# Against rows of length 1: of the order of what a row has in common with itself.
_PENALTY = 1.0


@dataclass(frozen=True)
class Plain:
    """AUROCs with 95 % intervals, of the report half.

    `length`: of the number of response tokens; below 0.5 where toxic rows are shorter. `words`:
    of a linear classifier on counts of words that learnt on the selection half.
    """

    length: Range
    words: Range

    def warning(self) -> str | None:
        """One line where one of them separates the sets beyond doubt, None elsewhere."""
        separate = []
        if self.length.low > LIMIT or self.length.high < 1 - LIMIT:
            longer = "longer" if self.length.value > 0.5 else "shorter"
            separate.append(
                f"length alone (toxic rows are {longer}, AUROC {self.length.value:.2f})"
            )
        if self.words.low > LIMIT:
            separate.append(f"words alone (AUROC {self.words.value:.2f})")
        if not separate:
            return None
        return (
            f"{' and '.join(separate)} can tell toxic from benign rows, so that what is chosen may "
            "follow that instead of harm; give sets alike in length and vocabulary, best of all "
            "as pairs (--contrast)"
        )

    def record(self) -> dict[str, dict[str, float]]:
        """In values that JSON can spell."""
        return {
            name: one._asdict() for name, one in (("length", self.length), ("words", self.words))
        }


def measure(halves: Halves, tokenizer: Any) -> Plain:
    """Measure both on the report half of `halves`."""
    parts = {name: rows[:_MOST_ROWS] for name, rows in halves.parts.items()}
    groups = None
    if halves.groups:
        groups = numbered(halves.groups["report"][:_MOST_ROWS])
    toxic, benign = (
        np.array([float(np.count_nonzero(row.pooled)) for row in parts[f"{side} report"]])
        for side in ("toxic", "benign")
    )
    classifier = WordClassifier(parts["toxic selection"], parts["benign selection"], tokenizer)
    above, below = (classifier.scores(parts[f"{side} report"]) for side in ("toxic", "benign"))
    return Plain(_range(toxic, benign, groups), _range(above, below, groups))


def _range(toxic: Floats64, benign: Floats64, groups: NDArray[np.int64] | None) -> Range:
    found = auroc(toxic, benign) if groups is None else grouped_auroc(toxic, benign, groups)
    return Range(*map(float, found))


class WordClassifier:
    """Ridge regression on counts of words: toxic rows against benign ones, by their words alone."""

    def __init__(
        self, toxic: Sequence["Encoded"], benign: Sequence["Encoded"], tokenizer: Any
    ) -> None:
        self._finder = WordFinder(tokenizer)
        learnt = [self._counts(toxic), self._counts(benign)]
        seen = Counter(word for rows in learnt for row in rows for word in row)
        kept = sorted(word for word, times in seen.items() if times >= _SEEN)
        self._column = {word: k for k, word in enumerate(kept)}
        rows = np.concatenate([_matrix(side, self._column) for side in learnt])
        sides = np.concatenate(
            [np.full(len(side), sign) for side, sign in zip(learnt, (1.0, -1.0), strict=True)]
        )
        self._centre = rows.mean(axis=0)
        rows = rows - self._centre
        # As many unknowns as rows, however many words there are.
        inner = rows @ rows.T + _PENALTY * np.eye(len(rows))
        self._weights = rows.T @ np.linalg.solve(inner, sides - sides.mean())

    def scores(self, rows: Sequence["Encoded"]) -> Floats64:
        """(rows,), higher where the words of the response were those of toxic rows; unbounded."""
        found: Floats64 = (_matrix(self._counts(rows), self._column) - self._centre) @ self._weights
        return found

    def _counts(self, rows: Sequence["Encoded"]) -> list[Counter[str]]:
        finder = self._finder
        return [Counter(finder.text(word).lower() for word, _ in finder.words(row)) for row in rows]


def _matrix(rows: Sequence[Counter[str]], column: dict[str, int]) -> Floats64:
    """log(1 + count) of each word, every row of length 1, (rows, words)."""
    found = np.zeros((len(rows), len(column)))
    for values, counts in zip(found, rows, strict=True):
        for word, count in counts.items():
            if word in column:
                values[column[word]] = np.log1p(count)
    norms = np.linalg.norm(found, axis=1, keepdims=True)
    scaled: Floats64 = np.divide(found, norms, out=np.zeros_like(found), where=norms > 0)
    return scaled
