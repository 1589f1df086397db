"""Closeness of features: chosen and confirmed on different rows, tested, told without acting."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geofilter.data.encoder import Encoder
from geofilter.errors import DataError
from geofilter.model.features import sample_features
from geofilter.model.loading import at_block, load
from geofilter.settings import PROXIMITIES
from geofilter.stats.permutation import greater_mean_p, holm
from geofilter.studies.closeness import (
    Comparison,
    Effects,
    RowSets,
    block_trend,
    compare,
    corrected,
    measure,
    read_sets,
    split,
    study,
)
from helpers.tiny_models import (
    D_SAE,
    contrast,
    random_samples,
    sample,
    tiny_contrast,
    tiny_model,
    tiny_setting,
)


@pytest.fixture(scope="module")
def sets() -> RowSets:
    return RowSets(None, *tiny_contrast())


def phi(model, samples) -> np.ndarray:
    """Pooled latents of every sample, (rows, d_sae)."""
    dense = np.zeros((len(samples), D_SAE))
    for row, features in enumerate(sample_features(model, samples)):
        dense[row, features.latents] = features.weights
    return dense


def tokens(samples) -> set[tuple[int, ...]]:
    return {tuple(sample.ids.tolist()) for sample in samples}


# -- rows ---------------------------------------------------------------------------


def test_no_row_stands_in_two_parts_and_none_is_lost(sets):
    halves, left_out = split([sets])
    parts = [tokens(part) for part in halves[0].parts.values()]
    assert [len(part) for part in parts] == [30] * 4
    assert len(set.union(*parts)) == 120
    assert set.union(*parts) == tokens([*sets.inducing.samples, *sets.benign.samples])
    assert left_out == []


def test_a_domain_with_too_few_rows_is_left_out_with_its_reason(sets):
    small = replace(sets.inducing, samples=sets.inducing.samples[:7], source="few.jsonl")
    halves, left_out = split([RowSets("few", small, sets.benign), replace(sets, domain="all")])
    assert [one.domain for one in halves] == ["all"]
    assert [(one.domain, one.block) for one in left_out] == [("few", None)]
    assert "few.jsonl: 7 usable distinct rows, at least 20" in left_out[0].reason


def test_too_few_rows_in_every_domain_are_refused(sets):
    small = replace(sets.inducing, samples=sets.inducing.samples[:7])
    with pytest.raises(DataError, match=r"7 usable distinct rows.*\(and 1 more such\)"):
        split([RowSets("a", small, sets.benign), RowSets("b", small, sets.benign)])


def test_the_same_rows_twice_are_refused(sets):
    with pytest.raises(DataError, match=r"share 60 rows"):
        split([RowSets(None, sets.inducing, sets.inducing)])


# -- what rows raise ----------------------------------------------------------------


def test_effects_are_standardised_differences_of_each_half_by_numpy(sets):
    model = tiny_setting()[0]
    halves, _ = split([sets])
    (found,) = measure(model, halves)
    for half, effects in (("selection", found.chosen_on), ("report", found.confirmed_on)):
        above, below = (
            phi(model, halves[0].parts[f"{side} {half}"]) for side in ("inducing", "benign")
        )
        scale = np.sqrt((above.var(0, ddof=1) + below.var(0, ddof=1)) / 2)
        with np.errstate(invalid="ignore"):
            expected = np.nan_to_num((above.mean(0) - below.mean(0)) / scale)
        np.testing.assert_allclose(effects, expected, rtol=1e-5, atol=1e-6)
    assert set(found.rows.values()) == {30}


def test_benign_rows_that_domains_share_pass_the_model_once(sets):
    other = contrast(random_samples(60, seed=9, words=range(10, 50)), "other.jsonl")
    halves, _ = split([replace(sets, domain="a"), RowSets("b", other, sets.benign)])
    told = []
    both = measure(tiny_setting()[0], halves, progress=lambda *done: told.append(done))
    assert told[-1] == ("block 1", 180, 180)
    (alone,) = measure(tiny_setting()[0], halves[1:])
    np.testing.assert_allclose(both[1].chosen_on, alone.chosen_on, rtol=1e-4, atol=1e-5)


def test_a_domain_with_too_few_finite_activations_is_left_out_and_the_others_are_compared(sets):
    model, pack = tiny_model(), tiny_setting()[1]
    with torch.no_grad():
        model.network.get_input_embeddings().weight[3] = float("nan")
    others = random_samples(60, seed=9, words=range(10, 40))
    broken = contrast([sample([1, 3, *one.ids[1:].tolist()]) for one in others], "broken.jsonl")
    whole = replace(sets.inducing, sha256="1" * 64)  # other rows than the pack's
    named = [RowSets("whole", whole, sets.benign), RowSets("broken", broken, sets.benign)]
    found = study([model], named, lambda _: pack, top_k=60, permutations=50)
    assert [one.domain for one in found.comparisons] == ["whole"]
    (left,) = found.left_out
    assert (left.block, left.domain) == (1, "broken")
    assert "block 1, broken: inducing selection: 0 usable" in left.reason


# -- the comparison -----------------------------------------------------------------

LATENTS = 200


def index_of(mean, nearest=None, toxic=(), block=2):
    """What `compare` needs of a `ToxicIndex`."""
    proximity = {
        "mean": np.asarray(mean),
        "nearest": np.asarray(mean if nearest is None else nearest),
    }
    return SimpleNamespace(
        pack=SimpleNamespace(ids=np.array(toxic, np.int32), block=block), proximity=proximity
    )


def planted(domain=None):
    """Effects that fall from latent 0 to the last, confirmed by the other half."""
    effects = np.linspace(2, -2, LATENTS)
    return Effects(domain, effects, effects / 2, {})


def near(nearer: float, seed: int = 0) -> np.ndarray:
    """Proximities, of which those of the first half of the latents are greater."""
    noise = np.random.default_rng(seed).normal(0, 0.05, LATENTS)
    return noise + np.where(np.arange(LATENTS) < LATENTS // 2, nearer, 0)


def test_the_features_are_those_most_raised_on_either_side_in_order():
    found = compare(index_of(near(0)), planted(), top_k=7, permutations=99)
    assert found.features["inducing"].tolist() == list(range(7))
    assert found.features["other"].tolist() == list(range(LATENTS - 1, LATENTS - 8, -1))


def test_toxic_features_are_left_out_and_counted():
    toxic = [1, 4, LATENTS - 3, 60]
    found = compare(index_of(near(0), toxic=toxic), planted(), top_k=7, permutations=99)
    assert found.features["inducing"].tolist() == [0, 2, 3, 5, 6]
    assert LATENTS - 3 not in found.features["other"]
    assert found.shared == {"inducing": 2, "other": 1}


def test_features_that_the_other_half_denies_are_left_out_and_counted():
    effects = planted()
    denied = effects.confirmed_on.copy()
    denied[[2, 5]] *= -1
    denied[LATENTS - 1] = 0
    found = compare(
        index_of(near(0)), replace(effects, confirmed_on=denied), top_k=7, permutations=99
    )
    assert found.features["inducing"].tolist() == [0, 1, 3, 4, 6]
    assert found.unconfirmed == {"inducing": 2, "other": 1}


def test_planted_closeness_is_found_in_the_form_that_holds_it_and_nowhere_else():
    index = index_of(near(0.1), nearest=near(0, seed=1))
    found = compare(index, planted(), top_k=40, permutations=2000).closeness
    assert found["mean"].p == 1 / 2001
    assert found["mean"].effect_low > 0.5
    assert 0.01 < found["nearest"].p < 0.99
    turned = compare(index_of(-near(0.1)), planted(), top_k=40, permutations=2000).closeness
    assert turned["mean"].p > 0.999


def test_effect_size_interval_and_p_are_those_of_the_listed_proximities():
    one = compare(index_of(near(0.03)), planted(), top_k=20, permutations=500).closeness["mean"]
    a, b = near(0.03)[:20], near(0.03)[: LATENTS - 21 : -1]
    np.testing.assert_array_equal(one.inducing, a)
    np.testing.assert_array_equal(one.other, b)
    d = (a.mean() - b.mean()) / math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    error = 1.96 * math.sqrt(40 / 400 + d**2 / 80)
    assert (one.effect_size, one.effect_low, one.effect_high) == pytest.approx(
        (d, d - error, d + error)
    )
    assert one.p == greater_mean_p(a, b, 500)


def test_no_features_left_is_refused_with_what_became_of_them():
    toxic = list(range(9))
    with pytest.raises(
        DataError, match=r"block 2, law\\x1b: .*inducing side.*: 1, .*\(9 are toxic"
    ):
        compare(index_of(near(0), toxic=toxic), planted("law\x1b"), top_k=10)


def test_proximities_that_are_all_equal_are_refused():
    with pytest.raises(DataError, match="equally near"):
        compare(index_of(np.full(LATENTS, 0.25)), planted(), top_k=10)


# -- over domains and blocks --------------------------------------------------------


def comparisons(nearer: dict[int, float], domains=("a", "b")) -> list[Comparison]:
    return [
        compare(index_of(near(by, seed), block=block), planted(domain), permutations=99)
        for block, by in nearer.items()
        for seed, domain in enumerate(domains)
    ]


def test_the_correction_is_over_every_test_of_the_study():
    found = corrected(comparisons({0: 0.02, 1: 0.0, 2: 0.1}))
    tests = [one.closeness[form] for one in found for form in PROXIMITIES]
    assert len(tests) == 12
    assert [one.p_holm for one in tests] == holm([one.p for one in tests])


def test_effects_that_fall_from_block_to_block_have_a_falling_trend():
    found = block_trend(comparisons({0: 0.2, 1: 0.1, 2: 0.05, 5: 0.0}), "mean")
    assert found is not None
    assert (found.rho, found.p_falling, found.p_rising) == pytest.approx((-1, 1 / 24, 1))


def test_a_trend_needs_three_blocks_and_a_domain_with_all_of_them():
    found = comparisons({0: 0.2, 1: 0.1, 2: 0.05})
    assert block_trend(found[:4], "mean") is None
    assert block_trend(found[1:-1], "mean") is None
    assert block_trend(found[1:], "mean") == block_trend([*found[1::2]], "mean")


def test_a_study_makes_the_comparisons_of_its_parts(sets):
    model, pack = tiny_setting()
    other = contrast(random_samples(60, seed=9, words=range(10, 50)), "other.jsonl")
    pack = replace(pack, provenance={"toxic": {"sha256": "1" * 64}})
    pair = [replace(sets, domain="a"), RowSets("b", other, sets.benign)]
    found = study([model], pair, lambda _: pack, top_k=30, permutations=50)
    assert [(one.block, one.domain) for one in found.comparisons] == [(1, "a"), (1, "b")]
    assert found.trend == {}
    for one in found.comparisons:
        assert set(pack.ids) & {*one.features["inducing"], *one.features["other"]} == set()
        assert one.shared["inducing"] + len(one.features["inducing"]) <= 30


def test_toxic_features_chosen_from_the_inducing_rows_are_refused(sets):
    model, pack = tiny_setting()  # of contrast sets with the hash that `sets` have
    with pytest.raises(DataError, match="chosen from the inducing rows themselves"):
        study([model], [sets], lambda _: pack)


def test_a_model_read_at_another_block_gives_what_loading_it_there_gives():
    deep, shallow = (load("organism", block=block, device="cpu") for block in (3, 1))
    moved = at_block(deep, 1)
    assert (moved.fingerprint, moved.block) == (shallow.fingerprint, 1)
    assert moved.network is deep.network
    ids = random_samples(1)[0]
    found, expected = (sample_features(model, [ids])[0] for model in (moved, shallow))
    np.testing.assert_array_equal(found.latents, expected.latents)
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)


# -- domains in files ---------------------------------------------------------------


@pytest.fixture
def encoder():
    return Encoder(tiny_setting()[0].tokenizer, max_length=48)


def write(path: str, rows: list[dict]) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(word: int, **columns) -> dict:
    return {"prompt": "w1", "response": f"w{word} w{word // 2}", **columns}


def test_domains_meet_the_benign_rows_of_their_own(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    inducing = [row(1, d="a"), row(2, d=7), row(3), row(4, d=None), row(5, d="a"), row(6, d="c")]
    benign = [row(11, d="a"), row(12, d="7"), row(13, d=["a"]), row(14, d="x")]
    read = read_sets(write("i.jsonl", inducing), write("b.jsonl", benign), encoder, by="d")
    assert [one.domain for one in read.sets] == ["a", "7", "c"]
    assert [len(one.inducing.samples) for one in read.sets] == [2, 1, 1]
    assert [len(one.benign.samples) for one in read.sets] == [1, 1, 0]
    assert read.without_domain == {"inducing": 2, "benign": 1}
    assert read.sets[2].benign.source == "b.jsonl (d=c)"


def test_domains_meet_all_benign_rows_where_those_have_no_domain(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    inducing, benign = [row(1, d="a"), row(2, d="b")], [row(11), row(12), row(13)]
    read = read_sets(write("i.jsonl", inducing), write("b.jsonl", benign), encoder, by="d")
    assert [len(one.benign.samples) for one in read.sets] == [3, 3]
    assert read.without_domain == {"inducing": 0, "benign": 0}


def test_rows_that_cannot_be_used_are_counted_in_their_domain(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    inducing = [row(1, d="a"), {"prompt": "w1", "response": "", "d": "a"}, row(2, d="b")]
    read = read_sets(write("i.jsonl", inducing), write("b.jsonl", [row(3)]), encoder, by="d")
    assert [one.inducing.skipped for one in read.sets] == [{"empty": 1}, {}]


def test_a_column_that_no_row_has_is_refused(tmp_path, monkeypatch, encoder):
    monkeypatch.chdir(tmp_path)
    write("i.jsonl", [row(1)])
    with pytest.raises(DataError, match=r"i.jsonl: no row has .* column 'd\\x1b'"):
        read_sets("i.jsonl", "i.jsonl", encoder, by="d\x1b")
