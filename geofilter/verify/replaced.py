"""The arm `replace`: other responses for the rows that the model's own scorer chooses.

The model to be trained writes them before its training, at temperature 1 with the seed of the
cell, as `geofilter filter --action replace` has it: a response is taken if it scores lower than all
rows chosen, and a row without one is dropped. Replies stay in the cell's folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geofilter.data.encoder import Encoder
from geofilter.data.last_response import asked_for, sample_with
from geofilter.data.problems import CannotChange, Problem, Unscorable
from geofilter.errors import DataError
from geofilter.runs import prepare
from geofilter.runs.defaults import scorer_of
from geofilter.runs.replies import LocalWriter
from geofilter.selection.choose import Selection
from geofilter.selection.replacing import Candidate, ReplyLog, Scored, replace_all
from geofilter.support.display import escape
from geofilter.support.manifest import Manifest
from geofilter.support.progress import Progress
from geofilter.verify.plan import REPLACE, Cell, Plan
from geofilter.verify.training.weights import CausalModel

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded
    from geofilter.verify.arms import TrainingRows

REPLIES = "replies.jsonl"
# How a row is encoded for training: its place, and its response.
EncodeWith = Callable[[int, str], "Encoded"]


def encoder_with(rows: "TrainingRows", tokenizer: Any, max_length: int) -> EncodeWith:
    """What encodes a row with another response.

    Raises `DataError` for masks and weights, which were made for the rows as they are.
    """
    if rows.losses is not None:
        raise DataError(
            f"{escape(rows.source.source, limit=200)}: carries masks or weights, which are for the "
            f"responses as they are; give the rows as they were, or leave the arm {REPLACE} out"
        )
    encoder = Encoder(tokenizer, max_length=max_length)
    return lambda place, text: encoder.encode(sample_with(rows.samples[place], text))


class Responses:
    """The responses of cells of the arm, by the places of their rows in `rows`.

    `load` gives the model to be trained. Both models are loaded when they are first needed.
    """

    def __init__(
        self,
        plan: Plan,
        rows: "TrainingRows",
        folder: Path,
        load: Callable[[], CausalModel],
        encode: EncodeWith,
        progress: Progress,
    ) -> None:
        self._plan, self._rows, self._folder = plan, rows, folder
        self._load, self._encode, self._progress = load, encode, progress

    def __call__(self, cell: Cell, chosen: Selection) -> dict[int, str]:
        """The response of each row that gets one; `chosen` says which rows are to."""
        candidates = []
        for place in chosen.drop.tolist():
            sample = self._rows.samples[place]
            try:
                turns = asked_for(sample)
            except CannotChange:
                continue
            candidates.append(Candidate(place, turns, sample.turns[-1].content))
        if not candidates or chosen.threshold is None:
            return {}
        sampling = self._plan.sampling
        writer = LocalWriter(
            self._plan.trained,
            max_new_tokens=sampling.max_new_tokens,
            at_once=sampling.batch,
            seed=cell.seed,
            load=self._load,
        )
        folder = self._folder / "arms" / cell.name
        folder.mkdir(parents=True, exist_ok=True)
        found = replace_all(
            candidates,
            ReplyLog(folder / REPLIES, Manifest(writer.describe())),
            writer,
            self._score,
            below=chosen.threshold,
            progress=lambda phase, done, of: self._progress(f"{cell.name}: {phase}", done, of),
        )
        return {place: one.text for place, one in found.items() if one.taken and one.text}

    @cached_property
    def _scoring(self) -> prepare.Loaded:
        settings = self._plan.settings
        return prepare.load(replace(settings, scorer=scorer_of(settings).name))

    def _score(self, texts: Sequence[tuple[int, str]]) -> list[Scored]:
        found: dict[int, Scored] = {}
        encoded = {}
        for place, text in texts:
            try:
                self._encode(place, text)  # it has to be trained on, too
                sample = sample_with(self._rows.samples[place], text)
                encoded[place] = self._scoring.encoder.encode(sample)
            except Unscorable as error:
                found[place] = Scored(None, error.problem.reason)
        answers = self._scoring.scorer(list(encoded.values()))
        for place, answer in zip(encoded, answers, strict=True):
            if isinstance(answer, Problem):
                found[place] = Scored(None, answer.reason)
            else:  # as the table has it
                found[place] = Scored(float(np.float32(answer.score)), None)
        return [found[place] for place, _ in texts]
