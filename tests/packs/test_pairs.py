"""Paired contrast sets: what is read as a pair, and that pairs and domains stay together."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from geofilter.data.encoder import Encoder
from geofilter.errors import DataError
from geofilter.model.features import sample_features
from geofilter.packs import pairs as module
from geofilter.packs.contrast import Contrast, Pairing
from geofilter.packs.falsify import falsify
from geofilter.packs.halves import split_halves
from geofilter.packs.make import make_pack
from geofilter.packs.pairs import FIELDS, TESTED, read_pairs, read_shipped, shipped
from helpers.tiny_models import D_SAE, random_samples, sample, tiny_model, tiny_tokenizer

ENCODER = Encoder(tiny_tokenizer(), max_length=32)


def paired(count: int = 60, domains: int = 6, seed: int = 0) -> tuple[Contrast, Contrast]:
    """Pairs with a prompt of their own, whose harmful side holds more low words."""
    generator = np.random.default_rng(seed)
    sides: list[list] = [[], []]
    for pair in range(count):
        prompt = [1, 4 + pair % 50, 4 + pair // 50]
        for side, words in zip(sides, (range(4, 44), range(24, 64)), strict=True):
            ids = prompt + generator.choice(words, size=12).tolist()
            side.append(sample(ids, prompt=3))
    pairing = Pairing(tuple(f"d{pair // 2 % domains}" if domains else "" for pair in range(count)))
    toxic, benign = (Contrast(side, "p.jsonl", "0" * 64, {}, pairing=pairing) for side in sides)
    return toxic, benign


def prompts(samples) -> list[tuple[int, ...]]:
    return [tuple(one.ids[:3].tolist()) for one in samples]


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def row(n: int, **more) -> dict:
    return {"prompt": f"w{n}", "chosen": f" w{n} w2 w3", "rejected": f" w{n} w4 w5", **more}


def test_the_shipped_pairs_have_three_parts_of_different_domains():
    parts = {split: shipped(split) for split in module.SPLITS}
    domains = [{pair.domain for pair in part} for part in parts.values()]
    assert sum(map(len, parts.values())) == len(shipped()) >= 900
    assert not set.intersection(*domains[:2]) | set.intersection(*domains[1:])
    with pytest.raises(DataError, match="mak: is no split of the pairs: make, choose, report"):
        shipped("mak")


def test_packs_choose_by_make_and_test_on_some_of_report(monkeypatch):
    class Echo:
        def encode(self, one):
            return one

    toxic, benign = read_shipped(Echo())  # type: ignore[arg-type]
    known = {pair.harmful: pair for pair in shipped()}
    read = [known[one.turns[1].content] for one in toxic.samples]
    assert [pair for pair in read if pair.split == "make"] == shipped("make")
    tested = Counter(pair.domain for pair in read if pair.split != "make")
    assert tested == {pair.domain: TESTED for pair in shipped("report")}
    assert [one.turns[1].content for one in benign.samples] == [pair.helpful for pair in read]
    assert toxic.pairing is not None
    assert toxic.pairing.selection == {pair.domain for pair in shipped("make")}


def test_rejected_is_the_harmful_side_and_a_domain_is_read(tmp_path):
    place = write(tmp_path / "p.jsonl", [row(n, domain="home") for n in range(7, 10)])
    toxic, benign = read_pairs(place, ENCODER)
    words = tiny_tokenizer().convert_tokens_to_ids(["w4", "w2"])
    assert all(words[0] in one.ids and words[1] not in one.ids for one in toxic.samples)
    assert all(words[1] in one.ids and words[0] not in one.ids for one in benign.samples)
    assert toxic.pairing == benign.pairing == Pairing(("home",) * 3)
    assert toxic.sha256 == benign.sha256
    assert len(read_pairs(place, ENCODER, most=2)[0].samples) == 2


def test_rows_without_a_usable_pair_are_counted(tmp_path):
    rows = [row(0), row(1), {"prompt": "w1", "response": "w2"}, {**row(2), "chosen": ""}]
    toxic, benign = read_pairs(write(tmp_path / "p.jsonl", rows), ENCODER)
    assert len(toxic.samples) == len(benign.samples) == 2
    assert toxic.skipped == {"no_pair": 1, "empty": 1}


def test_a_set_without_pairs_is_refused_with_what_to_do(tmp_path):
    rows = [{"prompt": "w1", "response": f"w{n}"} for n in range(30)]
    with pytest.raises(DataError, match=r"p.jsonl: no row holds a usable pair .* rejected"):
        read_pairs(write(tmp_path / "p.jsonl", rows), ENCODER)


def test_pairs_whose_sides_are_the_same_are_refused_or_counted(tmp_path):
    same = [{**row(n), "rejected": row(n)["chosen"]} for n in range(25)]
    sets = read_pairs(write(tmp_path / "p.jsonl", same), ENCODER)
    with pytest.raises(DataError, match=r"two sides of each of the 25 pairs are the same"):
        split_halves(*sets)
    mixed = read_pairs(write(tmp_path / "q.jsonl", same + [row(n) for n in range(30)]), ENCODER)
    halves = split_halves(*mixed)
    assert halves.counts["same sides"] == 25
    assert sum(map(len, halves.parts.values())) == 60


def test_too_few_pairs_are_refused_with_their_number(tmp_path):
    sets = read_pairs(write(tmp_path / "p.jsonl", [row(n) for n in range(19)]), ENCODER)
    with pytest.raises(DataError, match=r"p.jsonl: 19 usable distinct pairs, at least 20"):
        split_halves(*sets)


@pytest.mark.parametrize("domains", [0, 2, 6])
def test_pairs_prompts_and_domains_stay_together(domains):
    toxic, benign = paired(domains=domains)
    # Of each prompt two pairs.
    toxic = replace(toxic, samples=[toxic.samples[n // 2 * 2] for n in range(60)])
    toxic.samples[1::2] = paired(seed=3, domains=domains)[0].samples[::2]
    benign = replace(benign, samples=[benign.samples[n // 2 * 2] for n in range(60)])
    halves = split_halves(toxic, benign)
    sides = {}
    for half in ("selection", "report"):
        of_toxic, of_benign = (prompts(halves.parts[f"{s} {half}"]) for s in ("toxic", "benign"))
        assert of_toxic == of_benign
        assert len(of_toxic) == 30 == len(halves.groups[half])
        sides[half] = set(of_toxic)
    assert not sides["selection"] & sides["report"]
    by_domain = domains > 3
    assert (set(halves.groups["selection"]) < {f"d{n}" for n in range(6)}) == by_domain
    assert not set(halves.groups["selection"]) & set(halves.groups["report"])


def test_the_order_of_the_pairs_decides_nothing():
    toxic, benign = paired()
    turned = Pairing(toxic.pairing.domains[::-1])
    back = [replace(one, samples=one.samples[::-1], pairing=turned) for one in (toxic, benign)]
    before, after = split_halves(toxic, benign), split_halves(*back)
    assert before.groups == after.groups
    assert prompts(before.parts["toxic report"]) == prompts(after.parts["toxic report"])


def test_features_of_pairs_are_those_of_greatest_difference_within_pairs():
    model, (toxic, benign) = tiny_model(), paired()
    halves = split_halves(toxic, benign)
    phi = np.zeros((2, 30, D_SAE))
    for side, name in enumerate(("toxic", "benign")):
        for n, one in enumerate(sample_features(model, halves.parts[f"{name} selection"])):
            phi[side, n, one.latents] = one.weights
    gap = phi[0] - phi[1]
    spread = gap.std(axis=0, ddof=1) / np.sqrt(2)
    effect = np.divide(gap.mean(axis=0), spread, out=np.zeros(D_SAE), where=spread > 0)
    effect[(phi[0] > 0).sum(axis=0) < 3] = 0
    made = make_pack(model, toxic, benign, top_k=12)
    np.testing.assert_array_equal(made.pack.ids, np.argsort(-effect)[:12])
    np.testing.assert_allclose(
        made.pack.statistics.selection_effect, np.sort(effect)[::-1][:12], rtol=1e-4
    )


def test_the_pack_says_in_how_many_pairs_the_harmful_side_lies_further():
    made = make_pack(tiny_model(), *paired(), top_k=5)
    along = [
        np.array([one.mean_hidden @ made.pack.dense_direction for one in side])
        for side in (made.toxic, made.benign)
    ]
    figures = made.pack.contrast
    assert figures.pairs_in_order == pytest.approx(np.mean(along[0] > along[1]))
    assert figures.pairs_in_order_low < figures.pairs_in_order <= figures.pairs_in_order_high
    assert made.pack.provenance["paired"] is True
    assert sorted(set(made.groups.tolist())) == [0, 1, 2]


def test_a_pair_of_which_one_side_is_not_finite_is_left_out():
    import torch

    model, (toxic, benign) = tiny_model(), paired()
    with torch.no_grad():
        model.network.get_input_embeddings().weight[63] = float("nan")
    lost = sum(63 in one.ids for one in benign.samples)
    made = make_pack(model, toxic, benign, top_k=5)
    counts = made.pack.provenance["counts"]
    assert counts["benign selection not_finite"] + counts["benign report not_finite"] == lost > 0
    assert len(made.toxic) == len(made.benign) == 30 - counts["benign report not_finite"]


def test_unpaired_sets_of_one_length_stay_unpaired():
    sets = [Contrast(random_samples(40, seed), "a", "", {}) for seed in (1, 2)]
    assert not split_halves(*sets).groups


def test_the_fields_are_those_of_the_shipped_file():
    first = json.loads(module.SHIPPED.read_text().splitlines()[0])
    assert tuple(first) == FIELDS


def test_features_of_pairs_are_tried_on_words_that_change_sides_within_a_pair():
    model, sets = tiny_model(), paired()
    pack = make_pack(model, *sets, top_k=2).pack
    tried = falsify(model, pack, *sets)
    assert [trial.feature for trial in tried.trials] == pack.ids.tolist()
    assert {trial.harm_rows for trial in tried.trials} == {30}
