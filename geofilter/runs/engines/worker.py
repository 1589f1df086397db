"""What is done to one job of rows: encode them, run the scorer in batches, make lines.

Two stages, so that an engine can encode one job while another is on the device. A
job's lines depend on the job alone, and not on who works on it or when.
"""

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from geofilter.data.layouts.choose import Layouts
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.samples import Sample
from geofilter.errors import TableError
from geofilter.scoring.features_file import SavedRow, Side
from geofilter.scoring.table import FeatureShare, ScoreRow
from geofilter.support.display import escape

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.data.rows import Row
    from geofilter.model.features import SampleFeatures
    from geofilter.scoring.score import SampleScore

Scorer = Callable[[Sequence["Encoded"]], list["SampleScore | Problem"]]
FeatureScorer = Callable[[Sequence["SampleFeatures | Problem"]], list["SampleScore | Problem"]]
# Called with how many rows of a job are done, maybe from another thread.
RowsDone = Callable[[int], None]

_LARGEST = float(np.finfo(np.float32).max)


class SampleEncoder(Protocol):
    """What makes tokens of a sample; raises `Unscorable` where there are none to score."""

    def encode(self, sample: "Sample") -> "Encoded": ...


@dataclass(frozen=True, slots=True)
class TwoSteps:
    """A scorer whose features are to be kept: what makes them, and what scores them."""

    features: "Callable[[Sequence[Encoded]], list[SampleFeatures | Problem]]"
    score: FeatureScorer


class Answer(NamedTuple):
    """A row's line and, where features are kept, what was found about its sides."""

    line: ScoreRow
    sides: tuple[Side, ...] = ()


class Stages(Protocol):
    """What works on a job, in two stages that may run in different threads."""

    def encode(self, rows: Sequence[Any]) -> Any: ...

    def score(self, encoded: Any, report: RowsDone) -> list[Answer]: ...


# From the number of a worker, from 0, to its stages. It is sent to other processes and machines.
MakeStages = Callable[[int], Stages]


def make_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Places of `lengths` in batches of like length, longest first.

    A batch of n samples, padded to its longest, holds at most `batch_tokens`
    tokens, or one sample that is longer than that. Every place occurs once; equal
    lengths keep their order.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        batch = batches[-1] if batches else []
        if batch and lengths[batch[0]] * (len(batch) + 1) <= batch_tokens:
            batch.append(place)
        else:
            batches.append([place])
    return batches


class Coded(NamedTuple):
    """One side of a row as the tokenizer gave it: a window, or the problem."""

    encoded: "Encoded | None"
    problem: Problem | None


def encode_row(row: "Row", layouts: Layouts, encoder: SampleEncoder) -> list[Coded]:
    """The sides of a row, encoded, or the problem of each; the row's own side first."""
    if row.problem is not None or row.record is None:
        return [Coded(None, row.problem or Problem("unreadable", "the row holds no record"))]
    try:
        samples = layouts.samples(row.record)
    except Unscorable as unscorable:
        return [Coded(None, unscorable.problem)]
    sides: list[Coded] = []
    for sample in samples:
        try:
            sides.append(Coded(encoder.encode(sample), None))
        except Unscorable as unscorable:
            sides.append(Coded(None, unscorable.problem))
    return sides


@dataclass(slots=True)
class _Entry:
    """A row of a job whose sides wait for their results."""

    index: int
    row_hash: str
    sides: list[Side]
    encoded: "list[Encoded | None]"
    results: "list[SampleScore | Problem | None]"

    def answer(self, *, with_sides: bool) -> Answer:
        results = [result for result in self.results if result is not None]
        line = make_line(self.index, self.row_hash, self.sides, results)
        return Answer(line, tuple(self.sides) if with_sides else ())


