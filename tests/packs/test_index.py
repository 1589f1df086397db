"""The toxic index: FAISS answers what NumPy computes."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.errors import PackError
from geofilter.packs import index as module
from geofilter.packs.index import ToxicIndex
from helpers.tiny_models import D_MODEL, D_SAE, tiny_setting


@pytest.fixture(scope="module")
def model():
    return tiny_setting()[0]


@pytest.fixture(scope="module")
def pack():
    return tiny_setting()[1]


@pytest.fixture(scope="module")
def index(pack, model):
    return ToxicIndex(pack, model.decoder)


def cosines(vectors, directions):
    """In float64, by definition."""
    vectors, directions = vectors.astype(np.float64), directions.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)[:, None] * np.linalg.norm(directions, axis=1)
    return vectors @ directions.T / lengths


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 60), scale=st.sampled_from([1e-30, 1, 1e6]))
@settings(deadline=None)
def test_nearest_equals_numpy(index, pack, seed, rows, scale):
    vectors = np.random.default_rng(seed).normal(size=(rows, D_MODEL)).astype(np.float32) * scale
    vectors = vectors.astype(np.float32)
    expected = cosines(vectors, pack.directions)
    place, similarity = index.nearest(vectors)
    np.testing.assert_allclose(similarity, expected.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(expected[np.arange(rows), place], expected.max(axis=1), atol=1e-5)


def test_proximity_of_all_decoder_directions_equals_numpy(index, pack, model):
    expected = cosines(model.decoder.numpy(), pack.directions)
    np.testing.assert_allclose(index.proximity["nearest"], expected.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(index.proximity["mean"], expected @ pack.weights, atol=1e-5)
    assert index.proximity["mean"].shape == (D_SAE,)


def test_a_toxic_feature_is_nearest_to_itself(index, pack):
    np.testing.assert_allclose(index.proximity["nearest"][pack.ids], 1, atol=1e-5)
    np.testing.assert_array_equal(index.nearest_of_latents(pack.ids).place, np.arange(12))


def test_building_in_parts_changes_nothing(index, pack, model, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 7)
    parts = ToxicIndex(pack, model.decoder)
    for form in ("mean", "nearest"):
        np.testing.assert_allclose(parts.proximity[form], index.proximity[form], atol=1e-6)
    np.testing.assert_allclose(parts.decoded_reference, index.decoded_reference, atol=1e-6)
    np.testing.assert_allclose(parts.dense_overlap, index.dense_overlap, atol=1e-6)


def test_overlaps_are_inner_products_with_the_decoder(index, pack, model):
    rows = model.decoder.numpy()
    latents = np.array([3, 50, 95], np.int32)
    np.testing.assert_allclose(
        index.overlap(latents, 4), rows[latents] @ pack.directions[4], atol=1e-5
    )
    np.testing.assert_allclose(index.dense_overlap, rows @ pack.dense_direction, atol=1e-5)
    np.testing.assert_allclose(index.decoded_reference, pack.reference @ rows, atol=1e-5)


def test_a_vector_without_length_points_nowhere(index):
    vectors = np.zeros((3, D_MODEL), np.float32)
    vectors[1, 0] = 1
    place, similarity = index.nearest(vectors)
    assert place.tolist()[::2] == [-1, -1]
    assert np.isnan(similarity).tolist() == [True, False, True]


def test_a_dead_decoder_row_is_near_to_nothing(pack, model):
    decoder = model.decoder.clone()
    dead = next(place for place in range(D_SAE) if place not in pack.ids)
    decoder[dead] = 0
    proximity = ToxicIndex(pack, decoder).proximity
    assert proximity["nearest"][dead] == proximity["mean"][dead] == 0


def test_no_vectors_no_answers(index):
    place, similarity = index.nearest(np.zeros((0, D_MODEL), np.float32))
    assert len(place) == len(similarity) == 0


def test_a_decoder_of_another_shape_is_refused(pack):
    with pytest.raises(PackError, match="for an SAE of 96 latents over 32 dimensions, this one"):
        ToxicIndex(pack, torch.zeros(D_SAE, 48))


def test_one_toxic_feature_is_enough(pack, model):
    single = dataclasses.replace(
        pack,
        ids=pack.ids[:1],
        directions=pack.directions[:1],
        weights=np.ones(1, np.float32),
        benign_std=pack.benign_std[:1],
    )
    proximity = ToxicIndex(single, model.decoder).proximity
    np.testing.assert_allclose(proximity["mean"], proximity["nearest"], atol=1e-6)
