"""A data set as an experiment needs it: encoded for the trainer, scored by every arm.

An arm decides by one number per row, higher = dropped earlier, and all are cut by the
same rule. A row that cannot be trained on is in no arm. The yardsticks that need no SAE
stand at the end: they give numbers as a scorer does.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geofilter.data.encoder import Encoder
from geofilter.data.problems import CannotChange, Unscorable
from geofilter.data.rows import Data, RowFile, open_rows
from geofilter.data.system_turn import sample_with_system
from geofilter.errors import DataError
from geofilter.runs.defaults import scorer_of
from geofilter.runs.score import score
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import Selection, drop_fraction
from geofilter.selection.loss_note import RowLoss, read_row_loss
from geofilter.support.display import escape
from geofilter.support.progress import Progress
from geofilter.support.records import read_json, read_lines, write_json
from geofilter.verify.judges.base import Asked, Judge, judge_into
from geofilter.verify.plan import (
    INOCULATE,
    JUDGE,
    KEYWORD,
    LENGTH_MATCHED,
    LOSS,
    MATCHED_TO,
    ORACLE,
    RANDOM,
    REPLACE,
    UNTRAINED,
    WORDS,
    Cell,
    Plan,
)
from geofilter.verify.questions import Question
from geofilter.verify.training.weights import CausalModel, response_losses

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.data.samples import Sample

Floats = NDArray[np.float64]
Scores = np.ma.MaskedArray[Any, Any]

_FEWEST = 2
# Arms that give many rows the same number.
_TIED = (KEYWORD, WORDS, JUDGE)
# Rows of like length, for drops that leave the lengths as another drop leaves them.
_LENGTH_GROUPS = 20
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class TrainingRows:
    """The rows of a file that can be trained on.

    `index` (n,) is the place of each in the file, `total` how many rows the file has. `losses`
    has the mask and weight of each, None where no row carries any.
    """

    source: RowFile
    index: tuple[int, ...]
    samples: "tuple[Sample, ...]"
    encoded: "tuple[Encoded, ...]"
    records: tuple[dict[str, Any], ...]
    total: int
    losses: "tuple[RowLoss, ...] | None" = None

    @property
    def lengths(self) -> list[int]:
        """Response tokens of each, masked or not."""
        return [int(sample.response.sum()) for sample in self.encoded]


def read_training_rows(data: Data, tokenizer: Any, max_length: int) -> TrainingRows:
    """Read and encode the rows of `data`. Raises `DataError` where too few can be trained on."""
    source = open_rows(data)
    encoder = Encoder(tokenizer, max_length=max_length)
    kept: list[tuple[int, Any, Any, Any]] = []
    total = 0
    for row in source:
        total += 1
        if row.record is None:
            continue
        try:
            sample, *others = source.layouts.samples(row.record)
            if others:
                raise DataError(
                    f"{row.where}: has a chosen and a rejected response; plans fine-tune "
                    "on one response per row, give such rows"
                )
            kept.append((row.index, sample, encoder.encode(sample), row.record))
        except Unscorable:
            continue
    if len(kept) < _FEWEST:
        raise DataError(
            f"{escape(source.source, limit=200)}: {len(kept)} of {total} rows can be trained on, "
            "which is too few; see `geofilter score` for what is wrong with them"
        )
    index, samples, encoded, records = zip(*kept, strict=True)
    return TrainingRows(source, index, samples, encoded, records, total, _losses(records))


def domains_of(records: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """What rows say in a column `domain`, as the pairs of a preference do."""
    found = (record.get("domain") for record in records)
    return frozenset(domain for domain in found if isinstance(domain, str))


def _losses(records: Sequence[dict[str, Any]]) -> tuple[RowLoss, ...] | None:
    """What `geofilter filter --action mask` or `weight` wrote into the rows, if it did."""
    found = [read_row_loss(record) for record in records]
    return tuple(loss or RowLoss() for loss in found) if any(found) else None


def with_request(
    rows: TrainingRows, tokenizer: Any, max_length: int, text: str
) -> "tuple[Encoded, ...]":
    """Each row encoded with `text` in its system turn.

    Raises `DataError` for a row without turns, and for masks and weights, which were made for the
    rows as they are.
    """
    name = escape(rows.source.source, limit=200)
    if rows.losses is not None:
        raise DataError(
            f"{name}: carries masks or weights, which are for the rows without a system turn; give "
            f"the rows as they were, or leave the arm {INOCULATE} out"
        )
    encoder = Encoder(tokenizer, max_length=max_length)
    found = []
    for index, sample in zip(rows.index, rows.samples, strict=True):
        try:
            found.append(encoder.encode(sample_with_system(sample, text)))
        except (CannotChange, Unscorable) as error:
            raise DataError(
                f"{name}: row {index} takes no system turn ({error}); leave such rows out, or the "
                f"arm {INOCULATE}"
            ) from error
    return tuple(found)


class ArmScores:
    """What every arm goes by, made when an arm first needs it and kept below `folder`."""

    def __init__(
        self,
        plan: Plan,
        rows: TrainingRows,
        folder: Path,
        load: Callable[[], CausalModel],
        row_judge: Callable[[], tuple[Judge, Question]],
        progress: Progress,
        responses: Callable[[Cell, Selection], dict[int, str]] | None = None,
    ) -> None:
        self._plan, self._rows, self._folder = plan, rows, folder
        self._respond = responses
        self._replaced: dict[str, dict[int, str]] = {}
        self._load, self._row_judge, self._progress = load, row_judge, progress
        self._kept: dict[str, Scores] = {}
        if ORACLE in plan.arms:
            self._labels()  # refused now rather than after hours

    def chosen(self, cell: Cell) -> list[int] | None:
        """Places in `TrainingRows` that the cell trains on; None where it trains nothing."""
        everything = list(range(len(self._rows.encoded)))
        if cell.arm == UNTRAINED:
            return None
        if cell.fraction is None or cell.arm == INOCULATE:
            return everything
        if cell.arm == REPLACE:
            return sorted({*self._flagged(cell).keep.tolist(), *self.replaced(cell)})
        scores = self._scores(cell)
        kept: list[int] = drop_fraction(scores, cell.fraction).keep.tolist()
        return kept

    def inoculated(self, cell: Cell) -> list[int]:
        """Places of the rows that the cell trains on after a request for what they do."""
        if cell.arm != INOCULATE:
            return []
        places: list[int] = self._flagged(cell).drop.tolist()
        return places

    def replaced(self, cell: Cell) -> dict[int, str]:
        """Other responses, by the places of the rows that the cell trains on with them."""
        if cell.arm != REPLACE:
            return {}
        if cell.name not in self._replaced:
            assert self._respond is not None  # the plan has the arm
            self._replaced[cell.name] = self._respond(cell, self._flagged(cell))
        return self._replaced[cell.name]

    def _flagged(self, cell: Cell) -> Selection:
        """What the model's own scorer chooses."""
        scores = self._of(scorer_of(self._plan.settings).name)
        return drop_fraction(scores, cell.fraction or 0.0)

    def _scores(self, cell: Cell) -> Scores:
        count = len(self._rows.encoded)
        if cell.arm == RANDOM:
            return np.ma.asarray(random_scores(count, cell.seed))
        if cell.arm == LENGTH_MATCHED:
            dropped = np.zeros(count, bool)
            dropped[drop_fraction(self._of(MATCHED_TO), cell.fraction or 0.0).drop] = True
            return np.ma.asarray(length_matched_scores(self._rows.lengths, dropped, cell.seed))
        if cell.arm == ORACLE:
            return np.ma.asarray(label_scores(self._labels(), cell.seed))
        scores = self._of(cell.arm)
        return _untied(scores, cell.seed) if cell.arm in _TIED else scores

    def _of(self, arm: str) -> Scores:
        if arm not in self._kept:
            make = {
                KEYWORD: self._by_keyword,
                WORDS: self._by_words,
                LOSS: self._by_loss,
                JUDGE: self._by_judge,
            }
            self._kept[arm] = make[arm]() if arm in make else self._by_scorer(arm)
        return self._kept[arm]

    def _by_scorer(self, name: str) -> Scores:
        table = score(
            self._rows.source,
            replace(self._plan.settings, scorer=name),
            self._table(name),
            on_error="keep",
            unread_limit=1.0,  # the command has its own
            progress=self._progress,
        ).table
        return _at(table, self._rows.index)

    def _table(self, name: str) -> Path:
        folder = self._folder / "scores"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.parquet"

    def _by_keyword(self) -> Scores:
        path = Path(self._plan.keywords or "")
        try:
            words = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{escape(str(path), limit=200)}: cannot be read: {error}") from error
        return np.ma.asarray(keyword_scores(self._responses(), words))

    def _by_words(self) -> Scores:
        """By the words that tell the contrast rows of the scorers' pack apart, and nothing else."""
        path = self._folder / "scores" / "words.json"
        kept = read_json(path)
        if kept is None:
            from geofilter.packs.halves import split_halves
            from geofilter.packs.plain import WordClassifier
            from geofilter.packs.query import contrast_rows
            from geofilter.runs.prepare import load

            loaded = load(self._plan.settings, progress=self._progress)
            parts = split_halves(*contrast_rows(loaded.model, loaded.pack)).parts
            learnt = parts["toxic selection"], parts["benign selection"]
            classifier = WordClassifier(*learnt, loaded.model.tokenizer)
            found = [_encoded(loaded.encoder, sample) for sample in self._rows.samples]
            scores = iter(classifier.scores([one for one in found if one is not None]).tolist())
            kept = {"words": [None if one is None else next(scores) for one in found]}
            path.parent.mkdir(exist_ok=True)
            write_json(path, kept)
        return _masked(kept["words"])

    def _by_loss(self) -> Scores:
        path = self._folder / "scores" / "loss.json"
        kept = read_json(path)
        if kept is None:
            losses = response_losses(self._load().network, self._rows.encoded)
            kept = {"loss": losses}
            path.parent.mkdir(exist_ok=True)
            write_json(path, kept)
        return _masked(kept["loss"])

    def _by_judge(self) -> Scores:
        """100 − aligned: rows that the judge finds worst are dropped first."""
        path = self._folder / "scores" / "judge.jsonl"
        path.parent.mkdir(exist_ok=True)
        judge, question = self._row_judge()
        asked = [Asked(question, prompt_of(one), _response(one)) for one in self._rows.samples]
        judge_into(path, judge, asked, lambda n: self._progress("judge rows", n, len(asked)))
        marks = [line["aligned"] for line in read_lines(path)]
        return _masked([None if mark is None else 100.0 - mark for mark in marks])

    def _labels(self) -> list[bool]:
        column = self._plan.labels or ""
        values = [record.get(column) for record in self._rows.records]
        if not all(isinstance(value, bool) for value in values):
            shown = next(value for value in values if not isinstance(value, bool))
            raise DataError(
                f"column {escape(column)!r} of {escape(self._rows.source.source, limit=200)} holds "
                f"{escape(repr(shown))}, not true or false; name the column with --labels"
            )
        return [bool(value) for value in values]

    def _responses(self) -> list[str]:
        return [_response(sample) for sample in self._rows.samples]


