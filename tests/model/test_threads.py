"""A tiny network runs on one thread, and the threads are as before when it is done."""

import pytest
import torch

from geofilter.model import features, threads
from helpers.tiny_models import random_samples, tiny_model, tiny_network


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_inside_there_is_one_thread_and_the_three_are_back_after_an_error():
    seen = []

    def fail():
        with threads.few_threads(tiny_network()):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [1]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_a_larger_network_keeps_its_threads(monkeypatch):
    network = tiny_network()
    monkeypatch.setattr(threads, "SMALL", sum(w.numel() for w in network.parameters()))
    with threads.few_threads(network):
        assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_rows_are_looked_at_on_one_thread_by_a_tiny_model(monkeypatch):
    seen, residuals = [], features.residuals

    def look(*given):
        seen.append(torch.get_num_threads())
        return residuals(*given)

    monkeypatch.setattr(features, "residuals", look)
    features.sample_features(tiny_model(), random_samples(4))
    assert set(seen) == {1}
    assert torch.get_num_threads() == 3
