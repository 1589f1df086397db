"""For a few rows: which tokens made the score, and which toxic features they activated.

The numbers are those of `geofilter explain`; here they are summed per toxic feature. They
need the model; without it only the features in the score table are known. Token texts and
labels are as the tokenizer and the pack give them: hostile, and not escaped here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from geofilter.data.problems import Problem

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.runs.prepare import Run
    from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent

_FEATURES = 4
_TOKENS_PER_FEATURE = 5


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is shown: its part of the score, and whether others were left out before."""

    text: str
    part: float
    after_gap: bool


@dataclass(frozen=True, slots=True)
class Activated:
    """A toxic feature, and the part of the score that came by the latents nearest to it.

    `tokens` are those that contributed most by it, `similarity` the greatest cosine between
    such a latent and the feature.
    """

    feature: int
    label: tuple[str, ...]
    part: float
    similarity: float
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explained:
    """A row's tokens in their order; `activated` is empty for scorers without features."""

    score: float
    tokens: tuple[Token, ...]
    activated: tuple[Activated, ...]


def explain_rows(
    rows: "RowFile", run: "Run", wanted: Iterable[int]
) -> Mapping[int, Explained | Problem]:
    """Divide the scores of the `wanted` rows among their tokens, with the model of `run`."""
    from geofilter.runs.prepare import explain_row

    left = set(wanted)
    found: dict[int, Explained | Problem] = {}
    for row in islice(rows, max(left, default=-1) + 1):
        if row.index in left:
            why = explain_row(run, rows.layout, row)
            found[row.index] = why if isinstance(why, Problem) else gather(why)
    return found


def gather(explanation: "Explanation") -> Explained:
    """The tokens of an explanation, and what they activated, the greatest part first."""
    tokens = []
    before = explanation.tokens[0].position - 1 if explanation.tokens else 0
    by_feature: dict[int, list[tuple[ExplainedToken, TokenLatent]]] = {}
    for token in explanation.tokens:
        tokens.append(Token(token.text, token.contribution, token.position > before + 1))
        before = token.position
        for latent in token.latents:
            by_feature.setdefault(latent.toxic_feature, []).append((token, latent))
    activated = [_activated(feature, pairs) for feature, pairs in by_feature.items()]
    activated.sort(key=lambda one: (-one.part, one.feature))
    return Explained(explanation.score, tuple(tokens), tuple(activated[:_FEATURES]))


def _activated(feature: int, pairs: "Sequence[tuple[ExplainedToken, TokenLatent]]") -> Activated:
    words: dict[str, float] = {}
    for token, latent in pairs:
        word = token.text.strip() or token.text
        words[word] = words.get(word, 0.0) + latent.contribution
    latents = [latent for _, latent in pairs]
    return Activated(
        feature,
        latents[-1].label,
        sum(latent.contribution for latent in latents),
        max(latent.similarity for latent in latents),
        tuple(sorted(words, key=lambda word: -words[word])[:_TOKENS_PER_FEATURE]),
    )