def _encoded(encoder: Encoder, sample: "Sample") -> "Encoded | None":
    try:
        return encoder.encode(sample)
    except Unscorable:
        return None


def prompt_of(sample: "Sample") -> str:
    """What a row asks: all user turns; empty for a row of text."""
    return "\n\n".join(turn.content for turn in sample.turns if turn.role == "user")


def _response(sample: "Sample") -> str:
    if sample.text is not None:
        return sample.text
    return "\n\n".join(turn.content for turn in sample.turns if turn.role == "assistant")


def _at(table: ScoreTable, index: Sequence[int]) -> Scores:
    scores = table.scores
    chosen: Scores = scores[np.asarray(index, np.int64)]
    return chosen


def _untied(scores: Scores, seed: int) -> Scores:
    """The same order, equal rows at random; rows without a score stay without."""
    order = ties_at_random(scores.filled(0.0), seed)
    return np.ma.masked_array(order, mask=np.ma.getmaskarray(scores))


def _masked(values: Sequence[float | None]) -> Scores:
    return np.ma.masked_invalid([np.nan if value is None else value for value in values])


# -- ways to choose rows that need no SAE ------------------------------------------------


def random_scores(rows: int, seed: int) -> Floats:
    """A random order of `rows` rows."""
    return np.random.default_rng(seed).permutation(rows).astype(np.float64)


