"""How near the prompts come to questions that models are evaluated with.

A question is named by its file and number: the texts belong to others and are not copied.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pairs.classify import Terms, characters, unigrams, words
from pairs.form import Pair

RUN = 4  # words in a row
NEAREST = 5
LONGEST = 120  # words of a text that is taken for a question


@dataclass(frozen=True)
class Question:
    name: str  # the file, and the number of the text in it
    text: str


@dataclass(frozen=True)
class Near:
    prompt: str
    question: str  # its name
    likeness: float  # from 0 to 1


def read(folder: Path) -> list[Question]:
    """Every text of 3 to `LONGEST` words in the folder's JSON, JSON lines and YAML files.

    Raises `ValueError` naming the file that cannot be read.
    """
    found = []
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".json", ".jsonl", ".yaml", ".yml"):
            continue
        text = path.read_text(encoding="utf-8")
        try:
            if path.suffix == ".jsonl":
                value: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
            else:
                value = yaml.safe_load(text)
        except (json.JSONDecodeError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: not YAML or JSON: {' '.join(str(error).split())}") from error
        texts = [leaf for leaf in _leaves(value) if 3 <= len(words(leaf)) <= LONGEST]
        found += [Question(f"{path.name}#{i}", leaf) for i, leaf in enumerate(texts)]
    return found


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)


def nearest_by_runs(pairs: Sequence[Pair], questions: Sequence[Question]) -> list[Near]:
    """The `NEAREST` pairs of prompt and question by the share of the prompt's runs of words.

    A run is `RUN` words in a row. The likeness is the share of the prompt's runs that the
    question holds as well.
    """
    known = [(question.name, _runs(question.text)) for question in questions]
    found = []
    for pair in pairs:
        runs = _runs(pair.prompt)
        shared, name = max(((len(runs & others), name) for name, others in known), default=(0, ""))
        if shared:
            found.append(Near(pair.prompt, name, shared / len(runs)))
    return sorted(found, key=lambda near: -near.likeness)[:NEAREST]


def _runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + RUN]) for i in range(len(found) - RUN + 1)}


def nearest(pairs: Sequence[Pair], questions: Sequence[Question], terms: Terms) -> list[Near]:
    """The `NEAREST` pairs of prompt and question by the cosine of their TF-IDF vectors."""
    texts = [terms(text) for text in (*(p.prompt for p in pairs), *(q.text for q in questions))]
    documents: Counter[str] = Counter()
    for counts in texts:
        documents.update(counts.keys())
    vectors = [_unit(counts, documents, len(texts)) for counts in texts]
    columns: dict[str, list[tuple[int, float]]] = {}
    for i, vector in enumerate(vectors[len(pairs) :]):
        for term, value in vector.items():
            columns.setdefault(term, []).append((i, value))
    found = []
    for pair, vector in zip(pairs, vectors, strict=False):
        cosines: dict[int, float] = {}
        for term, value in vector.items():
            for i, other in columns.get(term, ()):
                cosines[i] = cosines.get(i, 0.0) + value * other
        if cosines:
            best = max(cosines, key=lambda i: cosines[i])
            found.append(Near(pair.prompt, questions[best].name, cosines[best]))
    return sorted(found, key=lambda near: -near.likeness)[:NEAREST]


def _unit(counts: Counter[str], documents: Counter[str], total: int) -> dict[str, float]:
    vector = {t: (1 + math.log(n)) * math.log(total / documents[t]) for t, n in counts.items()}
    norm = math.sqrt(sum(value * value for value in vector.values())) or 1.0
    return {term: value / norm for term, value in vector.items()}


KINDS: Mapping[str, Terms] = {"words": unigrams, "characters": characters}
