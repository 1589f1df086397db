"""Packs without an SAE: the dense direction alone, the scorers it allows, and what it refuses."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from geofilter.errors import PackError
from geofilter.packs.index import ToxicIndex
from geofilter.packs.make import make_pack
from geofilter.packs.pack import load_pack
from geofilter.packs.share import card, without_folders
from geofilter.scoring.explain import explain, token_scorer
from geofilter.scoring.score import BatchScorer, make_scorer
from geofilter.scoring.scorers import SCORERS
from geofilter.scoring.table import ScoreTable
from helpers.tiny_models import random_samples, tiny_contrast, tiny_model, tiny_setting

SETS = "--toxic toxic.jsonl --benign benign.jsonl --model model"


@pytest.fixture(scope="module")
def model():
    return tiny_model(sae=None)


@pytest.fixture(scope="module")
def made(model):
    return make_pack(model, *tiny_contrast())


@pytest.fixture(scope="module")
def pack(made):
    return made.pack


def test_a_dense_pack_holds_a_direction_and_no_feature(model, pack, tmp_path):
    assert (len(pack), pack.is_dense, len(pack.reference)) == (0, True, 0)
    assert np.linalg.norm(pack.dense_direction) == pytest.approx(1)
    assert (pack.contrast.explained_variance, pack.contrast.explained_variance_floor) == (None,) * 2
    assert 0.5 < pack.contrast.persona_auroc <= 1
    pack.save(tmp_path / "dense.pack")
    back = load_pack(tmp_path / "dense.pack")
    assert (back.digest, back.to_bytes()) == (pack.digest, pack.to_bytes())
    back.verify(model)
    assert back.without_lexical() is back


def test_direction_and_scores_are_those_of_a_pack_with_features(model, pack):
    whole, featured = tiny_setting()
    np.testing.assert_array_equal(pack.dense_direction, featured.dense_direction)
    samples = random_samples(5, seed=9)
    with_sae = BatchScorer(whole, featured, scorer="persona")(samples)
    without = BatchScorer(model, pack, scorer="persona")(samples)
    assert [one.score for one in without] == [one.score for one in with_sae]
    for one in without:
        assert (one.nearest_feature, one.top_features) == (None, ())
        assert np.isnan([one.nearest_similarity, one.explained_variance]).all()


@pytest.mark.parametrize("name", [one.name for one in SCORERS.values() if one.needs_sae])
def test_a_scorer_of_features_is_refused_with_those_that_need_none(model, pack, name):
    with pytest.raises(PackError) as caught:
        make_scorer(name, ToxicIndex(pack, model.decoder))
    assert f"{name} scores by SAE features" in str(caught.value)
    assert "--scorer persona or spillover" in str(caught.value)


def test_a_pack_and_a_model_have_both_an_sae_or_neither(model, pack):
    whole, featured = tiny_setting()
    with pytest.raises(PackError, match=r"without an SAE \(other than loaded: the SAE\).*--sae no"):
        pack.verify(whole)
    with pytest.raises(PackError, match=r"and SAE tiny-topk .*: give its SAE with --sae"):
        featured.verify(model)


def test_a_file_whose_latents_are_of_no_sae_is_damaged(pack, tmp_path):
    featured = tiny_setting()[1]
    for name, changed in (
        ("a", replace(pack, fingerprint=featured.fingerprint)),
        ("b", replace(featured, fingerprint=pack.fingerprint)),
    ):
        changed.save(tmp_path / name)
        with pytest.raises(PackError, match="latents of no SAE, or none of its SAE"):
            load_pack(tmp_path / name)


def test_a_score_by_persona_is_its_base_and_its_tokens_parts(model, pack):
    index = ToxicIndex(pack, model.decoder)
    samples = random_samples(4, seed=5)
    scores = BatchScorer(model, pack, scorer="persona")(samples)
    along = token_scorer(model, index, "persona", "nearest")(samples)
    base = float(pack.residual_mean @ pack.dense_direction)
    for sample, score, own in zip(samples, scores, along, strict=True):
        found = explain(model, index, sample, scorer="persona")
        parts = sum(token.contribution for token in found.tokens)
        assert found.base == pytest.approx(base)
        assert found.score == pytest.approx(score.score, abs=1e-5)
        assert found.base + parts == pytest.approx(score.score, abs=1e-5)
        assert np.nanmean(own) == pytest.approx(score.score, abs=1e-5)
        assert (np.isfinite(own) == sample.pooled).all()


def test_a_published_card_says_that_there_are_no_features(pack):
    text = card(without_folders(pack), "me/dense")
    assert "the direction from benign to toxic rows" in text
    assert "| SAE | none |" in text
    assert "toxic features" not in text
    assert "lexical" not in text


def test_the_commands_go_round_with_a_dense_pack(work, geofilter):
    done = geofilter(f"discover {SETS} -o dense.pack")
    assert done.code == 0, done.err
    area = re.search(r"AUROC 0\.\d\d \(0\.\d\d-[01]\.\d\d\)", done.out)
    assert area is not None
    assert "without an SAE" in done.out
    shown = geofilter("pack show dense.pack")
    assert area.group() in shown.out
    summary = json.loads(geofilter("pack show dense.pack --json").out)
    assert (summary["features"], summary["sae"]) == ([], "none")

    scored = "score data.jsonl --model model --pack dense.pack"
    assert geofilter(f"{scored} --save-features f.parquet -o p.parquet").code == 0
    assert geofilter("score data.jsonl --features f.parquet -o again.parquet").code == 0
    table, again = ScoreTable.read("p.parquet"), ScoreTable.read("again.parquet")
    assert list(table) == list(again)
    assert table.manifest.decides["scorer"] == {"name": "persona"}
    assert all(line.explained_variance is None for line in table)
    refused = geofilter("score data.jsonl --features f.parquet --scorer nearest -o n.parquet")
    assert "nearest scores by SAE features" in refused.err

    explained = geofilter("explain data.jsonl --scores p.parquet --row 3")
    assert "the tokens add the rest" in explained.out
    assert "toxic feature" not in explained.out
    assert geofilter("report data.jsonl --scores p.parquet -o p.html").code == 0
    page = (work / "p.html").read_text()
    assert "towards harm in" in page
    assert "toxic feature" not in page
    assert "What the SAE does not see" not in page
    masked = "filter data.jsonl --scores p.parquet --drop-fraction 0.2 --action mask -o m.jsonl"
    assert geofilter(masked).code == 0


def test_an_estimate_without_an_sae_is_smaller(work, geofilter):
    asked = "score data.jsonl --model model --scorer persona --estimate --json"
    without, read = (json.loads(geofilter(f"{asked} {sae}").out) for sae in ("", "--sae sae"))
    assert without["memory_bytes"] < read["memory_bytes"]
    assert without["flop"] < read["flop"]
