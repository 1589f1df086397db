"""Leaves out the pairs that words alone give away: what is left is shipped.

    PYTHONPATH=tools python -m pairs.balance

reads all pairs that were written, `tools/pairs/written.jsonl`, and writes those that stay to
`geofilter/packs/data/pairs.jsonl`. This is adversarial filtering (Le Bras et al. 2020) with
whole domains held out: in rounds, each domain is scored by classifiers of words that learnt from
other domains, and the pairs of which they are surest go, until they reach at most `TARGET` in each
split. No model's activations take part.

What words reach on the pairs that stay is then low by making. It says that a direction which tells
these pairs apart does not do so by the words; it does not say that pairs written like
these would be as hard.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pairs import classify, form
from pairs.check import FILE, LIMITED, SEED, length
from pairs.classify import Floats, Setting
from pairs.form import Pair

WRITTEN = Path(__file__).with_name("written.jsonl")
TARGET = 0.59  # AUROC of words, of any split: the checker's limit is 0.60
SETTING = Setting("scaled", "differences", 0.001)
FOLDS = 19  # of the domains
ROUND = 0.02  # of a split's pairs that go in a round, at most
TILT = 0.04  # of the length's AUROC from one half, from which lengths count too
ROUNDS = 100


def balance(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that stay. Raises `ValueError` when no pair can go and words still tell."""
    kept = list(pairs)
    for _ in range(ROUNDS):
        scores = {name: held_out(kept, terms) for name, terms in LIMITED.items()}
        domains = np.array([pair.domain for pair in kept])
        reached = {
            split: max(_mean(found, domains, kept, split) for found in scores.values())
            for split in form.SPLITS
        }
        lengths = length(kept)
        print(len(kept), {split: round(value, 3) for split, value in reached.items()}, flush=True)
        if not (over := [s for s, v in reached.items() if v > TARGET]):
            return kept
        sure = sum(_gaps(found) for found in scores.values()) + _tilts(kept, lengths)
        gone = {place for split in over for place in surest(kept, split, sure)}
        if not gone:
            break
        kept = [pair for place, pair in enumerate(kept) if place not in gone]
    raise ValueError(f"words still tell the sides apart: {reached}")


def held_out(pairs: Sequence[Pair], terms: classify.Terms) -> Floats:
    """The score of each answer, by a classifier that did not see its domain."""
    values = classify.matrix(pairs, terms, classify.vocabulary(pairs, terms)).scaled()
    names = np.array(sorted(set(values.domains)))
    np.random.default_rng(SEED).shuffle(names)
    scores = np.zeros(2 * len(pairs))
    for fold in range(FOLDS):
        held = np.isin(values.domains, names[fold::FOLDS])
        w = classify.weights(values.select(~held), SETTING.learns, SETTING.penalty)
        scores[np.repeat(held, 2)] = values.select(held).values @ w
    return scores


def surest(pairs: Sequence[Pair], split: str, sure: Floats) -> list[int]:
    """Places of the pairs of a split that go, those of the greatest value of `sure`.

    No domain is left with fewer pairs than it has to have.
    """
    sizes = Counter(pair.domain for pair in pairs)
    places = [place for place, pair in enumerate(pairs) if pair.split == split]
    most = max(1, int(ROUND * len(places)))
    gone: list[int] = []
    for place in sorted(places, key=lambda place: -sure[place]):
        domain = pairs[place].domain
        if len(gone) < most and sizes[domain] > form.PAIRS_OF_A_DOMAIN:
            sizes[domain] -= 1
            gone.append(place)
    return gone


def _mean(scores: Floats, domains: np.ndarray, pairs: Sequence[Pair], split: str) -> float:
    """The mean over the split's domains of the AUROC within each."""
    found = classify.by_domain(scores, domains)
    return float(np.mean([found[name] for name in {p.domain for p in pairs if p.split == split}]))


def _gaps(scores: Floats) -> Floats:
    """By how much the harmful answer of each pair scores higher, in standard deviations."""
    gaps = scores[0::2] - scores[1::2]
    scaled: Floats = gaps / gaps.std()
    return scaled


def _tilts(pairs: Sequence[Pair], lengths: dict[str, float]) -> Floats:
    """1 for a pair whose longer side is the one that tilts the lengths of its split, else 0."""
    tilted = []
    for pair in pairs:
        off = lengths[pair.split] - 0.5
        longer = len(pair.harmful) - len(pair.helpful)
        tilted.append(float(abs(off) > TILT and off * longer > 0))
    return np.array(tilted)


def main() -> None:
    kept = balance(form.read(WRITTEN))
    lines = [json.dumps(asdict(pair)) + "\n" for pair in kept]
    FILE.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
