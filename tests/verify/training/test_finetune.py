"""The trainer sees the tokens that were scored, in the batches that were scheduled."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trl

from geofilter.data.encoder import Encoded
from geofilter.errors import GeofilterError, MissingExtraError, ModelError
from geofilter.model.answers import undisturbed
from geofilter.verify.training import finetune, weights
from geofilter.verify.training.recipe import TrainingRecipe
from geofilter.verify.training.weights import CausalModel, response_losses
from helpers.tiny_models import tiny_network, tiny_tokenizer
from helpers.training_rows import BATCHES, FULL, SAMPLES

pytestmark = pytest.mark.slow

# As where one row is longer than many others together.
SKEWED = [[0, 1, 2, 3, 4, 5, 6], [7], [2, 0, 4]]
LORA = TrainingRecipe(learning_rate=1e-2, batch=4, rank=4, alpha=8)


def by_hand(recipe: TrainingRecipe, batches: Sequence[Sequence[int]]) -> tuple[Any, list[float]]:
    """The same steps, written out: AdamW on the mean loss over a step's response tokens."""
    network = tiny_network().requires_grad_(True).train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.1},
            {"params": [p for p in network.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
    )
    losses = []
    for batch in batches:
        total, tokens = torch.zeros(()), 0
        for place in batch:
            one = SAMPLES[place]
            ids = torch.from_numpy(one.ids.astype(np.int64))[None]
            logs = network(input_ids=ids).logits[0, :-1].log_softmax(-1)
            wanted = torch.from_numpy(one.response[1:])
            total = total - logs.gather(1, ids[0, 1:, None])[:, 0][wanted].sum()
            tokens += int(wanted.sum())
        optimizer.zero_grad()
        (total / tokens).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(total.detach() / tokens))
    return network, losses


@pytest.mark.parametrize(("batches", "micro_batch"), [(BATCHES, 8), (BATCHES, 2), (SKEWED, 2)])
def test_full_fine_tuning_is_adamw_on_the_response_tokens(
    tmp_path: Path, batches: list[list[int]], micro_batch: int
) -> None:
    recipe = TrainingRecipe(**{**FULL.__dict__, "micro_batch": micro_batch})
    network, at_once = tiny_network(), []
    watch = network.model.register_forward_pre_hook(
        lambda _module, _arguments, named: at_once.append(len(named["input_ids"])),
        with_kwargs=True,
    )
    trained, done = finetune.fine_tune(
        network, tiny_tokenizer(), SAMPLES, batches, recipe, tmp_path, seed=0
    )
    watch.remove()
    expected, losses = by_hand(recipe, batches)
    assert max(at_once) <= micro_batch
    np.testing.assert_allclose(done.losses, losses, rtol=2e-5)
    for name, tensor in weights.ready(trained).state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=0, atol=5e-5)
    assert (done.steps, done.samples) == (3, sum(map(len, batches))) == (3, sum(at_once))
    assert done.tokens == sum(int(SAMPLES[p].response.sum()) for b in batches for p in b)


def test_an_adapter_is_kept_without_its_model_and_gives_the_same_answers(tmp_path: Path) -> None:
    trained, _ = finetune.fine_tune(
        tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, LORA, tmp_path / "trainer", seed=3
    )
    weights.save(trained, tmp_path / "kept")
    files = {path.name for path in (tmp_path / "kept").iterdir()}
    assert "adapter_model.safetensors" in files
    assert not any(name.startswith("model") or name.endswith(".bin") for name in files)
    at_once = response_losses(weights.ready(trained), SAMPLES)
    again = weights.load_trained(CausalModel(tiny_network(), tiny_tokenizer()), tmp_path / "kept")
    np.testing.assert_allclose(response_losses(again.network, SAMPLES), at_once, rtol=1e-5)
    before = response_losses(tiny_network(), SAMPLES)
    assert np.abs(np.subtract(at_once, before)).max() > 0.01


def test_equal_seeds_train_alike_and_others_do_not(tmp_path: Path) -> None:
    def losses(seed: int) -> list[float | None]:
        trained, _ = finetune.fine_tune(
            tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, LORA, tmp_path, seed=seed
        )
        return response_losses(weights.ready(trained), SAMPLES)

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_a_tokenizer_without_a_token_for_padding_trains_alike(tmp_path: Path) -> None:
    bare = tiny_tokenizer()
    bare.pad_token = None
    found = [
        finetune.fine_tune(tiny_network(), own, SAMPLES, BATCHES, LORA, tmp_path, seed=0)[1]
        for own in (tiny_tokenizer(), bare)
    ]
    assert found[0].losses == found[1].losses


@pytest.mark.parametrize(
    ("batches", "micro_batch", "counts"),
    [
        (BATCHES, 8, [1, 1, 1]),
        (BATCHES, 2, [3, 3, 3]),
        (SKEWED, 2, [4, 1, 2]),
        (SKEWED, 1, [7, 1, 3]),
    ],
)
def test_parts_of_a_step_hold_every_sample_and_none_is_empty_or_too_large(
    batches: list[list[int]], micro_batch: int, counts: list[int]
) -> None:
    steps = finetune.cut(batches, micro_batch)
    assert [[place for part in step for place in part] for step in steps] == batches
    assert [len(step) for step in steps] == counts
    for step in steps:
        sizes = [len(part) for part in step]
        assert 0 < min(sizes) <= max(sizes) <= micro_batch
        assert max(sizes) - min(sizes) <= 1


