"""Length and words alone: seen where they separate two sets, and not where they do not."""

import numpy as np
import pytest

from geofilter.packs.contrast import Contrast, Pairing
from geofilter.packs.halves import Halves, split_halves
from geofilter.packs.plain import measure
from helpers.tiny_models import sample, tiny_tokenizer


def sets(toxic: range, benign: range, *, longer: int = 0, paired: bool = False):
    """120 rows a side of 12 words; toxic ones have `longer` words more."""
    generator = np.random.default_rng(0)
    sides = []
    for words, length in ((toxic, 12 + longer), (benign, 12)):
        rows = [[1, 4 + n % 60, *generator.choice(words, size=length).tolist()] for n in range(120)]
        sides.append([sample(row) for row in rows])
    pairing = Pairing(tuple(f"d{n % 60 % 6}" for n in range(120))) if paired else None
    return split_halves(*(Contrast(side, "s.jsonl", "", {}, pairing=pairing) for side in sides))


@pytest.mark.parametrize("paired", [False, True])
def test_sets_alike_in_both_give_no_warning(paired):
    found = measure(sets(range(4, 64), range(4, 64), paired=paired), tiny_tokenizer())
    assert found.words.low < 0.5 < found.words.high
    assert found.length.value == 0.5
    assert found.warning() is None


@pytest.mark.parametrize("paired", [False, True])
def test_words_that_only_one_side_uses_are_seen(paired):
    found = measure(sets(range(4, 44), range(24, 64), paired=paired), tiny_tokenizer())
    assert found.words.value > 0.9
    assert found.warning().startswith("words alone (AUROC ")


def test_a_length_of_its_own_is_seen_in_either_direction():
    found = measure(sets(range(4, 64), range(4, 64), longer=3), tiny_tokenizer())
    assert "length alone (toxic rows are longer, AUROC 1.00)" in found.warning()
    found = measure(sets(range(4, 64), range(4, 64), longer=-3), tiny_tokenizer())
    assert "length alone (toxic rows are shorter, AUROC 0.00)" in found.warning()


def test_words_are_learnt_on_the_half_that_chooses():
    halves = sets(range(4, 44), range(24, 64))
    parts = halves.parts
    swapped = {"toxic selection": parts["benign selection"]}
    swapped["benign selection"] = parts["toxic selection"]
    found = measure(Halves({**parts, **swapped}, {}), tiny_tokenizer())
    assert found.words.value < 0.1
