"""A model that costs nothing, so that what is measured is everything around it.

Tokens are bytes, and a score is a checksum of them: it depends on its own sample
only, has ties, and is now and then not finite. No model library is loaded, so that
growing memory has no large base to hide behind.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Sample


class StubEncoded(NamedTuple):
    """What `geofilter.data.encoder.Encoded` holds."""

    ids: np.ndarray  # (tokens,) int32
    response: np.ndarray  # (tokens,) bool
    pooled: np.ndarray  # (tokens,) bool
    truncated: bool
    total_tokens: int
    unknown_share: float | None


class StubFeature(NamedTuple):
    feature: int
    weight: float
    proximity: float


class StubScore(NamedTuple):
    """What `geofilter.scoring.score.SampleScore` holds."""

    score: float
    n_tokens: int
    nearest_feature: int
    nearest_similarity: float
    explained_variance: float
    top_features: tuple[StubFeature, ...]


class StubEncoder:
    """One token per byte of the conversation, cut to `max_length`."""

    def __init__(self, max_length: int = 64) -> None:
        self.max_length = max_length

    def encode(self, sample: Sample) -> StubEncoded:
        turns = [turn.content.encode("utf-8", "replace") for turn in sample.turns]
        text = b"".join(turns)
        n_prompt = sum(map(len, turns[: sample.prompt_turns]))
        if n_prompt >= self.max_length:
            raise Unscorable(Problem("out_of_window", f"the response begins at {n_prompt}"))
        ids = np.frombuffer(text[: self.max_length], np.uint8).astype(np.int32)
        response = np.arange(len(ids)) >= n_prompt
        return StubEncoded(
            ids, response, response, len(text) > self.max_length, len(text), n_prompt % 4 / 4
        )


def stub_scorer(
    seconds_per_batch: float = 0.0,
) -> Callable[[Sequence[StubEncoded]], list[StubScore | Problem]]:
    """A batch scorer that waits a little, so that there is a moment to kill it in."""

    def score(batch: Sequence[StubEncoded]) -> list[StubScore | Problem]:
        if seconds_per_batch:
            time.sleep(seconds_per_batch)
        return [_score(sample) for sample in batch]

    return score


def _score(sample: StubEncoded) -> StubScore | Problem:
    checksum = zlib.crc32(sample.ids.tobytes())
    if checksum % 97 == 0:
        return Problem("not_finite", "the checksum can be divided by 97")
    feature, value = checksum % 16384, checksum % 997 / 997
    return StubScore(
        score=2 * value - 1,
        n_tokens=int(sample.pooled.sum()),
        nearest_feature=feature,
        nearest_similarity=value,
        explained_variance=1 - value,
        top_features=tuple(StubFeature(feature + k, value / (k + 1), -value) for k in range(3)),
    )