def test_a_network_is_trained_on_its_own_gpu_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current: list[torch.device] = []
    for name, does in {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "set_device": current.append,
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_capability": lambda *_, **__: (9, 0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, does)
    second = torch.device("cuda:1")
    settings = finetune.arguments(trl, LORA, tmp_path, second, steps=1, seed=0)
    assert (settings.n_gpu, settings.device, current[-1]) == (1, second, second)


@pytest.mark.parametrize("recipe", [FULL, LORA], ids=["full", "lora"])
def test_a_network_answers_alike_in_training_after_it_and_when_it_is_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: TrainingRecipe
) -> None:
    """Though it was trained in mixed precision, as on a GPU."""
    real = finetune.arguments

    def mixed(trl: Any, *parts: Any, **named: Any) -> Any:
        class Mixed(trl.SFTConfig):  # type: ignore[misc]
            def __init__(self, **settings: Any) -> None:
                super().__init__(**{**settings, "bf16": True})

        monkeypatch.setattr(trl, "SFTConfig", Mixed)
        return real(trl, *parts, **named)

    followed: list[list[float | None]] = []

    def follow(_step: int, network: Any) -> None:
        with undisturbed(network):
            followed.append(response_losses(network, SAMPLES))

    monkeypatch.setattr(finetune, "arguments", mixed)
    own = tmp_path / "trainer"
    trained, _ = finetune.fine_tune(
        tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, recipe, own, seed=3, after_step=follow
    )
    weights.save(trained, tmp_path / "kept")
    at_once = response_losses(weights.ready(trained), SAMPLES)
    assert followed[-1] == at_once
    again = weights.load_trained(CausalModel(tiny_network(), tiny_tokenizer()), tmp_path / "kept")
    assert response_losses(again.network, SAMPLES) == at_once


def test_an_adapter_is_asked_as_it_was_trained_and_not_rounded_into_its_model(
    tmp_path: Path,
) -> None:
    recipe = TrainingRecipe(learning_rate=1e-4, batch=4, rank=4, alpha=8)

    def base() -> Any:
        return tiny_network().to(torch.bfloat16)

    trained, _ = finetune.fine_tune(
        base(), tiny_tokenizer(), SAMPLES, BATCHES, recipe, tmp_path / "trainer", seed=3
    )
    weights.save(trained, tmp_path / "kept")
    as_trained = response_losses(trained.eval(), SAMPLES)
    assert response_losses(weights.ready(trained), SAMPLES) == as_trained
    again = weights.load_trained(CausalModel(base(), tiny_tokenizer()), tmp_path / "kept")
    assert response_losses(again.network, SAMPLES) == as_trained


def test_a_loss_that_is_no_number_is_told_with_its_step(tmp_path: Path) -> None:
    network = tiny_network()
    with torch.no_grad():
        network.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="not a number at step 1"):
        finetune.fine_tune(network, tiny_tokenizer(), SAMPLES, BATCHES, FULL, tmp_path, seed=0)


def test_losses_are_those_of_the_model_itself() -> None:
    network = tiny_network("gemma2")
    found = response_losses(network, SAMPLES)
    for one, loss in zip(SAMPLES, found, strict=True):
        ids = torch.from_numpy(one.ids.astype(np.int64))[None]
        labels = torch.where(torch.from_numpy(one.response)[None], ids, -100)
        with torch.no_grad():
            expected = network(input_ids=ids, labels=labels).loss
        assert loss == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_that_nothing_predicts_is_none() -> None:
    ids = np.array([5], np.int32)
    alone = Encoded(ids, np.ones(1, bool), np.ones(1, bool), False, 1, None)
    assert response_losses(tiny_network(), [alone, SAMPLES[0]])[0] is None


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(GeofilterError, match="'qlora' is not known; choose lora or full"):
        TrainingRecipe(method="qlora")  # type: ignore[arg-type]
    with pytest.raises(GeofilterError, match="learning_rate is nan"):
        TrainingRecipe(learning_rate=float("nan"))
    with pytest.raises(GeofilterError, match="steps is 0"):
        TrainingRecipe(steps=0)


def test_without_trl_the_line_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geofilter\[train\]'"):
        finetune.fine_tune(
            tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, FULL, tmp_path, seed=0
        )


def test_rounded_weights_are_left_as_they_are_and_their_adapter_is_trained_in_float32(
    tmp_path: Path,
) -> None:
    network = tiny_network()
    network.is_loaded_in_4bit = True  # as bitsandbytes marks it
    before = {name: one.clone() for name, one in network.named_parameters()}
    trained, _ = finetune.fine_tune(
        network, tiny_tokenizer(), SAMPLES, BATCHES, LORA, tmp_path / "trainer", seed=3
    )
    learnt = [one for one in trained.parameters() if one.requires_grad]
    assert {one.dtype for one in learnt} == {torch.float32}
    left = trained.get_base_model().state_dict()
    for name, weight in before.items():
        whole, _, last = name.rpartition(".")
        assert torch.equal(left.get(name, left.get(f"{whole}.base_layer.{last}")), weight)
    with pytest.raises(ModelError, match="train an adapter, by --method lora"):
        finetune.fine_tune(network, None, SAMPLES, BATCHES, FULL, tmp_path, seed=3)
