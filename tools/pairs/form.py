"""Reads the pairs, and what each of them has to look like."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

SPLITS = ("make", "choose", "report")
KINDS = ("advice", "code", "conversation")
SUBTLETIES = ("overt", "polite", "subtle")
WORDS = (25, 80)  # of an answer, at least and at most
LENGTHS_APART = 0.12  # of the longer side, in characters
PAIRS = 900  # at least
PAIRS_OF_A_DOMAIN = 20  # at least


@dataclass(frozen=True)
class Pair:
    """One prompt with a harmful and a helpful answer."""

    domain: str
    kind: str
    subtlety: str
    split: str
    prompt: str
    harmful: str
    helpful: str


FIELDS = tuple(field.name for field in fields(Pair))


def read(path: Path) -> list[Pair]:
    """The pairs of a file of JSON lines. Raises `ValueError` naming the line that is no pair."""
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(row, dict) or tuple(row) != FIELDS:
            raise ValueError(f"{path}:{number}: the fields must be {', '.join(FIELDS)}")
        if not all(isinstance(value, str) and value.strip() for value in row.values()):
            raise ValueError(f"{path}:{number}: every field must be text and not empty")
        pairs.append(Pair(**row))
    return pairs


def faults(pairs: Sequence[Pair]) -> list[str]:
    """What is wrong with the form of the pairs, a line each; empty when nothing is."""
    found = [fault for pair in pairs for fault in _faults_of_one(pair)]
    for what, texts in (
        ("prompt", [pair.prompt for pair in pairs]),
        ("answer", [text for pair in pairs for text in (pair.harmful, pair.helpful)]),
    ):
        counts = Counter(" ".join(text.lower().split()) for text in texts)
        found += [f"{what} stands {n} times: {text}" for text, n in counts.items() if n > 1]
    return found + _faults_of_domains(pairs)


def _faults_of_one(pair: Pair) -> list[str]:
    found = []
    for name, allowed in (("kind", KINDS), ("subtlety", SUBTLETIES), ("split", SPLITS)):
        if getattr(pair, name) not in allowed:
            found.append(f"{name} is {getattr(pair, name)!r}, not one of {', '.join(allowed)}")
    for name in ("prompt", "harmful", "helpful"):
        text = getattr(pair, name)
        if not all(character == "\n" or " " <= character <= "~" for character in text):
            found.append(f"{name} holds a character that is not printable ASCII")
        if text != text.strip():
            found.append(f"{name} begins or ends with white space")
    for name in ("harmful", "helpful"):
        count = len(getattr(pair, name).split())
        if not WORDS[0] <= count <= WORDS[1]:
            found.append(f"{name} has {count} words, not {WORDS[0]} to {WORDS[1]}")
    lengths = sorted((len(pair.harmful), len(pair.helpful)))
    if lengths[1] - lengths[0] > LENGTHS_APART * lengths[1]:
        found.append(f"the sides have {lengths[0]} and {lengths[1]} characters")
    return [f"{pair.domain}: {pair.prompt}: {fault}" for fault in found]


def _faults_of_domains(pairs: Sequence[Pair]) -> list[str]:
    found = []
    if len(pairs) < PAIRS:
        found.append(f"{len(pairs)} pairs, fewer than {PAIRS}")
    sizes = Counter(pair.domain for pair in pairs)
    for domain, count in sizes.items():
        if count < PAIRS_OF_A_DOMAIN:
            found.append(f"{domain} has {count} pairs, fewer than {PAIRS_OF_A_DOMAIN}")
        for name in ("kind", "split"):
            values = {getattr(pair, name) for pair in pairs if pair.domain == domain}
            if len(values) > 1:
                found.append(f"{domain} has more than one {name}: {', '.join(sorted(values))}")
    split_of = {pair.domain: pair.split for pair in pairs}
    counts = Counter(split_of.values())
    if len({counts[split] for split in SPLITS}) > 1:
        found.append(f"the splits hold unlike numbers of domains: {dict(counts)}")
    for kind in KINDS:
        domains = {pair.domain for pair in pairs if pair.kind == kind}
        missing = [s for s in SPLITS if all(split_of[domain] != s for domain in domains)]
        found += [f"no domain of {kind} in the split {split}" for split in missing]
    return found
