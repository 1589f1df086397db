"""Explanations: the tokens' parts are the score, no more and no less."""

import numpy as np
import pytest
import torch

from geofilter.model.activations import residuals
from geofilter.model.features import NOT_FINITE, sample_features
from geofilter.packs.index import ToxicIndex
from geofilter.scoring.explain import explain
from geofilter.scoring.score import BatchScorer
from geofilter.scoring.scorers.base import NO_FEATURES
from geofilter.scoring.scorers.nearest import LATENTS_PER_TOKEN
from helpers.tiny_models import SAES, random_samples, sample, tiny_model, tiny_setting


@pytest.fixture(scope="module")
def model():
    return tiny_setting()[0]


@pytest.fixture(scope="module")
def index(model):
    return ToxicIndex(tiny_setting()[1], model.decoder)


@pytest.mark.parametrize("kind", SAES)
@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("proximity", ["mean", "nearest"])
def test_the_parts_of_all_tokens_sum_to_the_score(kind, pooling, proximity):
    model, pack = tiny_setting(kind, pooling)
    scorer = BatchScorer(model, pack, proximity=proximity)
    samples = random_samples(3, seed=5)
    for encoded, scored in zip(samples, scorer(samples), strict=True):
        explanation = explain(model, scorer.index, encoded, proximity=proximity)
        assert explanation.score == pytest.approx(scored.score, abs=1e-5)
        total = sum(token.contribution for token in explanation.tokens)
        assert total == pytest.approx(explanation.score, abs=1e-9)


def test_each_pooled_token_is_explained_by_its_own_latents(model, index):
    (encoded,) = random_samples(1, seed=6)
    hidden = residuals(model, [encoded])[0]
    explanation = explain(model, index, encoded, proximity="mean")
    positions = [token.position for token in explanation.tokens]
    assert positions == np.flatnonzero(encoded.pooled).tolist()
    with torch.no_grad():
        latents = model.sae.encode(hidden)
    (features,) = sample_features(model, [encoded])
    phi = dict(zip(features.latents.tolist(), features.weights.astype(float), strict=True))
    above = {f: max(phi[f] - float(index.pack.reference[f]), 0.0) for f in phi}
    total = sum(above.values())
    for token in explanation.tokens:
        assert token.text == f"w{encoded.ids[token.position] - 4}"
        assert 0 < len(token.latents) <= LATENTS_PER_TOKEN
        parts = [latent.contribution for latent in token.latents]
        assert parts == sorted(parts, reverse=True)
        for latent in token.latents:
            assert above[latent.feature] > 0
            activation = float(latents[token.position, latent.feature])
            assert latent.activation == pytest.approx(activation, abs=1e-5)
            share = activation / (phi[latent.feature] * len(positions))
            proximity = float(index.proximity["mean"][latent.feature])
            assert latent.proximity == pytest.approx(proximity)
            expected = above[latent.feature] * share * proximity / total
            assert latent.contribution == pytest.approx(expected, abs=1e-6)


def test_under_max_pooling_a_latent_counts_where_it_is_greatest():
    model, pack = tiny_setting("topk", "max")
    index, (encoded,) = ToxicIndex(pack, model.decoder), random_samples(1, seed=6)
    explanation = explain(model, index, encoded)
    with torch.no_grad():
        latents = model.sae.encode(residuals(model, [encoded])[0])
    greatest = latents[explanation.tokens[0].position : explanation.tokens[-1].position + 1]
    for place, token in enumerate(explanation.tokens):
        for latent in token.latents:
            here = int(greatest[:, latent.feature].argmax()) == place
            assert (latent.contribution != 0) == here


def test_each_latent_names_the_toxic_feature_nearest_to_it(model, index):
    decoder = model.decoder.numpy().astype(np.float64)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    explanation = explain(model, index, random_samples(1)[0])
    for latent in (one for token in explanation.tokens for one in token.latents):
        cosines = index.pack.directions @ unit[latent.feature]
        place = int(cosines.argmax())
        assert latent.toxic_feature == index.pack.ids[place]
        assert latent.similarity == pytest.approx(cosines[place], abs=1e-5)
        assert latent.label == index.pack.labels[place]


def test_a_sample_that_cannot_be_scored_is_not_explained():
    model = tiny_model()
    index = ToxicIndex(tiny_setting()[1], model.decoder)
    assert explain(model, index, sample([1, 5, 6], prompt=3)) == NO_FEATURES
    with torch.no_grad():
        model.network.get_input_embeddings().weight[63] = float("nan")
    assert explain(model, index, sample([1, 5, 63, 7, 8])) == NOT_FINITE
