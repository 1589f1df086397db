"""Gradient influence: against the gradients of all weights, and against a step of training."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from geofilter.data.problems import Problem
from geofilter.errors import ModelError
from geofilter.model.activations import TokenBudget
from geofilter.model.features import sample_features
from geofilter.model.influence import influences, linear_layers, mean_gradient
from helpers.pushes import SAMPLES, sample
from helpers.tiny_models import tiny_model, tiny_query

TOXIC, BENIGN = SAMPLES[:4], SAMPLES[4:6]
ROW = SAMPLES[6]
BUDGET = TokenBudget(64)


def mean_loss(network: Any, one: Any) -> torch.Tensor:
    """The mean loss of a sample's response, in the precision of the network."""
    ids = torch.from_numpy(one.ids.astype(np.int64))
    predicted = torch.from_numpy(one.response[1:])
    logits = network(input_ids=ids[None]).logits[0, :-1]
    return torch.nn.functional.cross_entropy(logits[predicted], ids[1:][predicted])


def query_loss(network: Any) -> torch.Tensor:
    harmful, helpful = (
        torch.stack([mean_loss(network, one) for one in side]).mean() for side in (TOXIC, BENIGN)
    )
    return harmful - helpful


def by_autograd(network: Any, names: list[str], loss: torch.Tensor) -> dict[str, torch.Tensor]:
    """The whole gradient by the weights of some layers, (out, in)."""
    layers = [network.get_submodule(name) for name in names]
    found = torch.autograd.grad(loss, [layer.weight for layer in layers])
    return {
        name: gradient if isinstance(layer, torch.nn.Linear) else gradient.T
        for name, layer, gradient in zip(names, layers, found, strict=True)
    }


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_influence_is_the_dot_product_of_whole_gradients(kind: str) -> None:
    model = tiny_model(kind, block=2)
    query = mean_gradient(model, [TOXIC, BENIGN], (1, -1), [2], BUDGET)
    trained = copy.deepcopy(model.network).requires_grad_(True)
    names = list(linear_layers(model, [2]))
    expected = by_autograd(trained, names, query_loss(trained))
    assert query.keys() == expected.keys()
    for name in names:
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(query[name], expected[name], rtol=1e-3, atol=1e-4 * scale)
    for one, found in zip(SAMPLES, influences(model, SAMPLES, query).influence, strict=True):
        own = by_autograd(trained, names, mean_loss(trained, one))
        product = sum(float((own[name] * expected[name]).sum()) for name in names)
        assert float(found.sum()) == pytest.approx(product, rel=1e-3, abs=1e-4)
        assert not found[len(one.ids) :].any()


def test_a_step_on_a_row_of_positive_influence_makes_harmful_answers_likelier() -> None:
    model = tiny_model("llama", block=1)
    query = mean_gradient(model, [TOXIC, BENIGN], (1, -1), [1], BUDGET)
    influence = float(influences(model, [ROW], query).influence.sum())
    network = copy.deepcopy(model.network).double()
    names = list(query)
    step = by_autograd(network.requires_grad_(True), names, mean_loss(network, ROW))
    network.requires_grad_(False)

    def after(rate: float) -> float:
        """The query's loss after one step of plain gradient descent on the row."""
        for name in names:
            network.get_submodule(name).weight.sub_(rate * step[name])
        found = float(query_loss(network))
        for name in names:
            network.get_submodule(name).weight.add_(rate * step[name])
        return found

    rate = 2e-3  # smaller ones drown in the rounding of norms, which are in float32
    slope = (after(rate) - after(-rate)) / (2 * rate)
    assert slope == pytest.approx(-influence, rel=1e-2)


def test_influence_does_not_depend_on_neighbours_and_leaves_the_residual_stream() -> None:
    model = tiny_model("gemma2")
    query = tiny_query(model)
    together = sample_features(model, SAMPLES, query=query)
    plain = sample_features(model, SAMPLES)
    for one, found, other in zip(SAMPLES, together, plain, strict=True):
        (alone,) = sample_features(model, [one], query=query)
        assert not any(isinstance(each, Problem) for each in (found, alone, other))
        assert found.influence == pytest.approx(alone.influence, rel=1e-4, abs=1e-4)
        np.testing.assert_allclose(found.mean_hidden, other.mean_hidden, atol=1e-5)
        assert other.influence is None


def test_a_row_of_which_nothing_is_predicted_has_no_influence() -> None:
    model = tiny_model()
    first = sample(6, 1, slice(0, 1))
    found = sample_features(model, [first, ROW], query=tiny_query(model))
    assert np.isnan(found[0].influence)
    assert np.isfinite(found[1].influence)
    (alone,) = sample_features(model, [first], query=tiny_query(model))
    assert np.isnan(alone.influence)


def test_experts_that_see_some_tokens_only_are_left_out() -> None:
    model = tiny_model()
    network = copy.deepcopy(model.network)
    block = network.model.layers[1]
    block.mlp = torch.nn.ModuleDict({"experts": torch.nn.ModuleList([torch.nn.Linear(2, 2)])})
    changed = dataclasses.replace(model, network=network)
    assert all("self_attn" in name for name in linear_layers(changed, [1]))
    block.self_attn = torch.nn.Identity()
    with pytest.raises(ModelError, match="no linear layer"):
        linear_layers(changed, [1])