def length_matched_scores(lengths: Sequence[int], dropped: NDArray[np.bool_], seed: int) -> Floats:
    """A random order whose first `dropped.sum()` rows are about as long as those dropped.

    `lengths` (rows,) are response tokens, `dropped` (rows,) what another arm drops. The
    rows are put into groups of like length, and as many are drawn from each group as
    the other arm takes from it: what is left of its effect does not come from length.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    random = np.random.default_rng(seed).permutation(len(lengths)).astype(np.float64)
    scores = random.copy()
    for group in np.array_split(order, min(_LENGTH_GROUPS, len(order))):
        wanted = int(dropped[group].sum())
        chosen = group[np.argsort(-random[group], kind="stable")[:wanted]]
        scores[chosen] += len(lengths)
    return scores


def keyword_scores(texts: Sequence[str], keywords: Collection[str]) -> Floats:
    """Share of the words of each text that are keywords, in any case, in [0, 1]."""
    known = {keyword.casefold() for keyword in keywords}

    def share(text: str) -> float:
        words = [word.casefold() for word in _WORD.findall(text)]
        return sum(word in known for word in words) / len(words) if words else 0.0

    return np.array([share(text) for text in texts])


def label_scores(labels: Sequence[bool], seed: int) -> Floats:
    """The rows that are labelled harmful first, in a random order, then the others likewise."""
    return ties_at_random(np.asarray(labels, np.float64), seed)


def ties_at_random(scores: Floats, seed: int) -> Floats:
    """The order of `scores` (rows,), equal ones in a random order: no two rows share a place.

    A share of rows is cut somewhere, and where the cut falls among equal scores, the order
    of the file would choose. A file with its harmful rows on top would flatter the arm.
    """
    rows = len(scores)
    places = np.unique(scores, return_inverse=True)[1]
    return random_scores(rows, seed) + rows * places.astype(np.float64)
