"""How a toxic feature did in its trial: on words without harm, and on harm without words.

`falsify` makes these records, and a pack carries them in its header. The verdict is a rule
on their numbers. Part of it (`whole_auroc`) was chosen after a look at trials of the
organism's own pack; docs/falsify.md says which, and tests the rule on others.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Verdict = Literal["harm", "lexical", "unclear"]
# What `pack show` says of a feature: its verdict, or that it was not tried.
Label = Literal["harm", "lexical", "unclear", "untested"]
RowSource = Literal["edited", "given"]

# A feature follows words only if words without harm activate it at least this part as
# much as toxic rows do.
LEAST_RECOVERED = 0.5


@dataclass(frozen=True, slots=True)
class Trial:
    """One feature's trial.

    The activation of a row is the feature's greatest over the row's pooled tokens.
    `toxic`, `harm_alone`, `words_alone` and `benign` are means of it over toxic rows,
    harm without the feature's words, these words without harm, and benign rows; the
    middle two over `harm_rows` and `words_rows` rows, which were `edited` from the
    contrast rows or `given`. `words` are what was taken for the feature's words (raw:
    escape before showing), and `covered` the share of its activation on them.

    `auroc`, in [0, 1], is the chance that harm without the words activates the feature
    more than the words without harm do: about 0 where it follows the words. `whole_auroc`
    is the chance that a toxic row, words and all, activates it more than its words alone:
    about 0.5 where it follows the words. Either interval holds for all features of a pack at
    once with 95 % confidence.
    """

    feature: int
    words: tuple[str, ...]
    covered: float
    toxic: float
    harm_alone: float
    words_alone: float
    benign: float
    harm_rows: int
    words_rows: int
    harm_source: RowSource
    words_source: RowSource
    auroc: float
    auroc_low: float
    auroc_high: float
    whole_auroc: float
    whole_auroc_low: float
    whole_auroc_high: float

    @property
    def recovered(self) -> float:
        """Part of toxic − benign that words alone reach; about 1 for a feature of words."""
        return self._part(self.words_alone)

    @property
    def retained(self) -> float:
        """Part of toxic − benign that is left without the words; about 0 for one of words."""
        return self._part(self.harm_alone)

    @property
    def verdict(self) -> Verdict:
        """What the feature follows, by one rule for every pack; no number of it is fitted.

        `lexical`: its words without harm activate it more than harm without them does, and
        at least half as much as a toxic row. `harm`: its words alone activate it less than
        half as much, and less than a toxic row does. `unclear`: neither is beyond doubt.
        """
        if self.recovered >= LEAST_RECOVERED and self.auroc_high < 0.5:
            return "lexical"
        if self.recovered < LEAST_RECOVERED and self.whole_auroc_low > 0.5:
            return "harm"
        return "unclear"

    def _part(self, activation: float) -> float:
        """NaN where the feature is not stronger in toxic rows than in benign ones."""
        span = self.toxic - self.benign
        return (activation - self.benign) / span if span > 0 else math.nan

    def to_record(self) -> dict[str, Any]:
        """In values that JSON can spell."""
        return asdict(self)


def from_record(record: Mapping[str, Any]) -> Trial:
    """The trial that `to_record` gave. Raises `ValueError`, `KeyError` or `TypeError`."""
    trial = Trial(**{**record, "words": tuple(str(word) for word in record["words"])})
    for name in ("harm_source", "words_source"):
        if record[name] not in get_args(RowSource):
            raise ValueError(f"{name} is {record[name]!r}")
    texts = {"words", "harm_source", "words_source"}
    require_numbers({name: record[name] for name in record.keys() - texts}, "a trial")
    return trial


def require_numbers(record: Mapping[str, Any], of: str) -> None:
    """Raise `ValueError` unless each value is a finite number, whole where it counts or names."""
    for name, value in record.items():
        whole = name == "feature" or name.endswith("_rows")
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise ValueError(f"{name} of {of} is {value!r}")