class Worker:
    """Works on jobs of rows with an encoder and a scorer.

    `batch_tokens` bounds a padded batch that is given to the scorer; it is no setting of
    the model. With `TwoSteps` the answers hold features.
    """

    def __init__(
        self,
        layouts: Layouts,
        encoder: SampleEncoder,
        scorer: Scorer | TwoSteps,
        *,
        batch_tokens: int = 16384,
    ) -> None:
        self._layouts = layouts
        self._encoder = encoder
        self._scorer = scorer
        self._batch_tokens = batch_tokens

    def encode(self, rows: "Sequence[Row]") -> list[_Entry]:
        """The rows' sides as tokens. Raises whatever the tokenizer raises."""
        return [self._entry(row) for row in rows]

    def _entry(self, row: "Row") -> _Entry:
        coded = encode_row(row, self._layouts, self._encoder)
        return _Entry(
            row.index,
            row.row_hash,
            [_side(one) for one in coded],
            [one.encoded for one in coded],
            [one.problem for one in coded],
        )

    def score(self, encoded: list[_Entry], report: RowsDone) -> list[Answer]:
        """One answer per row, in order. Raises whatever the scorer raises."""
        waiting = [
            (entry, place)
            for entry in encoded
            for place, sample in enumerate(entry.encoded)
            if sample is not None
        ]
        lengths = [entry.sides[place].window_tokens for entry, place in waiting]
        n_done = 0
        for batch in make_batches(lengths, self._batch_tokens):
            self._score_batch([waiting[one] for one in batch])
            n_done += len(batch)
            report(n_done * len(encoded) // len(waiting))
        keep = isinstance(self._scorer, TwoSteps)
        return [entry.answer(with_sides=keep) for entry in encoded]

    def _score_batch(self, batch: list[tuple[_Entry, int]]) -> None:
        samples = [sample for entry, place in batch if (sample := entry.encoded[place]) is not None]
        if isinstance(self._scorer, TwoSteps):
            features = self._scorer.features(samples)
            results = self._scorer.score(features)
            for (entry, place), found in zip(batch, features, strict=True):
                if isinstance(found, Problem):
                    entry.sides[place].problem = found
                else:
                    entry.sides[place].features = found
        else:
            results = self._scorer(samples)
        if len(results) != len(batch):
            raise ValueError(f"the scorer gave {len(results)} scores for {len(batch)} samples")
        for (entry, place), result in zip(batch, results, strict=True):
            entry.results[place] = result
            entry.encoded[place] = None


def _side(coded: Coded) -> Side:
    encoded = coded.encoded
    if encoded is None:
        return Side(problem=coded.problem)
    return Side(
        window_tokens=len(encoded.ids),
        total_tokens=encoded.total_tokens,
        truncated=encoded.truncated,
        pooled_tokens=int(encoded.pooled.sum()),
        unknown_share=encoded.unknown_share,
    )


class SavedWorker:
    """Works on jobs of rows whose features were saved: nothing to encode, no model to run."""

    def __init__(self, score: FeatureScorer) -> None:
        self._score = score

    def encode(self, rows: Sequence[SavedRow]) -> Sequence[SavedRow]:
        return rows

    def score(self, encoded: Sequence[SavedRow], report: RowsDone) -> list[Answer]:
        """One answer per row, in order. Raises `TableError` for a copy without its original."""
        sides = [side for row in encoded for side in _required(row)]
        results = iter(self._score([_found(side) for side in sides]))
        report(len(encoded))
        return [Answer(line) for line in _lines(encoded, results)]


def _lines(
    rows: Sequence[SavedRow], results: "Iterator[SampleScore | Problem]"
) -> Iterator[ScoreRow]:
    for row in rows:
        yield make_line(row.index, row.row_hash, row.sides, [next(results) for _ in row.sides])


def _required(row: SavedRow) -> tuple[Side, ...]:
    if not row.sides:
        raise TableError(
            f"row {row.index + 1} of the saved features is a copy of no row before it; "
            "save the features again"
        )
    return row.sides


def _found(side: Side) -> "SampleFeatures | Problem":
    if side.features is not None:
        return side.features
    return side.problem or Problem("not_finite", "no features were saved")


def portable(error: BaseException) -> BaseException:
    """The error of a worker as it can be sent to its driver: at least what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


# -- from what was found about a row's sides to its line -----------------------------------


def make_line(
    row: int,
    row_hash: str,
    sides: Sequence[Side],
    results: "Sequence[SampleScore | Problem]",
) -> ScoreRow:
    """The line of a row from its sides and the result of each; the row's own side first."""
    results = [_finite(result) for result in results]
    side, result = sides[0], results[0]
    other = results[1] if len(results) > 1 else None
    # Reasons are short, for each value in them is; what is left to cut is a template's own words.
    reason = escape("; ".join(_reasons(sides, results)), limit=1000) or None
    rejected = None if other is None or isinstance(other, Problem) else _number(other.score)
    unknown = _number(side.unknown_share)
    if isinstance(result, Problem):
        return ScoreRow(
            row=row,
            row_hash=row_hash,
            score=None,
            status=result.status,
            reason=reason,
            n_tokens=side.pooled_tokens,
            rejected_score=rejected,
            unknown_share=unknown,
        )
    truncated = any(
        one.truncated and not isinstance(scored, Problem)
        for one, scored in zip(sides, results, strict=True)
    )
    return ScoreRow(
        row=row,
        row_hash=row_hash,
        score=_number(result.score),
        status="truncated" if truncated else "scored",
        reason=reason,
        n_tokens=result.n_tokens,
        nearest_feature=result.nearest_feature,
        nearest_similarity=_number(result.nearest_similarity),
        top_features=tuple(
            FeatureShare(top.feature, _float32(top.weight), _float32(top.proximity))
            for top in result.top_features
        ),
        rejected_score=rejected,
        unknown_share=unknown,
        explained_variance=_number(result.explained_variance),
    )


def _finite(result: "SampleScore | Problem") -> "SampleScore | Problem":
    """The result, or a problem in place of a score that float32 cannot hold as a number."""
    if not isinstance(result, Problem) and not _is_finite(result.score):
        return Problem("not_finite", f"the score is {result.score}")
    return result


def _is_finite(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= _LARGEST


def _number(value: float | None) -> float | None:
    """The value as the table's float32 holds it, so that a copy equals its original."""
    if value is None or not _is_finite(value):
        return None
    return _float32(value)


def _float32(value: float) -> float:
    return float(np.float32(value))


def _reasons(sides: Sequence[Side], results: "Sequence[SampleScore | Problem]") -> list[str]:
    """What there is to say about a row, the rejected side's after the row's own."""
    reasons = []
    names = ("", "rejected: ") if len(sides) > 1 else ("",)
    for name, side, result in zip(names, sides, results, strict=True):
        if isinstance(result, Problem):
            reasons.append(f"{name}{result.status}: {result.reason}" if name else result.reason)
        elif side.truncated:
            seen = f"scored on {side.window_tokens} of its {side.total_tokens} tokens"
            reasons.append(name + seen)
    return reasons
