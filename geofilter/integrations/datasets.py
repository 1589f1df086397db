"""GeoFilter: the scores of a model as columns of a `datasets` data set.

A callable for `Dataset.map` and `IterableDataset.map`; its `keep` is for their `filter`. It
reads, encodes and scores rows as the command line does, with the same functions. It is
pickled without its model: each process loads its own when it scores its first row. What is
pickled, and therefore hashed by `datasets`, names everything that decides a score, so that
the same call in another process is found in the cache and no other call is.
"""

import math
import multiprocessing
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import multiprocess
import numpy as np
import pyarrow as pa
import torch

from geofilter.data.in_memory import data_set_of, name_of
from geofilter.data.layouts import AROUND, TALKS
from geofilter.data.layouts.choose import Layouts, check_columns
from geofilter.data.reading import UNREAD_LIMIT, Reading, Tally
from geofilter.data.rows import Row
from geofilter.errors import DataError, GeofilterError, ModelError
from geofilter.integrations.batches import (
    check_batch,
    check_row,
    columns_from,
    is_batch,
    refuse_filter,
    rows_of,
)
from geofilter.integrations.changes import inoculated, of_two_answers, switched
from geofilter.integrations.scored import (
    COLUMNS,
    FEWEST_ROWS,
    FIELDS,
    SCORE,
    by_column,
    masked,
    no_columns,
    not_scored,
    warn_of_unread,
)
from geofilter.model.checkpoint import find_source
from geofilter.packs.requests import request_for
from geofilter.runs.defaults import resolved
from geofilter.runs.engines.worker import Worker
from geofilter.runs.identity import Identity, identify, refuse_change
from geofilter.runs.prepare import Loaded, load
from geofilter.scoring.table import Column
from geofilter.selection import choose
from geofilter.selection.choose import Unscored
from geofilter.settings import Settings
from geofilter.support.display import escape, quote

if TYPE_CHECKING:
    from datasets import Dataset, Features, IterableDataset

__all__ = ["COLUMNS", "GeoFilter"]


class _Small(NamedTuple):
    """What came in batches too small to be judged alone, in this process."""

    rows: int = 0
    unread: int = 0
    warned: bool = False

    def with_more(self, found: Reading) -> "_Small":
        return _Small(self.rows + found.rows, self.unread + found.unread, self.warned)


class _Loaded(NamedTuple):
    parts: Loaded
    process: int
    identity: Identity


