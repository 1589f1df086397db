"""For a few rows: which tokens made the score, and which toxic features they woke.

The numbers are those of `geofilter explain`; here they are gathered per toxic feature. With
the model; without it only the features of the score table are known. Token texts and labels
are as the tokenizer and the pack give them: hostile, and not escaped here.

This module knows nothing about pages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from geofilter.data.problems import Problem

if TYPE_CHECKING:
    from geofilter.data.rows import Row, RowFile
    from geofilter.packs.pack import FeaturePack
    from geofilter.runs.prepare import Run
    from geofilter.scoring.explanation import ExplainedToken, Explanation
    from geofilter.scoring.table import ScoreTable

_FEATURES = 4
_TOKENS_PER_FEATURE = 5


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is shown: its part of the score, and whether others were left out before."""

    text: str
    part: float
    after_gap: bool


@dataclass(frozen=True, slots=True)
class Woken:
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
    """A row's tokens in their order; `woken` is empty for scorers that work without features."""

    score: float
    tokens: tuple[Token, ...]
    woken: tuple[Woken, ...]


def explain_rows(
    rows: "RowFile", run: "Run", wanted: Iterable[int]
) -> Mapping[int, Explained | Problem]:
    """Divide the scores of the `wanted` rows among their tokens, with the model of `run`."""
    left = set(wanted)
    found: dict[int, Explained | Problem] = {}
    for row in islice(rows, max(left, default=-1) + 1):
        if row.index in left:
            found[row.index] = _explain(rows, row, run)
    return found


def _explain(rows: "RowFile", row: "Row", run: "Run") -> Explained | Problem:
    from geofilter.runs.prepare import explain_row

    explanation = explain_row(run, rows.layout, row)
    return explanation if isinstance(explanation, Problem) else gather(explanation)


def gather(explanation: "Explanation") -> Explained:
    """The tokens of an explanation, and what they woke, the greatest part first."""
    tokens = []
    before = explanation.tokens[0].position - 1 if explanation.tokens else 0
    for token in explanation.tokens:
        tokens.append(Token(token.text, token.contribution, token.position > before + 1))
        before = token.position
    return Explained(explanation.score, tuple(tokens), _woken(explanation.tokens))


def _woken(tokens: "tuple[ExplainedToken, ...]") -> tuple[Woken, ...]:
    parts: dict[int, float] = {}
    labels: dict[int, tuple[str, ...]] = {}
    similarities: dict[int, float] = {}
    words: dict[int, dict[str, float]] = {}
    for token in tokens:
        for latent in token.latents:
            feature, part = latent.toxic_feature, latent.contribution
            parts[feature] = parts.get(feature, 0.0) + part
            labels[feature] = latent.label
            similarities[feature] = max(similarities.get(feature, -1.0), latent.similarity)
            by_word = words.setdefault(feature, {})
            word = token.text.strip() or token.text
            by_word[word] = by_word.get(word, 0.0) + part
    order = sorted(parts, key=lambda feature: (-parts[feature], feature))[:_FEATURES]
    return tuple(
        Woken(
            feature, labels[feature], parts[feature], similarities[feature], _best(words[feature])
        )
        for feature in order
    )


def _best(words: Mapping[str, float]) -> tuple[str, ...]:
    return tuple(sorted(words, key=lambda word: -words[word])[:_TOKENS_PER_FEATURE])


def labels_of(table: "ScoreTable", pack: "FeaturePack | None") -> dict[int, tuple[str, ...]]:
    """The words of each toxic feature; none where `pack` is not the one that made the table."""
    if pack is None or pack.digest != table.manifest.decides.get("pack"):
        return {}
    return {int(feature): label for feature, label in zip(pack.ids, pack.labels, strict=True)}
