"""Making a pack: features are chosen on one half of the rows and tested on the other."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from geofilter.data.encoder import Encoder
from geofilter.errors import DataError, PackError
from geofilter.model import latents
from geofilter.model.activations import residuals
from geofilter.model.features import sample_features
from geofilter.packs import make
from geofilter.packs.contrast import read_contrast
from geofilter.packs.halves import Halves, split_halves
from geofilter.packs.labels import label_features, token_activations
from geofilter.packs.make import make_pack
from helpers.tiny_models import (
    D_SAE,
    VOCABULARY,
    contrast,
    random_samples,
    sample,
    tiny_contrast,
    tiny_model,
    tiny_setting,
    tiny_tokenizer,
)


@pytest.fixture(scope="module")
def model():
    return tiny_setting()[0]


@pytest.fixture(scope="module")
def halves():
    return split_halves(*tiny_contrast()).parts


@pytest.fixture(scope="module")
def found(model):
    return make_pack(model, *tiny_contrast(), top_k=12)


def phi(model, samples):
    """Pooled latents of every sample, (rows, d_sae), float64."""
    dense = np.zeros((len(samples), D_SAE))
    for row, features in enumerate(sample_features(model, samples)):
        dense[row, features.latents] = features.weights
    return dense


def ids_of(samples):
    return sorted(encoded.ids.tolist() for encoded in samples)


def test_halves_share_no_row_and_lose_none(halves):
    toxic, benign = tiny_contrast()
    for name, whole in (("toxic", toxic), ("benign", benign)):
        selection, report = halves[f"{name} selection"], halves[f"{name} report"]
        assert len(selection) == len(report) == 30
        assert ids_of(selection + report) == ids_of(whole.samples)


def test_halves_do_not_depend_on_the_order_of_the_file(halves):
    toxic, benign = tiny_contrast()
    turned = split_halves(
        dataclasses.replace(toxic, samples=toxic.samples[::-1]),
        dataclasses.replace(benign, samples=benign.samples[::-1]),
    ).parts
    assert {name: ids_of(rows) for name, rows in turned.items()} == {
        name: ids_of(rows) for name, rows in halves.items()
    }


def test_equal_rows_count_once_and_never_on_both_sides():
    toxic, benign = tiny_contrast()
    doubled = dataclasses.replace(toxic, samples=[*toxic.samples, *toxic.samples[:7]])
    split = split_halves(doubled, benign)
    halves, counts = split.parts, split.counts
    assert counts["toxic duplicates"] == 7
    assert len(halves["toxic selection"] + halves["toxic report"]) == 60


def test_rows_in_both_sets_are_left_out_of_both_and_counted():
    toxic, benign = tiny_contrast()
    mixed = dataclasses.replace(benign, samples=[*benign.samples, *toxic.samples[:9]])
    split = split_halves(toxic, mixed)
    halves, counts = split.parts, split.counts
    assert counts["shared"] == 9
    assert len(halves["toxic selection"] + halves["toxic report"]) == 51
    assert len(halves["benign selection"] + halves["benign report"]) == 60


def test_two_copies_of_one_set_are_refused():
    toxic, _ = tiny_contrast()
    with pytest.raises(DataError, match=r"toxic.jsonl and toxic.jsonl share 60 rows"):
        split_halves(toxic, toxic)


@pytest.mark.parametrize("rows", [0, 1, 19])
def test_too_few_rows_are_refused_with_their_number(rows, model):
    toxic, benign = tiny_contrast()
    few = dataclasses.replace(benign, samples=benign.samples[:rows])
    with pytest.raises(DataError, match=rf"benign.jsonl: {rows} usable .* at least 20 are needed"):
        make_pack(model, toxic, few)


def test_features_are_those_of_greatest_standardised_difference_on_the_selection_half(
    found, halves, model
):
    toxic = phi(model, halves["toxic selection"])
    benign = phi(model, halves["benign selection"])
    scale = np.sqrt((toxic.var(axis=0, ddof=1) + benign.var(axis=0, ddof=1)) / 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        effect = np.nan_to_num((toxic.mean(axis=0) - benign.mean(axis=0)) / scale)
    effect[(toxic > 0).sum(axis=0) < 3] = 0
    expected = np.argsort(-effect)[:12]
    pack = found.pack
    np.testing.assert_array_equal(pack.ids, expected)
    np.testing.assert_allclose(pack.statistics.selection_effect, effect[expected], rtol=1e-4)
    np.testing.assert_allclose(pack.weights, effect[expected] / effect[expected].sum(), rtol=1e-4)
    np.testing.assert_allclose(pack.reference, benign.mean(axis=0), atol=1e-6)
    floor = 0.1 * scale[expected]
    deviation = np.maximum(benign.std(axis=0, ddof=1)[expected], floor)
    np.testing.assert_allclose(pack.benign_std, deviation, rtol=1e-4)


def test_statistics_are_those_of_the_report_half(found, halves, model):
    toxic, benign = phi(model, halves["toxic report"]), phi(model, halves["benign report"])
    statistics = found.pack.statistics
    for place, latent in enumerate(found.pack.ids):
        above, below = toxic[:, latent], benign[:, latent]
        wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)
        assert statistics.auroc[place] == pytest.approx(wins.mean(), abs=1e-6)
        assert statistics.toxic_firing[place] == pytest.approx((above > 0).mean())
        assert statistics.benign_firing[place] == pytest.approx((below > 0).mean())
        scale = np.sqrt((above.var(ddof=1) + below.var(ddof=1)) / 2)
        expected = (above.mean() - below.mean()) / scale if scale else 0
        assert statistics.effect[place] == pytest.approx(expected, abs=1e-4)
    for name in ("effect", "auroc", "toxic_firing", "benign_firing"):
        low, value, high = (getattr(statistics, f"{name}{end}") for end in ("_low", "", "_high"))
        assert (low <= value + 1e-6).all()
        assert (value <= high + 1e-6).all()


def test_the_dense_direction_is_the_difference_of_means_and_is_tested_on_other_rows(
    found, halves, model
):
    def hidden(name):
        features = sample_features(model, halves[name])
        return np.stack([one.mean_hidden for one in features]).astype(np.float64)

    direction = hidden("toxic selection").mean(axis=0) - hidden("benign selection").mean(axis=0)
    direction /= np.linalg.norm(direction)
    np.testing.assert_allclose(found.pack.dense_direction, direction, atol=1e-5)
    above, below = hidden("toxic report") @ direction, hidden("benign report") @ direction
    expected = (above[:, None] > below).mean()
    assert found.pack.contrast.persona_auroc == pytest.approx(expected, abs=1e-6)


def test_report_rows_change_no_part_of_the_pack_but_its_claims(model, halves):
    """Swap the report halves for other rows: what scoring uses stays as it was."""
    toxic, benign = tiny_contrast()
    known = make_pack(model, toxic, benign, top_k=12).pack
    strange = {
        "toxic selection": halves["toxic selection"],
        "benign selection": halves["benign selection"],
        "toxic report": random_samples(30, seed=8),
        "benign report": random_samples(30, seed=9),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "split_halves", lambda *_: Halves(strange, {}))
        other = make_pack(model, toxic, benign, top_k=12).pack
    for name in ("ids", "directions", "weights", "reference", "benign_std", "dense_direction"):
        np.testing.assert_array_equal(getattr(known, name), getattr(other, name))
    np.testing.assert_array_equal(known.residual_mean, other.residual_mean)
    assert known.contrast != other.contrast
    assert not np.array_equal(known.statistics.auroc, other.statistics.auroc)


def test_features_found_on_noise_do_not_look_good(model):
    """Chosen and tested on the same rows they would: the selection effects show it."""
    samples = random_samples(400, seed=3)
    pack = make_pack(model, contrast(samples[:200], "a"), contrast(samples[200:], "b")).pack
    assert (pack.statistics.selection_effect > 0).all()
    assert abs(pack.statistics.auroc.mean() - 0.5) < 0.06


def loud_word():
    """A model in which one word fills the residual stream, and latent 17 reads only it."""
    model, word = tiny_model(sae="jumprelu"), 62
    with torch.no_grad():
        model.network.get_input_embeddings().weight[word] *= 30
        at_word = residuals(model, [sample([1, 5, word])])[0, 2]
        direction = torch.nn.functional.normalize(at_word, dim=0)
        model.sae.W_enc[:, 17] = direction
        model.sae.W_dec[17] = direction
        model.sae.threshold[17] = 0.5 * at_word.norm()
    return model, word


def with_word(encoded, word):
    return sample([*encoded.ids.tolist()[:-1], word, 5])


def test_a_planted_feature_is_found_and_tests_well():
    model, word = loud_word()
    plain = random_samples(120, seed=4, words=range(4, 60))
    toxic = [with_word(encoded, word) for encoded in plain[:60]]
    pack = make_pack(model, contrast(toxic, "a"), contrast(plain[60:], "b"), top_k=50).pack
    place = pack.ids.tolist().index(17)
    assert pack.statistics.auroc[place] == 1
    assert pack.statistics.toxic_firing[place] == 1
    assert pack.statistics.benign_firing[place] == 0


def test_directions_are_unit_decoder_rows(found, model):
    rows = model.decoder.numpy()[found.pack.ids]
    expected = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.pack.directions, expected, atol=1e-6)


def test_explained_variance_is_about_one_fixed_mean(found, halves, model):
    features = found.toxic + found.benign
    centre = found.pack.residual_mean
    selection = sample_features(model, halves["toxic selection"] + halves["benign selection"])
    counts = [one.n_tokens for one in selection]
    mean = np.average([one.mean_hidden for one in selection], axis=0, weights=counts)
    np.testing.assert_allclose(centre, mean, atol=1e-5)
    per_row = [one.explained_variance(centre) for one in features]
    summary = found.pack.contrast
    assert summary.explained_variance_floor == pytest.approx(np.quantile(per_row, 0.05))
    assert min(per_row) <= summary.explained_variance <= max(per_row)


def test_the_pack_is_the_same_every_time_and_in_any_batch(found, model, monkeypatch):
    again = make_pack(model, *tiny_contrast(), top_k=12).pack
    assert again.digest == found.pack.digest
    monkeypatch.setattr(make, "_CHUNK", 5)
    parts = make_pack(model, *tiny_contrast(), top_k=12).pack
    np.testing.assert_array_equal(parts.ids, found.pack.ids)
    np.testing.assert_allclose(parts.reference, found.pack.reference, atol=1e-5)


def test_no_more_features_than_have_a_positive_contrast(model):
    pack = make_pack(model, *tiny_contrast(), top_k=10**6).pack
    assert 12 < len(pack) < D_SAE
    assert (pack.statistics.selection_effect > 0).all()
    assert (np.diff(pack.statistics.selection_effect) <= 0).all()


@pytest.mark.parametrize("top_k", [0, -3])
def test_top_k_below_one_is_refused(top_k, model):
    with pytest.raises(PackError, match=f"top-k is {top_k}"):
        make_pack(model, *tiny_contrast(), top_k=top_k)


def test_a_latent_that_two_rows_activate_is_no_feature():
    model, word = loud_word()
    plain = random_samples(120, seed=4, words=range(4, 60))
    for rows, chosen in ((2, False), (30, True)):
        toxic = [with_word(encoded, word) for encoded in plain[:rows]] + plain[rows:60]
        sets = contrast(toxic, "a"), contrast(plain[60:], "b")
        firings = (phi(model, split_halves(*sets).parts["toxic selection"])[:, 17] > 0).sum()
        assert 1 <= firings <= rows
        assert (17 in make_pack(model, *sets, top_k=D_SAE).pack.ids) == chosen


def test_nothing_stronger_in_toxic_rows_is_said_so(model):
    with torch.no_grad():
        silent = tiny_model(sae="jumprelu")
        silent.sae.threshold.fill_(1e6)
    with pytest.raises(PackError, match="no latent is stronger in the toxic rows"):
        make_pack(silent, *tiny_contrast())


def test_rows_that_are_not_finite_are_counted(model):
    broken = tiny_model()
    with torch.no_grad():
        broken.network.get_input_embeddings().weight[63] = float("nan")
    toxic, benign = tiny_contrast()
    found = make_pack(broken, toxic, benign, top_k=5)
    counts = found.pack.provenance["counts"]
    lost = sum(63 in encoded.ids for encoded in benign.samples)
    assert lost > 0
    assert counts["benign selection not_finite"] + counts["benign report not_finite"] == lost
    assert found.pack.contrast.toxic_rows == 30


def test_progress_counts_every_row_once(model):
    seen = []
    make_pack(model, *tiny_contrast(), top_k=3, progress=lambda *step: seen.append(step))
    assert seen == [("discover", done, 120) for done in (30, 60, 90, 120)]


def test_max_pooling_is_kept_in_the_pack(model):
    pack = make_pack(model, *tiny_contrast(), top_k=5, pooling="max").pack
    assert pack.pooling == "max"
    assert pack.reference.sum() > make_pack(model, *tiny_contrast(), top_k=5).pack.reference.sum()


def test_labels_are_the_tokens_at_which_a_feature_is_most_active(model):
    samples, ids = random_samples(12), np.arange(40, 52, dtype=np.int32)
    greatest = {}
    for encoded in samples:
        with torch.no_grad():
            latents = model.sae.encode(residuals(model, [encoded])[0])
        for position in np.flatnonzero(encoded.pooled):
            for feature in ids:
                key = (int(feature), int(encoded.ids[position]))
                greatest[key] = max(float(latents[position, feature]), greatest.get(key, 0.0))
    assert any(greatest.values())
    for feature, label in zip(ids, label_features(model, ids, samples), strict=True):
        active = {word: value for (f, word), value in greatest.items() if f == feature and value}
        order = sorted(active, key=active.__getitem__, reverse=True)
        assert list(label) == [f"w{word - 4}" for word in order[:5]]


@pytest.mark.parametrize("screened", [True, False])
def test_a_row_that_is_not_finite_has_no_part_in_labels(monkeypatch, screened):
    monkeypatch.setattr(latents, "_can_screen", lambda sae: screened)
    model = tiny_model(sae="jumprelu")
    rows = random_samples(20, words=range(4, 60))
    ids = np.arange(6, dtype=np.int32)
    expected = label_features(model, ids, rows)
    assert any(expected)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[63] = float("inf")
    # Its first tokens are finite, and strange to the other rows.
    odd = sample([1, 60, 61, 62, 63, 5])
    assert label_features(model, ids, [odd, *rows]) == expected
    (_, broken), (_, whole) = token_activations(model, ids, [odd, rows[0]])
    assert np.isnan(broken).all()
    assert np.isfinite(whole).all()


def test_a_feature_that_never_fires_has_an_empty_label(model):
    with torch.no_grad():
        model.sae.b_enc[7] = -1e6
    assert label_features(model, np.array([7], np.int32), random_samples(3)) == ((),)


def test_a_contrast_file_is_read_and_its_unusable_rows_counted(tmp_path):
    rows = [{"text": f"w{n} w{n + 1} w{n + 2}"} for n in range(VOCABULARY - 8)]
    lines = [json.dumps(row) for row in rows] + ['{"text": ""}', "{broken", '{"text": null}']
    path = tmp_path / "toxic.jsonl"
    path.write_text("\n".join(lines))
    found = read_contrast(str(path), Encoder(tiny_tokenizer(), max_length=16))
    assert len(found.samples) == len(rows)
    assert sum(found.skipped.values()) == 3
    assert found.skipped["unreadable"] == 1
    assert found.describe()["source"] == str(path)
    assert len(found.sha256) == 64


def test_chosen_and_rejected_rows_are_no_contrast_set(tmp_path):
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "w1", "chosen": "w2 w3", "rejected": "w4 w5"}
    path.write_text("\n".join([json.dumps(row)] * 3))
    with pytest.raises(DataError, match=r"pairs.jsonl:1: .*two samples"):
        read_contrast(str(path), Encoder(tiny_tokenizer(), max_length=16))
