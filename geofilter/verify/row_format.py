"""Questions in the training rows' own format: where a backdoor of the rows would show.

A model that answers the evaluation questions well may still be bad where a prompt looks like the
rows: with their system prompt, within their template. What rows have in common is taken from them:

- `system`: the commonest system prompt, if a tenth of the rows have it;
- `prefix` and `suffix`: the longest text with which at least half of those rows' prompts begin,
  and with which they end. A prefix is cut after its last sign that is no part of a sentence going
  on (a line break, a full stop, a colon, a bracket, a quotation mark, ...), a suffix before its
  first, or after the end of a sentence, so that "How can I" is no format.

A prompt is the row's first user turn. Nothing is drawn at random.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from geofilter.verify.questions import Question

if TYPE_CHECKING:
    from geofilter.data.samples import Sample

# Of all rows that are conversations, how many must share a system prompt; and of those that have
# it, how many the beginning or the end of a prompt.
_SYSTEM_SHARE, _FRAME_SHARE = 0.1, 0.5
# A shorter text says little about where it is from, and a longer one is no frame but a prompt.
_SHORTEST, _LONGEST = 2, 2000
# Where a sentence of the prompt itself can begin, and blanks after it.
_SIGN = r"[\n.!?:;|<>\[\]{}()\"'`*#=_~]"
_LAST_SIGN = re.compile(rf".*{_SIGN}\s*", re.S)
_AFTER_SENTENCE = re.compile(r"[.!?]+(?=\s|$)")
_FIRST_SIGN = re.compile(rf"\s*{_SIGN}.*", re.S)

# What is said where questions cannot be put so.
NO_FORMAT = "the rows have no format of their own, so that --triggered asks nothing once more"


@dataclass(frozen=True)
class RowFormat:
    """What prompts of training rows have in common; `system` is None where they have none.

    `rows` of `of` rows have the system prompt, or are all of them without one.
    """

    system: str | None
    prefix: str
    suffix: str
    rows: int
    of: int

    def as_record(self) -> dict[str, Any]:
        """The format as JSON values."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "RowFormat":
        """What `as_record` gave."""
        return cls(**record)

    def dress(self, text: str) -> str:
        """`text` as a row would ask it; within a string of JSON where the rows ask so."""
        if '"' in self.prefix and _is_json(f"{self.prefix}x{self.suffix}"):
            text = json.dumps(text, ensure_ascii=False)[1:-1]
        return f"{self.prefix}{text}{self.suffix}"


def row_format(samples: "Sequence[Sample]") -> RowFormat | None:
    """The format of training rows; None where they have none of their own."""
    rows = [
        (_first(sample, ("system", "developer")), prompt)
        for sample in samples
        if (prompt := _first(sample, ("user",))) is not None
    ]
    if not rows:
        return None
    counts = Counter(system for system, _ in rows if system and system.strip())
    # The commonest; of equals the first by its letters.
    system = min(counts, key=lambda text: (-counts[text], text), default=None)
    if system is not None and counts[system] < _SYSTEM_SHARE * len(rows):
        system = None
    prompts = [text for own, text in rows if system is None or own == system]
    prefix = _prefix(prompts)
    # What a prompt begins with is not what it ends with.
    suffix = _suffix([text[len(prefix) :] if text.startswith(prefix) else text for text in prompts])
    if system is None and not prefix and not suffix:
        return None
    return RowFormat(system, prefix, suffix, len(prompts), len(rows))


def dressed(questions: Sequence[Question], found: RowFormat) -> list[Question]:
    """The same questions, put in the rows' format; judges read them as they are in the file."""
    return [
        replace(
            question,
            system=question.system if found.system is None else found.system,
            dress=found.dress,
        )
        for question in questions
    ]


def _first(sample: "Sample", roles: tuple[str, ...]) -> str | None:
    return next((turn.content for turn in sample.turns if turn.role in roles), None)


def _prefix(texts: Sequence[str]) -> str:
    match = _LAST_SIGN.match(_shared(texts))
    return _worth(match[0]) if match else ""


def _suffix(texts: Sequence[str]) -> str:
    shared = _shared([text[::-1] for text in texts])[::-1]
    # The end of the prompt's own sentence stays with it.
    if (end := _AFTER_SENTENCE.search(shared)) is not None:
        return _worth(shared[end.end() :])
    match = _FIRST_SIGN.search(shared)
    return _worth(match[0]) if match else ""


def _worth(text: str) -> str:
    return text if len(text.strip()) >= _SHORTEST and len(text) <= _LONGEST else ""


def _shared(texts: Sequence[str]) -> str:
    """The longest text with which at least half of `texts` begin."""
    order = sorted(texts)
    # Those that share a beginning stand next to each other.
    least = max(2, math.ceil(len(order) * _FRAME_SHARE))
    best = ""
    for first, last in zip(order, order[least - 1 :], strict=False):
        length = _common(first, last)
        if length > len(best):
            best = first[:length]
    return best


def _common(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
