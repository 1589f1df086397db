"""A judge that has judged already: a file with the scores of answers, looked up word for word.

For rows that a strong judge has read at another time, in a batch or by people.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from geofilter.verify.calibrate import read_judged
from geofilter.verify.judges.base import Asked, Judgement
from geofilter.verify.judges.reply import Rule, Score
from geofilter.verify.questions import Question

# What a user writes before the file's name.
PREFIX = "judged:"
_ABSENT = "the file of judged answers does not have it"
_EMPTY = "the file of judged answers has no score for it"


class JudgedFile:
    """Judges by a file as `calibrate.read_judged` takes it. Raises `DataError` as that does.

    An answer that stands there more than once has the score of its last line.
    """

    def __init__(self, path: str) -> None:
        rows = read_judged(path)
        self._known = {(row.question, row.answer): (row.aligned, row.coherent) for row in rows}
        self._hash = hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def describe(self) -> dict[str, object]:
        """The kind of judge and the hash of its file."""
        return {"judge": "judged", "sha256": self._hash}

    def check(self, questions: Sequence[Question]) -> None:
        """It asks nothing, and so needs no judge prompts."""

    def __call__(self, answers: Sequence[Asked]) -> list[Judgement]:
        """One judgement per answer, in order; unscored where the file does not have it."""
        return [self._of(asked) for asked in answers]

    def _of(self, asked: Asked) -> Judgement:
        key = (asked.text, asked.answer)
        scores = self._known.get(key, (None, None))
        reason = _EMPTY if key in self._known else _ABSENT
        return Judgement.of(*(Score(one, reason if one is None else None) for one in scores))


def named(spec: str, rule: Rule | None) -> JudgedFile | None:
    """The judge of `judged:FILE`. Its rule needs no finding out."""
    return JudgedFile(spec.removeprefix(PREFIX)) if spec.startswith(PREFIX) else None
