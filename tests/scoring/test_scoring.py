"""The scorers: each equals its formula, computed by a plain loop in float64."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from geofilter.data.problems import Problem
from geofilter.errors import PackError
from geofilter.model.activations import residuals
from geofilter.model.features import NOT_FINITE, SampleFeatures, sample_features
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import make_pack
from geofilter.scoring.domain_fit import domain_fit
from geofilter.scoring.score import BatchScorer, SampleScore, make_scorer
from geofilter.scoring.scorers import SCORERS, nearest
from geofilter.scoring.scorers.base import NO_FEATURES
from geofilter.scoring.summary import _contrast
from helpers.tiny_models import (
    D_MODEL,
    SAES,
    random_samples,
    sample,
    tiny_contrast,
    tiny_model,
    tiny_query,
    tiny_setting,
)


@pytest.fixture(scope="module", params=SAES)
def setting(request):
    """A model, a pack made with it, and samples, for each kind of SAE."""
    return *tiny_setting(request.param), random_samples(6, seed=7)


@pytest.fixture(scope="module")
def model():
    return tiny_setting()[0]


@pytest.fixture(scope="module")
def pack():
    return tiny_setting()[1]


@pytest.fixture(scope="module")
def index(pack, model):
    return ToxicIndex(pack, model.decoder)


def with_influence(features):
    """Features with a number where only a query gives one."""
    return [
        dataclasses.replace(one, influence=float(place) - 0.5) for place, one in enumerate(features)
    ]


class SameAnswer:
    """Stands for `OwnAnswers`: one mean for every prompt."""

    def means(self, samples):
        return [np.ones(D_MODEL, np.float32)] * len(samples)


class Naive:
    """DESIGN section 3, word by word, in float64, for one sample."""

    def __init__(self, model, pack, encoded):
        hidden = residuals(model, [encoded])[0]
        hidden = hidden[torch.tensor(encoded.pooled)]
        with torch.no_grad():
            latents = model.sae.encode(hidden).double().numpy()
        self.hidden = hidden.double().numpy()
        self.phi = [sum(token[f] for token in latents) / len(latents) for f in range(model.d_sae)]
        self.reference = pack.reference.astype(np.float64)
        self.decoder = model.decoder.double().numpy()
        self.toxic = [self.decoder[f] / np.sqrt((self.decoder[f] ** 2).sum()) for f in pack.ids]
        self.pack = pack

    @staticmethod
    def cosine(one, other):
        return float(one @ other / np.sqrt((one @ one) * (other @ other)))

    def proximity(self, f, form):
        cosines = [self.cosine(self.decoder[f], direction) for direction in self.toxic]
        if form == "nearest":
            return max(cosines)
        weights = self.pack.weights.astype(np.float64)
        return sum(w * c for w, c in zip(weights, cosines, strict=True)) / weights.sum()

    def nearest(self, form, contrast):
        total = above = 0.0
        for f in range(len(self.phi)):
            a = max(self.phi[f] - self.reference[f], 0.0) if contrast else self.phi[f]
            above += a * self.proximity(f, form)
            total += a
        return above / total

    def difference(self):
        return sum(
            (self.phi[f] - self.reference[f]) * self.decoder[f] for f in range(len(self.phi))
        )

    def direction(self):
        return max(self.cosine(self.difference(), direction) for direction in self.toxic)

    def activation(self):
        return sum(
            float(weight) * (self.phi[f] - self.reference[f]) / float(std)
            for f, weight, std in zip(
                self.pack.ids, self.pack.weights, self.pack.benign_std, strict=True
            )
        )

    def persona(self):
        mean = sum(self.hidden) / len(self.hidden)
        return float(mean @ self.pack.dense_direction.astype(np.float64))


@pytest.mark.parametrize("contrast", [True, False])
@pytest.mark.parametrize("proximity", ["mean", "nearest"])
def test_nearest_equals_its_formula(setting, proximity, contrast):
    model, pack, samples = setting
    scorer = BatchScorer(model, pack, proximity=proximity)
    for encoded, features in zip(samples, scorer.features(samples), strict=True):
        score, parts = nearest.score(features, scorer.index, proximity, contrast=contrast)
        expected = Naive(model, pack, encoded).nearest(proximity, contrast)
        assert score == pytest.approx(expected, abs=1e-5)
        assert parts.sum() == pytest.approx(score)
        assert -1 <= score <= 1
        if contrast:
            assert scorer([encoded])[0].score == pytest.approx(score, abs=1e-6)


@pytest.mark.parametrize("name", ["direction", "activation", "persona"])
def test_other_scorers_equal_their_formulas(setting, name):
    model, pack, samples = setting
    scorer = BatchScorer(model, pack, scorer=name)
    for encoded, scored in zip(samples, scorer(samples), strict=True):
        expected = getattr(Naive(model, pack, encoded), name)()
        assert scored.score == pytest.approx(expected, abs=1e-4, rel=1e-4)


def test_nearest_feature_is_that_of_the_sample_vector_for_every_scorer(setting):
    model, pack, samples = setting
    # A token that nothing predicts alone gives no push.
    samples = [encoded for encoded in samples if encoded.response[1:].any()]
    features = with_influence(sample_features(model, samples, with_push=True, answers=SameAnswer()))
    index = ToxicIndex(pack, model.decoder)
    for name in SCORERS:
        for encoded, scored in zip(samples, make_scorer(name, index)(features), strict=True):
            naive = Naive(model, pack, encoded)
            cosines = [naive.cosine(naive.difference(), toxic) for toxic in naive.toxic]
            assert scored.nearest_similarity == pytest.approx(max(cosines), abs=1e-4)
            assert scored.nearest_feature == pack.ids[int(np.argmax(cosines))]
            assert scored.n_tokens == encoded.pooled.sum()


def test_explained_variance_is_about_the_mean_of_the_pack(model, pack, index):
    samples = random_samples(3)
    features = sample_features(model, samples)
    for one, scored in zip(features, make_scorer("nearest", index)(features), strict=True):
        assert scored.explained_variance == one.explained_variance(pack.residual_mean)


def test_higher_is_nearer_to_harm_for_every_scorer(model):
    """Rows made of toxic words only score above rows of benign words only."""
    pack = make_pack(model, *tiny_contrast(200), top_k=12).pack
    index = ToxicIndex(pack, model.decoder)
    toxic = sample_features(model, random_samples(80, seed=11, words=range(4, 24)))
    benign = sample_features(model, random_samples(80, seed=12, words=range(44, 64)))
    for name in (
        one.name for one in SCORERS.values() if not one.needs_whole
    ):  # a random model's losses and answers say nothing of words
        scorer = make_scorer(name, index)
        above, below = (np.array([one.score for one in scorer(rows)]) for rows in (toxic, benign))
        assert (above[:, None] > below).mean() > 0.6, name


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("kind", ["topk", "jumprelu"])
def test_scores_do_not_depend_on_batch_mates(kind, name, monkeypatch):
    monkeypatch.setattr("geofilter.scoring.score.query_of", lambda model, *_: tiny_query(model))
    scorer = BatchScorer(*tiny_setting(kind), scorer=name)
    samples = [one for one in random_samples(40, seed=3) if one.response[1:].any()]
    together = scorer(samples)
    turned = scorer(samples[::-1])[::-1]
    assert sum(isinstance(one, Problem) for one in together) < len(samples) / 2
    for encoded, one, other in zip(samples, together, turned, strict=True):
        (alone,) = scorer([encoded])
        if isinstance(alone, Problem):  # a random model answers some prompts with nothing
            assert one == other == alone
            continue
        assert one.score == pytest.approx(alone.score, abs=1e-5)
        assert other.score == pytest.approx(alone.score, abs=1e-5)
        assert one.nearest_similarity == pytest.approx(alone.nearest_similarity, abs=1e-5)


def test_top_features_are_those_that_raise_the_score_most(model, pack, index):
    samples = random_samples(4)
    features = sample_features(model, samples)
    scorer = make_scorer("nearest", index, proximity="mean")
    for one, scored in zip(features, scorer(features), strict=True):
        proximity = index.proximity["mean"]
        above = dict(
            zip(one.latents.tolist(), one.weights - pack.reference[one.latents], strict=True)
        )
        parts = {f: max(a, 0) * proximity[f] for f, a in above.items()}
        best = sorted(parts, key=lambda f: -parts[f])[:5]
        assert [top.feature for top in scored.top_features] == best
        for top in scored.top_features:
            assert top.weight == pytest.approx(float(above[top.feature]), abs=1e-6)
            assert top.proximity == pytest.approx(float(proximity[top.feature]), abs=1e-6)


def test_top_features_of_activation_are_toxic_features(model, pack, index):
    features = sample_features(model, random_samples(10))
    tops = [one.top_features for one in make_scorer("activation", index)(features)]
    assert any(tops)
    assert {top.feature for row in tops for top in row} <= set(pack.ids.tolist())


def test_problems_pass_through_in_their_place(model, index):
    (features,) = sample_features(model, random_samples(1))
    scored = make_scorer("nearest", index)([NOT_FINITE, features, NO_FEATURES])
    assert [type(one) for one in scored] == [Problem, SampleScore, Problem]
    assert make_scorer("nearest", index)([NOT_FINITE]) == [NOT_FINITE]


@pytest.mark.parametrize("name", SCORERS)
def test_a_sample_without_active_latents_is_unscored_not_zero(name, model, index):
    (features,) = sample_features(model, random_samples(1))
    silent = dataclasses.replace(
        features,
        latents=np.zeros(0, np.int32),
        weights=np.zeros(0, np.float32),
        decoded=np.zeros(D_MODEL, np.float32),
    )
    assert make_scorer(name, index)([silent]) == [NO_FEATURES]


def test_a_sample_below_the_benign_mean_everywhere_is_unscored_by_contrast_only(model, pack, index):
    (features,) = sample_features(model, random_samples(1))
    faint = dataclasses.replace(features, weights=features.weights * 1e-9)
    heavy = dataclasses.replace(pack, reference=np.maximum(pack.reference, np.float32(0.1)))
    index = ToxicIndex(heavy, model.decoder)
    assert make_scorer("nearest", index)([faint]) == [NO_FEATURES]
    pushed = dataclasses.replace(faint, push=np.ones(len(faint.mean_hidden), np.float32))
    assert make_scorer("nearest", index)([pushed]) == [NO_FEATURES]
    score, _ = nearest.score(faint, index, "nearest", contrast=False)
    assert math.isfinite(score)


def test_one_row_with_nan_leaves_the_others_scored():
    model = tiny_model()
    scorer = BatchScorer(model, tiny_setting()[1])
    samples = [sample([1, 5, 6, 7, 8]), sample([1, 5, 63, 7, 8]), sample([1, 5, 9, 7, 8])]
    before = scorer(samples)
    with torch.no_grad():
        model.network.get_input_embeddings().weight[63] = float("nan")
    after = scorer(samples)
    assert after[1] == NOT_FINITE
    assert after[0].score == pytest.approx(before[0].score, abs=1e-5)
    assert after[2].score == pytest.approx(before[2].score, abs=1e-5)


def test_all_scorers_run_from_one_forward_pass(model, pack):
    calls = []
    handle = model.network.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    index = ToxicIndex(pack, model.decoder)
    features = with_influence(
        sample_features(model, random_samples(3), with_push=True, answers=SameAnswer())
    )
    answers = {name: make_scorer(name, index)(features) for name in SCORERS}
    handle.remove()
    assert len(calls) == 1
    assert len({answer[0].score for answer in answers.values()}) == len(SCORERS)


def test_a_pack_of_another_model_is_refused(pack):
    with pytest.raises(PackError, match="does not belong"):
        BatchScorer(tiny_model(block=2), pack)


def test_a_pack_keeps_its_pooling():
    model, pack = tiny_setting("topk", "max")
    samples = random_samples(3)
    ours = BatchScorer(model, pack).features(samples)
    expected = sample_features(model, samples, pooling="max")
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "keyword"}, "choose one of nearest, direction, activation, persona"),
        ({"name": "nearest", "proximity": "median"}, "choose mean or nearest"),
    ],
)
def test_unknown_names_are_refused_with_the_valid_ones(index, options, message):
    name = options.pop("name")
    with pytest.raises(PackError, match=message):
        make_scorer(name, index, **options)


@pytest.fixture(scope="module")
def known(pack):
    """A pack whose contrast rows were explained to 0.9 and knew every word."""
    summary = dataclasses.replace(
        pack.contrast,
        explained_variance=0.9,
        explained_variance_floor=0.8,
        unknown_share_ceiling=0.0,
    )
    return dataclasses.replace(pack, contrast=summary)


def test_data_like_the_contrast_rows_gives_no_warning(known):
    assert domain_fit([0.0, 0.04, None], [0.9, 0.85, 0.2], known.contrast) is None
    assert domain_fit([], [], known.contrast) is None
    assert domain_fit([0.0, 0.0, 1.0], [0.76, 0.76, -3.0], known.contrast) is None


def test_unknown_words_give_a_warning_with_their_share(known):
    warning = domain_fit([0.6, 0.7, 0.0], [0.9, 0.9, 0.9], known.contrast)
    assert "knows no word for 60% of a typical response" in warning
    assert "explains" not in warning
    assert "\n" not in warning


def test_unexplained_variance_gives_a_warning_with_both_figures(known):
    warning = domain_fit([None], [0.3, float("nan")], known.contrast)
    assert "explains 30% of the variance of a typical response, against 90%" in warning
    assert "no word" not in warning


def test_a_tokenizer_without_unknown_token_is_judged_by_variance_only(known):
    summary = dataclasses.replace(known.contrast, unknown_share_ceiling=None)
    assert domain_fit([0.9], [0.9], summary) is None


def test_a_samples_figures_do_not_depend_on_how_many_are_scored_with_it(index):
    generator, pushes = np.random.default_rng(7), np.random.default_rng(8)
    d_sae, d_model = len(index.pack.reference), len(index.pack.dense_direction)
    samples = [
        SampleFeatures(
            latents=np.arange(d_sae, dtype=np.int32),
            weights=generator.random(d_sae, np.float32) + 1,
            decoded=generator.standard_normal(d_model).astype(np.float32),
            mean_hidden=generator.standard_normal(d_model).astype(np.float32),
            n_tokens=3,
            squared_error=1.0,
            squared_norm=9.0,
            push=pushes.standard_normal(d_model).astype(np.float32),
            influence=float(pushes.standard_normal()),
            answer_hidden=pushes.standard_normal(d_model).astype(np.float32),
        )
        for _ in range(50)
    ]
    for name in SCORERS:
        score = make_scorer(name, index)
        assert score(samples) == [score([sample])[0] for sample in samples]


@pytest.mark.parametrize("figure", [None, "high", float("nan"), True])
def test_a_table_s_figures_of_its_contrast_rows_are_numbers_or_not_used(figure):
    known = dict.fromkeys(("toxic_rows", "benign_rows"), 40)
    known |= {f"persona_auroc{end}": 0.9 for end in ("", "_low", "_high")}
    known |= {"explained_variance": 0.9, "explained_variance_floor": 0.8}
    known |= {"unknown_share_ceiling": None}

    def read(**changed):
        facts = {"contrast": known | changed}
        return _contrast(SimpleNamespace(manifest=SimpleNamespace(facts=facts)))

    assert read().explained_variance == 0.9
    assert read(persona_auroc=figure) is None
    without_an_sae = read(explained_variance=None, explained_variance_floor=None)
    assert without_an_sae.explained_variance is None