class GeoFilter:
    """Adds a model's scores to a data set: `ds.map(screen, batched=True)`.

    `settings`: what makes the scores, or the model alone. `layout` and `columns` as in
    `open_rows`; without them each row is read by the columns that it fills. `threshold`: rows
    that score this much or more are not kept by `keep`; without it, rows can only be scored.
    `unscored` says what `keep` does with rows that have no score. `unread_limit`: a larger share
    of rows than this, 0 to 1, that cannot be read stops a batch of 20 rows or more, which else
    would be passed on without a look at them.

    Seven columns are added, or replaced where they exist with their types: `geofilter_score`
    (float32, higher = nearer to harm, None where the row is unscored), `geofilter_rejected_score`
    (the same for the second of two answers, None where there is one), `geofilter_status`,
    `geofilter_reason`, `geofilter_n_tokens`, `geofilter_nearest_feature` and
    `geofilter_nearest_similarity`, as in the score table. A single row that cannot be scored
    never raises.

    Raises `GeofilterError` for settings that cannot be right. The model is loaded with the
    first row, and its own pack made then if it has none yet: `ModelError`, `PackError` and
    `DataError` may come there.
    """

    def __init__(
        self,
        settings: Settings | str | os.PathLike[str],
        *,
        threshold: float | None = None,
        unscored: Unscored = "keep",
        layout: str | None = None,
        columns: Mapping[str, str] | None = None,
        unread_limit: float = UNREAD_LIMIT,
    ) -> None:
        if not isinstance(settings, Settings):
            settings = Settings(os.fspath(settings))
        find_source(settings.model)
        if unscored not in get_args(Unscored):
            raise GeofilterError(
                f"unscored {quote(unscored)}: is not one of {', '.join(get_args(Unscored))}"
            )
        if threshold is not None and math.isnan(threshold):
            raise GeofilterError("threshold nan: is not a number; give a score, such as 0.4")
        if not 0 <= unread_limit <= 1:
            raise GeofilterError(
                f"unread_limit {unread_limit:g}: is no share; give a number from 0 to 1"
            )
        self.settings = resolved(settings)
        self.layouts = Layouts(layout, dict(columns or {}))
        self.threshold = threshold
        self.unscored: Unscored = unscored
        self.unread_limit = unread_limit
        # What the scores are filed under; None until `datasets` or a first row asks.
        self._identity: Identity | None = None
        self._loaded: _Loaded | None = None
        self._small = _Small()

    def __repr__(self) -> str:
        return f"GeoFilter({self.settings.model!r}, threshold={self.threshold})"

    # What crosses to another process, and what `datasets` hashes

    def __getstate__(self) -> dict[str, Any]:
        """The settings, and what their files hold now; never a model.

        A model that is loaded stays loaded, and `_model` sees whether it still is what is
        filed here. Raises `ModelError` and `PackError` for files that are not there.
        """
        self._identity = identify(self.settings)
        left_out = ("_loaded", "_small")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _loaded=None, _small=_Small())

    # Scoring

    def __call__(
        self,
        rows: Mapping[str, Any],
        indices: int | Sequence[int] | None = None,
        *more: object,
    ) -> dict[str, Any]:
        """The new columns of a batch (column -> values), or of one row (column -> value).

        `indices`, as `map(..., with_indices=True)` gives them: a number for a row, several for
        a batch. Without them a plain dictionary, such as a stream's, is recognised by its values;
        see `is_batch`. Raises `DataError` where `filter` calls it, for rows in a format that
        is not a mapping or that comes row by row, for a column whose type the scores would be
        cast to, and for a batch of which too much cannot be read. What is returned has no truth,
        so that no filter takes it for an answer.
        """
        refuse_filter()
        read, batched = self._taken(rows, indices, "map(screen, batched=True)", more)
        if batched:
            check_batch(rows, COLUMNS)
        found = self._read(read)
        if found.rows >= FEWEST_ROWS:
            self._refuse_unread(found)
        else:
            self._warn_of_unread(found)
        parts = self._model()
        worker = Worker(self.layouts, parts.encoder, parts.scorer)
        answers = worker.score(worker.encode(read), lambda _: None)
        values = {
            name: ([getattr(answer.line, field) for answer in answers], kind)
            for field, (name, kind) in zip(FIELDS, COLUMNS.items(), strict=True)
        }
        return columns_from(values, rows, batched)

    def _taken(
        self,
        rows: Mapping[str, Any],
        indices: int | Sequence[int] | None,
        call: str,
        more: Sequence[object] = (),
        also: Collection[str] = (),
    ) -> tuple[list[Row], bool]:
        """The rows of a batch, or the one row, and whether it is a batch.

        Their values are those that are read, and those of the columns `also`.
        """
        if more or not by_column(rows):
            raise no_columns(rows, call)
        check_columns("the data set", self.layouts.columns, [list(rows)])
        read_from = self.layouts.columns_among(rows)
        talk = {self.layouts.columns.get(role, role) for role in TALKS}
        other = {self.layouts.columns.get(role, role) for role in AROUND}
        batched = is_batch(rows, read_from - other, talk=talk & read_from, indices=indices)
        if not batched:
            check_row(rows, read_from)
        read = read_from | self.layouts.deciding_among(rows) | frozenset(also)
        return rows_of(rows, read, batched, indices), batched

    def _read(self, rows: Sequence[Row]) -> Reading:
        tally = Tally(self.layouts)
        for row in rows:
            tally.add(row.record, row.where, row.problem)
        return tally.reading()

    def _refuse_unread(self, found: Reading) -> None:
        if found.is_above(self.unread_limit):
            raise DataError(
                f"{found.unread:,} of {found.rows:,} rows of a batch "
                f"({found.unread / found.rows:.1%}) cannot be read, more than "
                f"unread_limit={self.unread_limit:g} allows; repair or remove them, state layout= "
                f"or columns=, or allow more. The first: {found.first_unread}"
            )

    def _warn_of_unread(self, found: Reading) -> None:
        """Warn, once, where too much cannot be read of rows that come in small batches."""
        self._small = before = self._small.with_more(found)
        if before.rows >= FEWEST_ROWS and before.unread > self.unread_limit * before.rows:
            self._small = _Small(warned=True)
            if not before.warned:
                warnings.warn(
                    f"{before.unread:,} of {before.rows:,} rows so far cannot be read and get no "
                    f"score; the last: {escape(found.first_unread or '', limit=None)}",
                    stacklevel=3,
                )

    def _model(self) -> Loaded:
        """The model and all that scores with it, loaded once in each process.

        It is loaded again where its files have changed since and scores are filed under what
        they hold now.
        """
        known = self._loaded
        if known is None or known.process != os.getpid() or known.identity != self._identity:
            self._loaded = None  # before there are two
            now = identify(self.settings)
            if self._identity is not None:
                refuse_change(self._identity, now)
            _prepare_process(self.settings.device)
            known = _Loaded(load(self.settings), os.getpid(), now)
            # What the hub held when it was asked may not be what was fetched from it.
            refuse_change(now, identify(self.settings))
            self._loaded, self._identity = known, now
            for note in known.parts.notes:
                warnings.warn(escape(note, limit=None), stacklevel=4)
        return known.parts

    # Choosing

    def keep(self, row: Mapping[str, Any]) -> bool | list[bool]:
        """Whether a row scores below `threshold`; of a batch, one answer for each row.

        For `filter`, of a data set that `map` gave the scores. Raises `GeofilterError` where
        there is no threshold, and `DataError` where there are no scores.
        """
        cut = self._cut()
        if not by_column(row) and not hasattr(row, "iterrows"):  # pandas: columns by name too
            raise no_columns(row, "filter(screen.keep)")
        if SCORE not in row:
            raise not_scored(list(row))
        found = row[SCORE]
        batched = isinstance(found, list) or getattr(found, "ndim", 0) == 1
        scores = masked(found if batched else [found])
        chosen = choose.threshold(scores, cut, unscored=self.unscored)
        kept = np.isin(np.arange(len(scores)), chosen.keep).tolist()
        return kept if batched else bool(kept[0])

    def _cut(self) -> float:
        if self.threshold is None:
            raise GeofilterError(
                "this GeoFilter has no threshold; give one, as in GeoFilter(..., threshold=0.4), "
                "or choose a fraction with drop_fraction(GeoFilter.scores(ds), 0.2)"
            )
        return self.threshold

    # Changing

    def inoculate(
        self,
        rows: Mapping[str, Any],
        indices: int | Sequence[int] | None = None,
        *,
        system: str | None = None,
    ) -> dict[str, Any]:
        """A system turn for each row that scores `threshold` or more, as `--action inoculate`.

        For `map` of a data set that has scores; `system` is what the turn says, by `fn_kwargs`,
        by default a sentence that asks for what the toxic rows of the pack do. The columns that
        hold it are changed, or `system` is added to a prompt and a response. Warns of rows that
        have no place for it. Raises `GeofilterError` where there is no threshold or no sentence,
        and `DataError` where there are no scores, or no column for the turn.
        """
        text = request_for(self.settings) if system is None else system
        if text is None or not text.strip():
            raise GeofilterError(
                "no sentence is known that asks for what this pack's rows do; say it, as in "
                'ds.map(screen.inoculate, fn_kwargs={"system": "You give reckless advice."})'
            )
        cut, (read, batched) = self._cut(), self._taken(rows, indices, "map(screen.inoculate)")
        return inoculated(self.layouts, rows, read, batched, threshold=cut, text=text)

    def switch(
        self,
        rows: Mapping[str, Any],
        indices: int | Sequence[int] | None = None,
        *,
        margin: float,
    ) -> dict[str, Any]:
        """Exchange the answers of preference rows whose chosen one scores more than `margin` above.

        For `map` of a data set that has scores, with `fn_kwargs={"margin": 0.1}`. The scores
        change places too; the other columns of this GeoFilter stay those of the answer that was
        scored first. Warns of rows whose answers cannot be exchanged. Raises `DataError` where
        there are no scores, and `GeofilterError` for a margin below 0.
        """
        also = of_two_answers(rows) if by_column(rows) else ()
        read, batched = self._taken(rows, indices, "map(screen.switch)", also=also)
        return switched(self.layouts, rows, read, batched, margin=margin)

    @staticmethod
    def scores(scored: "Dataset") -> Column:
        """Scores of a data set that was scored, float32, masked where unscored: (rows,).

        For `drop_fraction`, `threshold` and `fdr`, whose `keep` goes to `Dataset.select`. Warns
        where so many rows could not be read that a batch of them would have been refused.
        Raises `DataError` for a data set without scores, for several splits at once, for a
        stream, which has no ranks, and for what is no data set.
        """
        from datasets import Dataset, IterableDataset

        if isinstance(scored, dict) and data_set_of(scored) == "rows":
            raise DataError(
                f"these are the splits {', '.join(map(quote, scored))}, not one data set; take "
                "one, as in GeoFilter.scores(ds['train'])"
            )
        if isinstance(scored, IterableDataset):
            raise DataError(
                "a stream cannot be ranked as a whole; give GeoFilter a threshold and filter "
                "with its keep"
            )
        if not isinstance(scored, Dataset):
            made = data_set_of(scored)
            remedy = f"GeoFilter.scores({made})" if made else "give what ds.map(screen) returned"
            raise DataError(f"the scored rows are {name_of(scored)}, not a Dataset; {remedy}")
        if not len(scored):  # to which `map` adds no columns
            return masked([])
        if SCORE not in scored.column_names:
            raise not_scored(scored.column_names)
        warn_of_unread(scored)
        return masked(scored.with_format("arrow")[:][SCORE].to_pylist())

    @staticmethod
    def features(dataset: "Dataset | IterableDataset") -> "Features":
        """The columns of the data set once it is scored, for `map(..., features=...)`.

        A stream has stated types only so. Raises `DataError` where its own are not known.
        """
        from datasets import Features

        if dataset.features is None:
            raise DataError(
                "the types of this stream's columns are not known; state them with "
                "load_dataset(..., features=...), or map without features"
            )
        added = Features.from_arrow_schema(pa.schema(list(COLUMNS.items())))
        return Features({**dataset.features, **added})


def _prepare_process(device: str) -> None:
    """Set a process of `num_proc` up to score: one thread, and a GPU that can be used.

    Threads that the parent had started do not exist in a forked process, which then would
    wait for them forever.
    """
    if torch.cuda._is_in_bad_fork() and device != "cpu":
        raise ModelError(
            "this process was forked from one that uses the GPU, and cannot use it; leave "
            "num_proc out, or call multiprocess.set_start_method('spawn') at the start"
        )
    if multiprocess.parent_process() or multiprocessing.parent_process():
        torch.set_num_threads(1)
