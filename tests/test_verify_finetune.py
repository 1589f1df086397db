"""The trainer sees the tokens that were scored, in the batches that were scheduled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import VOCABULARY, tiny_network, tiny_tokenizer

from geofilter.conversation import Encoded
from geofilter.errors import GeofilterError, MissingExtraError, ModelError
from geofilter.verify import finetune, weights
from geofilter.verify.losses import response_losses
from geofilter.verify.recipe import Recipe
from geofilter.verify.weights import CausalModel

FULL = Recipe(
    method="full",
    learning_rate=3e-3,
    scheduler="constant",
    warmup_steps=0,
    weight_decay=0.1,
    batch=4,
    micro_batch=8,
)
BATCHES = [[0, 3, 5, 1], [2, 4, 6], [7, 0, 2, 5, 1]]


def sample(length: int, seed: int) -> Encoded:
    generator = np.random.default_rng(seed)
    ids = generator.integers(4, VOCABULARY, length).astype(np.int32)
    response = np.zeros(length, bool)
    response[length // 2 :] = True
    return Encoded(ids, response, response, False, length, None)


SAMPLES = [sample(5 + 3 * place, place) for place in range(8)]


def by_hand(recipe: Recipe) -> tuple[Any, list[float]]:
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
    for batch in BATCHES:
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


@pytest.mark.parametrize("micro_batch", [8, 2])
def test_full_fine_tuning_is_adamw_on_the_response_tokens(tmp_path: Path, micro_batch: int) -> None:
    recipe = Recipe(**{**FULL.__dict__, "micro_batch": micro_batch})
    trained, done = finetune.fine_tune(
        tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, recipe, tmp_path, seed=0
    )
    expected, losses = by_hand(recipe)
    np.testing.assert_allclose(done.losses, losses, rtol=2e-5)
    for name, tensor in weights.ready(trained).state_dict().items():
        torch.testing.assert_close(tensor, expected.state_dict()[name], rtol=0, atol=2e-5)
    assert (done.steps, done.samples) == (3, 12)
    assert done.tokens == sum(int(SAMPLES[p].response.sum()) for b in BATCHES for p in b)


def test_an_adapter_is_kept_without_its_model_and_gives_the_same_answers(tmp_path: Path) -> None:
    recipe = Recipe(learning_rate=1e-2, batch=4, rank=4, alpha=8)
    trained, _ = finetune.fine_tune(
        tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, recipe, tmp_path / "trainer", seed=3
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
    recipe = Recipe(learning_rate=1e-2, batch=4, rank=4, alpha=8)

    def losses(seed: int) -> list[float | None]:
        trained, _ = finetune.fine_tune(
            tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, recipe, tmp_path, seed=seed
        )
        return response_losses(weights.ready(trained), SAMPLES)

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_a_tokenizer_without_a_token_for_padding_trains_alike(tmp_path: Path) -> None:
    recipe = Recipe(learning_rate=1e-2, batch=4, rank=4, alpha=8)
    bare = tiny_tokenizer()
    bare.pad_token = None
    found = [
        finetune.fine_tune(tiny_network(), own, SAMPLES, BATCHES, recipe, tmp_path, seed=0)[1]
        for own in (tiny_tokenizer(), bare)
    ]
    assert found[0].losses == found[1].losses


def test_parts_of_a_step_are_never_empty_and_hold_every_sample() -> None:
    recipe = Recipe(batch=4, micro_batch=2)
    parts = finetune.accumulation(BATCHES, recipe)
    assert parts == 3
    for batch in BATCHES:
        cut = finetune.split_evenly(batch, parts)
        assert [place for part in cut for place in part] == batch
        assert all(cut)
        assert max(map(len, cut)) - min(map(len, cut)) <= 1


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
        Recipe(method="qlora")  # type: ignore[arg-type]
    with pytest.raises(GeofilterError, match="learning_rate is nan"):
        Recipe(learning_rate=float("nan"))
    with pytest.raises(GeofilterError, match="steps is 0"):
        Recipe(steps=0)


def test_without_trl_the_line_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'geofilter\[train\]'"):
        finetune.fine_tune(
            tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, FULL, tmp_path, seed=0
        )
