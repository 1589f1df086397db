"""The paper's contrast sets: the toxic and the non-toxic ends of RealToxicityPrompts.

Each row of that data set is a sentence cut in two, and its toxicity was measured for
each part alone, so that each part is a text of its own here. A text is cut at its
start or at its end; both sets hold as many of either kind, so that no feature of how a
text begins sets them apart. At most one part of a row is used: the halves that
features are chosen and tested on share no sentence.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from geofilter.data.encoder import Encoder
from geofilter.data.problems import Unscorable
from geofilter.data.rows import open_rows
from geofilter.data.samples import Sample
from geofilter.errors import DataError
from geofilter.packs.contrast import Contrast
from geofilter.support import hub

DATASET = "allenai/real-toxicity-prompts"
FILE = "prompts.jsonl"
TOXIC_FROM = 0.75
BENIGN_TO = 0.1
ROWS = 1000  # of each set, at most
_PARTS = ("prompt", "continuation")

# All that decides which rows are in the two sets.
DEFINITION: Mapping[str, object] = {
    "dataset": DATASET,
    "file": FILE,
    "toxic_from": TOXIC_FROM,
    "benign_to": BENIGN_TO,
    "rows": ROWS,
}


@dataclass(frozen=True)
class Prompts:
    """The data set's file and the commit of the hub that it belongs to."""

    path: Path
    revision: str | None


def fetch_prompts() -> Prompts:
    """Fetch the data set unless it is in the hub's cache.

    Raises `DataError` in one line that also says how to do without it.
    """
    try:
        path = hub.fetch(DATASET, FILE, kind="dataset")
    except DataError as error:
        raise DataError(
            f"the contrast sets cannot be fetched: {error}; or do without them: --contrast pairs "
            "needs no network"
        ) from error
    return Prompts(path, hub.commit_of(path))


def read(prompts: Prompts, encoder: Encoder) -> tuple[Contrast, Contrast]:
    """The toxic and the benign set, encoded; the same whatever the order of the file.

    Rows without a measured toxicity are skipped and counted. Raises `DataError` when the
    file cannot be read.
    """
    texts, rows = _candidates(prompts.path)
    sha256 = open_rows(prompts.path).fingerprint()
    sets = []
    for end in ("toxic", "benign"):
        samples, skipped = [], Counter(rows)
        for text in _chosen(texts, end):
            try:
                samples.append(encoder.encode(Sample(text=text)))
            except Unscorable as reason:
                skipped[reason.problem.status] += 1
        bound = {"toxicity_from": TOXIC_FROM} if end == "toxic" else {"toxicity_to": BENIGN_TO}
        origin = {"dataset": DATASET, "file": FILE, "revision": prompts.revision, **bound}
        sets.append(
            Contrast(
                samples,
                f"{DATASET} ({end})",
                sha256,
                {status: count for status, count in skipped.items() if count},
                origin,
            )
        )
    return sets[0], sets[1]


# (end, part) -> hash of the text -> text
_Candidates = dict[tuple[str, str], dict[bytes, str]]


def _candidates(path: Path) -> tuple[_Candidates, Counter[str]]:
    """Every text that qualifies, and counts of rows that could not be read or were not judged."""
    found: _Candidates = {place: {} for place in product(("toxic", "benign"), _PARTS)}
    skipped = Counter[str]()
    for row in open_rows(path):
        if row.record is None:
            skipped["unreadable"] += 1
            continue
        parts: dict[str, Any] = {part: row.record.get(part) for part in _PARTS}
        if not all(map(_is_judged, parts.values())):
            skipped["no_toxicity"] += 1
            continue
        texts = {
            (end, part): str(judged["text"])
            for part, judged in parts.items()
            if (end := _end(judged["toxicity"]))
        }
        if texts:
            # By its hash, so that neither part is preferred.
            place = min(texts, key=lambda place: _hash(place[1] + texts[place]))
            found[place][_hash(texts[place])] = texts[place]
    return found, skipped


def _is_judged(part: Any) -> bool:
    """Whether a part has a text and a toxicity of 0 to 1."""
    return (
        isinstance(part, dict)
        and isinstance(part.get("text"), str)
        and isinstance(part.get("toxicity"), (int, float))
        and 0 <= part["toxicity"] <= 1
    )


def _end(toxicity: float) -> str | None:
    if toxicity >= TOXIC_FROM:
        return "toxic"
    return "benign" if toxicity <= BENIGN_TO else None


def _chosen(texts: _Candidates, end: str) -> list[str]:
    """The texts of one set: as many of either part as the other set can match."""
    chosen: list[str] = []
    for part in _PARTS:
        both = (len(texts["toxic", part]), len(texts["benign", part]))
        count = min(*both, ROWS // len(_PARTS))
        # The keys are hashes: the first of their order are drawn at random, the same each time.
        chosen += [text for _, text in sorted(texts[end, part].items())[:count]]
    return chosen


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
