"""The push of a training step: against finite differences, autograd and other samples."""

import copy
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geofilter.data.problems import Problem
from geofilter.errors import ModelError, PackError
from geofilter.model.activations import TokenBudget
from geofilter.model.blocks import find_blocks
from geofilter.model.features import sample_features
from geofilter.model.gradients import pushes, spillover_budget
from geofilter.model.loading import CATALOGUE
from geofilter.packs.index import ToxicIndex
from geofilter.runs.defaults import block_of
from geofilter.scoring.explain import explain
from geofilter.scoring.score import BatchScorer, make_scorer
from geofilter.scoring.scorers.spillover import NO_PUSH
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings
from helpers.pushes import SAMPLES, loss_with, sample
from helpers.tiny_models import CONTEXT, D_MODEL, tiny_model, tiny_setting

KINDS = ("llama", "gpt2", "gpt_neox", "gemma2")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [0, 2, 3])
def test_the_push_is_minus_the_gradient_of_the_loss_that_labels_give(kind: str, block: int) -> None:
    model = tiny_model(kind, block=block)
    push = pushes(model, SAMPLES).push
    for row, one in enumerate(SAMPLES):
        moved = torch.zeros(1, len(one.ids), D_MODEL, requires_grad=True)
        (gradient,) = torch.autograd.grad(loss_with(model.network, block, one, moved), moved)
        torch.testing.assert_close(
            push[row, : len(one.ids)],
            -gradient[0],
            rtol=1e-4,
            atol=1e-5 * float(gradient.abs().max()),
        )
        assert not push[row, len(one.ids) :].any()


def test_a_small_step_along_the_push_lowers_the_loss_as_foretold() -> None:
    model = tiny_model("llama", block=1)
    network = copy.deepcopy(model.network).double()
    one = SAMPLES[3]
    push = pushes(model, [one]).push.double()
    foretold = -float(push.square().sum())
    size = 1e-3 / float(push.abs().max())
    up, down = (loss_with(network, 1, one, sign * size * push) for sign in (1, -1))
    assert float(up - down) / (2 * size) == pytest.approx(foretold, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_stream_is_that_of_a_plain_forward_pass(kind: str) -> None:
    model = tiny_model(kind)
    with_push = sample_features(model, SAMPLES, with_push=True)
    without = sample_features(model, SAMPLES)
    for one, other in zip(with_push, without, strict=True):
        np.testing.assert_allclose(one.mean_hidden, other.mean_hidden, atol=1e-5)
        assert one.latents.tolist() == other.latents.tolist()
        assert other.push is None


def test_a_push_does_not_depend_on_neighbours_or_order() -> None:
    model = tiny_model("gemma2")
    alone = [sample_features(model, [one], with_push=True)[0].push for one in SAMPLES]
    together = [one.push for one in sample_features(model, SAMPLES[::-1], with_push=True)][::-1]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_score_is_the_cosine_of_the_whole_push_to_the_dense_direction() -> None:
    model, pack = tiny_setting("topk")
    scorer = BatchScorer(model, pack, scorer="spillover")
    push = pushes(model, SAMPLES).push.double().numpy()
    for row, scored in enumerate(scorer(SAMPLES)):
        whole = push[row].sum(axis=0)
        cosine = whole @ pack.dense_direction / np.linalg.norm(whole)
        assert scored.score == pytest.approx(float(cosine), abs=1e-6)


def test_the_parts_of_the_tokens_sum_to_the_score() -> None:
    model, pack = tiny_setting("topk")
    scorer = BatchScorer(model, pack, scorer="spillover")
    for one, scored in zip(SAMPLES, scorer(SAMPLES), strict=True):
        explained = explain(model, scorer.index, one, scorer="spillover")
        assert not isinstance(explained, Problem)
        assert sum(token.contribution for token in explained.tokens) == pytest.approx(
            scored.score, abs=1e-5
        )
        assert [token.position for token in explained.tokens] == list(range(len(one.ids)))
        # What comes after the last predicting token has no part in any loss.
        last = np.flatnonzero(one.response).max()
        assert all(token.contribution == 0 for token in explained.tokens[last:])


def test_a_response_that_nothing_predicts_is_unscored() -> None:
    model, pack = tiny_setting("topk")
    first = sample(6, 1, slice(0, 1))
    scored = BatchScorer(model, pack, scorer="spillover")([SAMPLES[0], first])
    assert scored[1] == NO_PUSH
    assert not isinstance(scored[0], Problem)
    assert BatchScorer(model, pack, scorer="spillover")([first]) == [NO_PUSH]


def test_pushes_that_are_no_numbers_leave_their_sample_unscored_alone() -> None:
    model, pack = tiny_setting("topk")
    model = dataclasses.replace(model, network=copy.deepcopy(model.network))
    with torch.no_grad():
        head = model.network.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.clone())
        head.weight[63] = float("nan")
    quiet = [one for one in SAMPLES if 63 not in one.ids]
    scored = BatchScorer(model, pack, scorer="spillover")(quiet)
    # A softmax over the vocabulary holds that entry at every position.
    assert all(isinstance(one, Problem) and one.status == "not_finite" for one in scored)


