"""Sample features: sae-lens's own latents, pooled over the response, whatever the batch."""

import dataclasses

import numpy as np
import pytest
import torch

from geofilter.model import features as features_module
from geofilter.model import latents as latents_module
from geofilter.model.activations import TokenBudget, residuals
from geofilter.model.features import NO_TOKENS, NOT_FINITE, pool, sample_features
from helpers.tiny_models import D_SAE, SAES, random_samples, sample, tiny_model


def dense(features):
    phi = np.zeros(D_SAE, np.float32)
    phi[features.latents] = features.weights
    return phi


def naive(model, encoded):
    """The pooled tokens' residual stream, latents and reconstruction, one token at a time."""
    hidden = residuals(model, [encoded])[0]
    tokens = [hidden[place : place + 1] for place in np.flatnonzero(encoded.pooled)]
    latents, rebuilt = [], []
    with torch.no_grad():
        for token in tokens:
            latents.append(model.sae.encode(token)[0])
            rebuilt.append(model.sae.decode(latents[-1][None])[0])
    return tuple(
        np.stack([row.double().numpy().reshape(-1) for row in rows])
        for rows in (tokens, latents, rebuilt)
    )


@pytest.mark.parametrize("kind", SAES)
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_features_are_the_pooled_latents_of_sae_lens(kind, pooling):
    model = tiny_model(sae=kind)
    samples = random_samples(9)
    for encoded, features in zip(
        samples, sample_features(model, samples, pooling=pooling), strict=True
    ):
        hidden, latents, rebuilt = naive(model, encoded)
        expected = latents.mean(axis=0) if pooling == "mean" else latents.max(axis=0)
        np.testing.assert_allclose(dense(features), expected, atol=1e-5)
        np.testing.assert_allclose(features.mean_hidden, hidden.mean(axis=0), atol=1e-5)
        assert features.n_tokens == len(hidden) == encoded.pooled.sum()
        assert features.squared_error == pytest.approx(((hidden - rebuilt) ** 2).sum(), rel=1e-4)
        centre = np.full(hidden.shape[1], 0.3, np.float32)
        expected = 1 - ((hidden - rebuilt) ** 2).sum() / ((hidden - centre) ** 2).sum()
        assert features.explained_variance(centre) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", SAES[:-1])
def test_decoded_is_the_reconstruction_without_its_bias(kind):
    model = tiny_model(sae=kind)
    samples = random_samples(5)
    for encoded, features in zip(samples, sample_features(model, samples), strict=True):
        _, _, rebuilt = naive(model, encoded)
        expected = rebuilt.mean(axis=0) - model.sae.b_dec.numpy()
        np.testing.assert_allclose(features.decoded, expected, atol=1e-5)


def test_latents_are_ascending_and_positive():
    for features in sample_features(tiny_model(), random_samples(5)):
        assert (np.diff(features.latents) > 0).all()
        assert (features.weights > 0).all()


def test_prompt_and_special_tokens_never_count():
    model = tiny_model()
    encoded = sample([1, 5, 6, 7, 8, 9], prompt=3)
    (before,) = sample_features(model, [encoded])
    # The last token is response but not pooled, and no earlier token sees it.
    changed = dataclasses.replace(encoded, ids=np.array([1, 5, 6, 7, 8, 40], np.int32))
    (after,) = sample_features(model, [changed])
    np.testing.assert_allclose(dense(before), dense(after), atol=1e-5)
    assert before.n_tokens == 2


@pytest.mark.parametrize("kind", SAES)
def test_features_do_not_depend_on_batch_size_order_or_neighbours(kind):
    model = tiny_model(sae=kind)
    samples = random_samples(24)
    alone = [sample_features(model, [encoded])[0] for encoded in samples]
    shuffled = np.random.default_rng(0).permutation(len(samples))
    for budget in (60, 10**6):
        together = sample_features(
            model, [samples[place] for place in shuffled], budget=TokenBudget(budget)
        )
        for place, features in zip(shuffled, together, strict=True):
            np.testing.assert_allclose(dense(features), dense(alone[place]), atol=1e-5)


def test_encoding_in_parts_changes_nothing(monkeypatch):
    model = tiny_model()
    samples = random_samples(6)
    whole = sample_features(model, samples)
    monkeypatch.setattr(features_module, "_POOLED_AT_ONCE", 2 * D_SAE)
    monkeypatch.setattr(latents_module, "_CPU_AT_ONCE", 3 * D_SAE)
    # A model of its own: the encoder has made its choice when it is first used.
    for one, other in zip(whole, sample_features(tiny_model(), samples), strict=True):
        np.testing.assert_allclose(dense(one), dense(other), atol=1e-6)
        assert one.squared_error == pytest.approx(other.squared_error)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_a_problem_of_their_own_row_only(value):
    model = tiny_model()
    bad, good = sample([1, 5, 63, 7, 8]), sample([1, 5, 6, 7, 8])
    (expected,) = sample_features(model, [good])
    with torch.no_grad():
        model.network.get_input_embeddings().weight[63] = value
    first, second, third = sample_features(model, [good, bad, good])
    assert second == NOT_FINITE
    for features in (first, third):
        np.testing.assert_allclose(dense(features), dense(expected), atol=1e-5)


def test_latents_that_overflow_are_not_finite():
    model = tiny_model(sae="standard")
    with torch.no_grad():
        model.sae.W_enc.mul_(1e38)
    assert sample_features(model, random_samples(1)) == [NOT_FINITE]


def test_a_mean_that_overflows_is_not_finite():
    model = tiny_model(sae="standard")
    with torch.no_grad():
        model.sae.W_enc.zero_()
    hidden = torch.full((1, 5, 32), 3e38)
    assert pool(model, hidden, [sample([1, 5, 6, 7, 8])], "mean") == [NOT_FINITE]


def test_a_sample_without_pooled_tokens_has_no_features():
    model = tiny_model()
    empty = sample([1, 5, 6], prompt=3)
    first, second = sample_features(model, [empty, sample([1, 5, 6, 7])])
    assert first == NO_TOKENS
    assert second.n_tokens == 1


def test_no_samples_no_features():
    assert sample_features(tiny_model(), []) == []


def test_explained_variance_of_one_token_is_defined():
    (features,) = sample_features(tiny_model(), [sample([1, 5, 6, 7])])
    assert features.n_tokens == 1
    assert np.isfinite(features.explained_variance(np.zeros(32, np.float32)))


def test_explained_variance_without_spread_is_nan():
    (features,) = sample_features(tiny_model(), [sample([1, 5, 6, 7])])
    still = dataclasses.replace(features, mean_hidden=np.zeros(32, np.float32), squared_norm=0.0)
    assert np.isnan(still.explained_variance(np.zeros(32, np.float32)))
