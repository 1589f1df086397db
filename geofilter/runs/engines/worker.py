"""What is done to one job of rows: encode them, run the scorer in batches, make lines.

Two stages, so that an engine can encode one job while another is on the device. A
job's lines depend on the job alone, and not on who works on it or when.

This module knows nothing about files, parts, threads or processes.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from geofilter.data.layouts import Layout, Sample
from geofilter.data.problems import Problem, Unscorable
from geofilter.errors import TableError
from geofilter.runs.engines.lines import make_line
from geofilter.scoring.features_file import SavedRow, Side
from geofilter.scoring.table import ScoreRow

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.data.rows import Row
    from geofilter.model.features import SampleFeatures
    from geofilter.scoring.score import SampleScore

Results = list["SampleScore | Problem"]
Scorer = Callable[[Sequence["Encoded"]], list["SampleScore | Problem"]]
FeatureScorer = Callable[[Sequence["SampleFeatures | Problem"]], list["SampleScore | Problem"]]
# Called with the number of rows of a job that are done, maybe from another thread.
RowsDone = Callable[[int], None]


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


def encode_row(row: "Row", layout: Layout, encoder: SampleEncoder) -> list[Coded]:
    """The sides of a row, encoded, or the problem of each; the row's own side first."""
    if row.problem is not None or row.record is None:
        return [Coded(None, row.problem or Problem("unreadable", "the row holds no record"))]
    try:
        samples = layout.samples(row.record)
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
        layout: Layout,
        encoder: SampleEncoder,
        scorer: Scorer | TwoSteps,
        *,
        batch_tokens: int = 16384,
    ) -> None:
        self._layout = layout
        self._encoder = encoder
        self._scorer = scorer
        self._batch_tokens = batch_tokens

    def encode(self, rows: "Sequence[Row]") -> list[_Entry]:
        """The rows' sides as tokens. Raises whatever the tokenizer raises."""
        return [self._entry(row) for row in rows]

    def _entry(self, row: "Row") -> _Entry:
        coded = encode_row(row, self._layout, self._encoder)
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
            f"row {row.index} of the saved features is a copy of no row before it; "
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
