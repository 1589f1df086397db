"""For a few rows: which tokens made the score, and which toxic features they activated.

The numbers are those of `geofilter explain`; here they are summed per toxic feature. They
need the model; without it only the features in the score table are known. Tokens are given
as they stand in the row's own text, not as a tokenizer spells its pieces. These texts and the
pack's labels are hostile, and not escaped here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from geofilter.data.problems import Problem
from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent

if TYPE_CHECKING:
    from geofilter.data.encoder import Placed
    from geofilter.data.rows import Row, RowFile
    from geofilter.runs.prepare import Run

_FEATURES = 4
_TOKENS_PER_FEATURE = 5
_TOP = 0.95  # the quantile of the parts above zero that is marked as strongly as any


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
    """Divide the scores of the `wanted` rows among their tokens, with the model of `run`.

    What `as_written` makes of them.
    """
    left = set(wanted)
    places = islice(rows, max(left, default=-1) + 1)
    return {row.index: _explained(rows, run, row) for row in places if row.index in left}


def _explained(rows: "RowFile", run: "Run", row: "Row") -> Explanation | Problem:
    from geofilter.runs.prepare import explain_row

    found = explain_row(run, rows.layouts, row)
    if isinstance(found, Problem):
        return found
    assert row.record is not None
    placed = run.encoder.placed(rows.layouts.samples(row.record)[0])
    return replace(found, tokens=as_written(found.tokens, placed))


def as_written(tokens: Iterable[ExplainedToken], placed: "Placed") -> tuple[ExplainedToken, ...]:
    """The tokens with the characters they stand for, and the blanks that lead up to them.

    Tokens that share a character, as bytes of one do, become one token with the sum of their
    parts. Positions count these pieces, and skip one where text between two is left out.
    """
    found: list[ExplainedToken] = []
    end = None
    for token in tokens:
        start, stop = map(int, placed.offsets[token.position])
        if end is not None and start < min(stop, end):
            last = found[-1]
            found[-1] = replace(
                last,
                text=last.text + placed.text[end:stop],
                contribution=last.contribution + token.contribution,
                latents=last.latents + token.latents,
            )
        else:
            between = "" if end is None else placed.text[end:start]
            is_next = not between.strip()
            place = found[-1].position + (1 if is_next else 2) if found else 0
            written = (between if is_next else "") + placed.text[start:stop]
            # What the tokenizer added itself has no characters.
            found.append(replace(token, position=place, text=written or token.text))
        end = max(stop, end or 0)
    return tuple(found)


def strengths(explanation: Explanation) -> list[float]:
    """How strongly each token pulls, to be compared between rows of any length.

    The part of the score that all tokens would make if each made as much as this one.
    """
    n = len(explanation.tokens)
    return [token.contribution * n for token in explanation.tokens]


def strongest(explained: Iterable[Explanation | Problem]) -> float:
    """The strength that is marked as strongly as any, for all rows; 0 where nothing pulls up."""
    up = [
        value
        for one in explained
        if isinstance(one, Explanation)
        for value in strengths(one)
        if value > 0
    ]
    return float(np.quantile(up, _TOP)) if up else 0.0


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
