"""Residual streams: the right block, nothing after it, and no influence of neighbours."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, BertConfig

from geofilter.errors import ModelError
from geofilter.model.activations import TokenBudget, in_batches, residuals
from geofilter.model.loading import find_blocks
from helpers.tiny_models import BLOCKS, CONFIGS, random_samples, sample, tiny_model


def reference(model, encoded):
    """The whole network's output of block L, by a hook that stops nothing."""
    seen = []
    block = find_blocks(model.network).blocks[model.block]
    handle = block.register_forward_hook(
        lambda _module, _inputs, output: seen.append(
            output[0] if isinstance(output, tuple) else output
        )
    )
    with torch.no_grad():
        model.network(torch.tensor([encoded.ids.tolist()]))
    handle.remove()
    return seen[0][0]


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("block", [0, 2, BLOCKS - 1])
def test_residuals_are_those_of_the_whole_network_at_the_output_of_the_block(architecture, block):
    model = tiny_model(architecture, block=block)
    samples = random_samples(7)
    together = residuals(model, samples)
    for row, encoded in enumerate(samples):
        expected = reference(model, encoded)
        np.testing.assert_allclose(together[row, : len(expected)], expected, atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_block_l_is_entry_l_plus_1_of_the_hidden_states(architecture):
    model = tiny_model(architecture, block=1)
    (encoded,) = random_samples(1)
    with torch.no_grad():
        ids = torch.tensor([encoded.ids.tolist()])
        hidden = model.network(ids, output_hidden_states=True).hidden_states
    ours = residuals(model, [encoded])[0]
    np.testing.assert_allclose(ours, hidden[2][0], atol=1e-5)
    assert not np.allclose(ours, hidden[1][0], atol=1e-2)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_later_blocks_and_the_head_never_run(architecture):
    model = tiny_model(architecture, block=1)
    blocks = find_blocks(model.network).blocks
    ran = []
    for place, module in [*enumerate(blocks), ("head", model.network.get_output_embeddings())]:
        module.register_forward_pre_hook(lambda _module, _inputs, place=place: ran.append(place))
    residuals(model, random_samples(2))
    assert ran == [0, 1]


def test_no_hook_is_left_behind():
    model = tiny_model()
    residuals(model, random_samples(1))
    with torch.no_grad():
        assert model.network(torch.tensor([[1, 5, 6]])).logits.shape == (1, 3, 64)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_residuals_do_not_depend_on_batch_mates(architecture):
    model = tiny_model(architecture)
    short, *others = [sample([1, 5, 6, 7, 8]), *random_samples(6)]
    alone = residuals(model, [short])[0]
    np.testing.assert_allclose(residuals(model, [*others, short])[-1, :5], alone, atol=1e-5)


def test_padding_reaches_no_token_where_attention_goes_both_ways():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4)
    network = AutoModel.from_config(config).eval().requires_grad_(False)
    model = dataclasses.replace(tiny_model(), network=network, causal=False)
    short, *others = [sample([1, 5, 6, 7, 8]), *random_samples(3)]
    alone = residuals(model, [short])[0]
    np.testing.assert_allclose(residuals(model, [*others, short])[-1, :5], alone, atol=1e-5)


def test_batches_hold_the_budget_and_keep_the_order():
    samples = random_samples(50)
    batches = []

    def work(batch):
        batches.append(batch)
        return [encoded.ids.tolist() for encoded in batch]

    results = in_batches(samples, work, TokenBudget(100))
    assert results == [encoded.ids.tolist() for encoded in samples]
    sizes = [len(batch) * max(len(encoded.ids) for encoded in batch) for batch in batches]
    assert max(sizes) <= 100
    assert len(batches) < 25


def test_a_sample_longer_than_the_budget_goes_alone():
    samples = [sample([1, *range(4, 40)]), sample([1, 4, 5])]
    assert in_batches(samples, lambda batch: [len(batch)] * len(batch), TokenBudget(10)) == [1, 1]


@given(st.lists(st.integers(1, 30), max_size=20), st.integers(1, 100), st.integers(30, 100))
@settings(deadline=None)
def test_out_of_memory_halves_the_batch_and_loses_nothing(lengths, budget, memory):
    samples = [sample(list(range(length))) for length in lengths]

    def work(batch):
        if len(batch) * max(len(encoded.ids) for encoded in batch) > memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [len(encoded.ids) for encoded in batch]

    assert in_batches(samples, work, TokenBudget(budget)) == lengths


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_main_memory_is_recognised(error):
    failures = [error]

    def work(batch):
        if failures:
            raise failures.pop()
        return [len(batch)] * len(batch)

    assert in_batches(random_samples(4), work, TokenBudget(10**6)) == [2, 2, 2, 2]


def test_the_budget_stays_small_after_memory_ran_out():
    budget = TokenBudget(1000)
    samples = [sample(list(range(10))) for _ in range(8)]
    sizes = []

    def work(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return [None] * len(batch)

    in_batches(samples, work, budget)
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert budget.tokens == 20


def test_one_sample_that_does_not_fit_is_named():
    def work(_batch):
        raise torch.OutOfMemoryError

    with pytest.raises(ModelError, match="sample of 5 tokens does not fit in memory"):
        in_batches([sample([1, 2, 3, 4, 5])], work, TokenBudget(100))


def test_other_errors_are_not_taken_for_want_of_memory():
    def work(_batch):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(random_samples(3), work, TokenBudget(100))
