"""The dense direction against formulas computed in another way, and what it is for."""

import numpy as np
import pytest

from geofilter.packs.dense import SHRINKAGE, dense_direction


def rows(seed: int, n: int = 60, d: int = 7) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(n, d)) * np.linspace(0.2, 3, d) + random.normal(size=d)


def test_without_pairs_it_is_the_difference_of_means():
    toxic, benign = rows(0), rows(1, n=40)
    expected = toxic.mean(axis=0) - benign.mean(axis=0)
    found = dense_direction(toxic, benign, pairs=False)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-12)


def test_with_pairs_it_is_fishers_discriminant_of_a_shrunk_covariance():
    """Against the eigenvectors of the covariance that numpy computes of the pooled rows."""
    toxic, benign = rows(0), rows(1)
    centred = np.concatenate([toxic - toxic.mean(axis=0), benign - benign.mean(axis=0)])
    values, vectors = np.linalg.eigh(np.cov(centred.T, bias=True))
    shrunk = (1 - SHRINKAGE) * values + SHRINKAGE * values.mean()
    difference = toxic.mean(axis=0) - benign.mean(axis=0)
    expected = vectors @ ((vectors.T @ difference) / shrunk)
    found = dense_direction(toxic, benign, pairs=True)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-10)


def test_shrunk_all_the_way_it_is_the_difference_of_means():
    toxic, benign = rows(0), rows(1)
    found = dense_direction(toxic, benign, pairs=True, shrinkage=1.0)
    np.testing.assert_allclose(found, dense_direction(toxic, benign, pairs=False), atol=1e-12)


def test_what_varies_within_the_sides_is_looked_past():
    """A loud topic that falls unevenly on the sides hides the harm from the plain difference."""
    random = np.random.default_rng(2)
    topic, harm = np.eye(5)[0], np.eye(5)[1]
    toxic = random.normal(scale=0.3, size=(80, 5)) + harm + 20 * random.normal(size=(80, 1)) * topic
    benign = random.normal(scale=0.3, size=(80, 5)) + 20 * random.normal(size=(80, 1)) * topic
    assert abs(dense_direction(toxic, benign, pairs=True) @ harm) > 0.9
    assert abs(dense_direction(toxic, benign, pairs=False) @ harm) < 0.9


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_rows_than_dimensions_have_a_direction(n):
    found = dense_direction(rows(0, n=n, d=20), rows(1, n=n, d=20), pairs=True)
    assert np.linalg.norm(found) == pytest.approx(1)
