"""For a few rows: which tokens made the score, and which toxic features they activated.

The numbers are those of `geofilter explain`; here they are summed per toxic feature. They
need the model; without it only the features in the score table are known. Token texts and
labels are as the tokenizer and the pack give them: hostile, and not escaped here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from geofilter.data.problems import Problem
from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent

if TYPE_CHECKING:
    from geofilter.data.rows import RowFile
    from geofilter.runs.prepare import Run

_FEATURES = 4
_TOKENS_PER_FEATURE = 5


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


def explain_rows(
    rows: "RowFile", run: "Run", wanted: Iterable[int]
) -> Mapping[int, Explanation | Problem]:
    """Divide the scores of the `wanted` rows among their tokens, with the model of `run`."""
    from geofilter.runs.prepare import explain_row

    left = set(wanted)
    places = islice(rows, max(left, default=-1) + 1)
    return {row.index: explain_row(run, rows.layouts, row) for row in places if row.index in left}


def activated(tokens: Iterable[ExplainedToken]) -> list[Activated]:
    """The toxic features that the tokens activated most, the greatest part first.

    There are none where the score was made without features.
    """
    by_feature: dict[int, list[tuple[ExplainedToken, TokenLatent]]] = {}
    for token in tokens:
        for latent in token.latents:
            by_feature.setdefault(latent.toxic_feature, []).append((token, latent))
    found = [_summed(feature, pairs) for feature, pairs in by_feature.items()]
    return sorted(found, key=lambda one: (-one.part, one.feature))[:_FEATURES]


def _summed(feature: int, pairs: list[tuple[ExplainedToken, TokenLatent]]) -> Activated:
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