def test_no_gradient_of_a_weight_is_made_and_none_is_left_behind() -> None:
    model = tiny_model("llama")
    sample_features(model, SAMPLES, with_push=True)
    assert all(p.grad is None and not p.requires_grad for p in model.network.parameters())
    assert not find_blocks(model.network).blocks[1]._forward_hooks
    assert not model.network.get_output_embeddings()._forward_pre_hooks


def test_the_budget_shrinks_with_the_vocabulary() -> None:
    model = tiny_model("llama")
    assert spillover_budget(model, TokenBudget(512)).tokens == 512
    model.network.config.vocab_size = 2**20
    assert spillover_budget(model, TokenBudget(512)).tokens == 256


def test_a_truncated_model_and_an_encoder_are_refused(work: Path, geofilter: Any) -> None:
    model, pack = tiny_setting("topk")
    without_head = dataclasses.replace(model, network=model.network.model)
    with pytest.raises(ModelError, match="loaded without its later blocks"):
        BatchScorer(without_head, pack, scorer="spillover")
    encoder = dataclasses.replace(model, causal=False)
    with pytest.raises(ModelError, match="is no causal language model"):
        BatchScorer(encoder, pack, scorer="spillover")


def test_features_without_a_push_are_refused_with_what_to_do(work: Path, geofilter: Any) -> None:
    model, pack = tiny_setting("topk")
    features = sample_features(model, SAMPLES)
    with pytest.raises(PackError, match="without the push"):
        make_scorer("spillover", ToxicIndex(pack, model.decoder))(features)
    scored = "score data.jsonl --model model --sae sae --pack my.pack -o s.parquet"
    assert geofilter(f"{scored} --save-features f").code == 0
    done = geofilter("score data.jsonl --features f --scorer spillover -o t.parquet")
    assert done.code == 2
    assert "save them with --scorer spillover --save-features" in done.err


@pytest.mark.slow
def test_saved_pushes_give_the_same_table_without_the_model(work: Path, geofilter: Any) -> None:
    scored = "score data.jsonl --model model --sae sae --pack my.pack --scorer spillover"
    assert geofilter(f"{scored} --save-features f -o a.parquet").code == 0
    assert geofilter("score data.jsonl --features f --scorer spillover -o b.parquet").code == 0
    first, second = (ScoreTable.read(name) for name in ("a.parquet", "b.parquet"))
    assert list(first) == list(second)
    assert first.manifest.hash == second.manifest.hash
    assert geofilter("score data.jsonl --features f --scorer persona -o c.parquet").code == 0
    assert list(ScoreTable.read("c.parquet")) == list(ScoreTable.read("data.scores.parquet"))
    assert ScoreTable.read("c.parquet").manifest.hash == (
        ScoreTable.read("data.scores.parquet").manifest.hash
    )


@pytest.mark.slow
def test_other_later_blocks_make_another_table(work: Path, geofilter: Any) -> None:
    scored = "score data.jsonl --model model --sae sae --pack my.pack -o"
    assert geofilter(f"{scored} s.parquet --scorer spillover").code == 0
    weights = load_file("model/model.safetensors")
    name = next(name for name in weights if ".3." in name)
    save_file(weights | {name: weights[name] + 0.1}, "model/model.safetensors", {"format": "pt"})
    refused = geofilter(f"{scored} s.parquet --scorer spillover")
    assert refused.code == 2
    assert "model_above" in refused.err
    # What lies behind the SAE's block is nothing to the other scorers.
    assert geofilter(f"{scored} data.scores.parquet").code == 0


def test_explain_shows_where_a_step_pushes(work: Path, geofilter: Any) -> None:
    scored = "score data.jsonl --model model --sae sae --pack my.pack --scorer spillover"
    assert geofilter(f"{scored} -o s.parquet").code == 0
    shown = geofilter("explain data.jsonl --scores s.parquet --row 3")
    assert shown.code == 0
    assert "at which a training step pushes most" in shown.out


def test_every_window_fits_the_context() -> None:
    model = tiny_model("gpt2")
    (features,) = sample_features(model, [sample(CONTEXT, 3)], with_push=True)
    assert features.push.shape == (D_MODEL,)


def test_a_scorer_s_own_block_is_read_unless_something_else_is_asked_for() -> None:
    own = Settings("organism", scorer="nearest")
    assert block_of(own) == CATALOGUE["organism"].scorer_blocks["nearest"]
    assert block_of(Settings("organism", scorer="spillover")) is None
    assert block_of(dataclasses.replace(own, block=3)) == 3
    # A pack or an SAE was made for a block of its own.
    assert block_of(dataclasses.replace(own, pack="my.pack")) is None
    assert block_of(dataclasses.replace(own, sae="sae")) is None
    assert block_of(Settings("gemma-2-2b", scorer="nearest")) is None
