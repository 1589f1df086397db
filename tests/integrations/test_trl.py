"""What was masked gets no loss in TRL's trainer, and rows count as much as they weigh."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.samples import Sample
from geofilter.errors import DataError, GeofilterError
from geofilter.integrations.trl import (
    IGNORED,
    WEIGHTS,
    LossCollator,
    weighted,
    weighted_loss,
    whole,
)
from geofilter.selection.loss_note import RowLoss, name_of, read_row_loss
from geofilter.verify.arms import read_training_rows
from geofilter.verify.training import finetune, weights
from geofilter.verify.training.recipe import TrainingRecipe, budget_of, schedule
from helpers import tiny
from helpers.chats import FOUR_TURNS, LONG_ENOUGH, TWO_TURNS, messages, trl_template
from helpers.tiny_models import tiny_network, tiny_tokenizer
from helpers.training_rows import BATCHES, FULL, SAMPLES

pytestmark = pytest.mark.slow

CHATS = (FOUR_TURNS, TWO_TURNS, FOUR_TURNS[2:], TWO_TURNS)


def record(loss: RowLoss) -> dict[str, object]:
    return {"geofilter": loss.note(0.5, 1)._asdict()}


class Trained:
    """Conversations with masks or weights, as TRL's trainer takes them from a data set."""

    def __init__(
        self,
        folder: Path,
        losses: list[RowLoss] | None,
        trainer: Any = SFTTrainer,
        *,
        eval_dataset: Dataset | None = None,
        compute_metrics: Any = None,
        **settings: Any,
    ) -> None:
        self.tokenizer = trl_template("qwen2_5_training")
        self.encoder = Encoder(self.tokenizer, max_length=LONG_ENOUGH)
        rows = [{"messages": messages(turns)} for turns in CHATS]
        collator = None
        if losses is not None:
            rows = [row | record(loss) for row, loss in zip(rows, losses, strict=True)]
            inner = DataCollatorForLanguageModeling(pad_token_id=self.tokenizer.eos_token_id)
            collator = LossCollator(inner)
        self.collator = collator
        torch.manual_seed(0)
        arguments = {
            "assistant_only_loss": True,
            "max_length": LONG_ENOUGH,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "max_steps": 2,
            "learning_rate": 0.05,
            "logging_steps": 1,
            "remove_unused_columns": False,
            **settings,
        }
        self.trainer = trainer(
            model=tiny.llama(len(self.tokenizer)),
            args=SFTConfig(
                output_dir=os.fspath(folder),
                report_to="none",
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
                save_strategy="no",
                **arguments,
            ),
            train_dataset=Dataset.from_list(rows),
            eval_dataset=eval_dataset,
            compute_metrics=compute_metrics,
            processing_class=self.tokenizer,
            data_collator=collator,
        )

    def run(self) -> tuple[list[float], list[torch.Tensor]]:
        """The losses of the steps, and the weights afterwards."""
        self.trainer.train()
        losses = [entry["loss"] for entry in self.trainer.state.log_history if "loss" in entry]
        return losses, [parameter.detach() for parameter in self.trainer.model.parameters()]


def encoded() -> list[Encoded]:
    encoder = Encoder(trl_template("qwen2_5_training"), max_length=LONG_ENOUGH)
    return [encoder.encode(Sample(turns)) for turns in CHATS]


def masked_at_random(seed: int = 0) -> tuple[list[RowLoss], list[np.ndarray]]:
    draw = np.random.default_rng(seed)
    masks = [one.response & (draw.random(len(one.ids)) < 0.4) for one in encoded()]
    losses = [RowLoss.masking(name_of(o.ids), m) for o, m in zip(encoded(), masks, strict=True)]
    return losses, masks


def assert_same(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one[0], other[0], rtol=1e-4)
    for a, b in zip(one[1], other[1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


# masks


def test_trls_trainer_puts_loss_on_the_response_but_for_what_was_masked(tmp_path: Path) -> None:
    losses, masks = masked_at_random()
    trained = Trained(tmp_path, losses, shuffle_dataset=False)
    rows = list(trained.trainer.train_dataset)
    batch = trained.trainer.data_collator(rows)
    for place, (one, mask) in enumerate(zip(encoded(), masks, strict=True)):
        size = len(one.ids)
        assert batch["input_ids"][place, :size].tolist() == one.ids.tolist()
        expected = np.where(one.response & ~mask, one.ids, IGNORED)
        assert batch["labels"][place, :size].tolist() == expected.tolist()
        assert (batch["labels"][place, size:] == IGNORED).all()
    assert set(batch) == {"input_ids", "labels", "attention_mask"}
    assert any(mask.any() for mask in masks)
    trained.run()


def test_a_mask_of_other_tokens_is_refused(tmp_path: Path) -> None:
    losses, _ = masked_at_random()
    shorter = max(len(one.ids) for one in encoded()) - 1
    trained = Trained(tmp_path, losses, max_length=shorter)
    with pytest.raises(DataError, match=rf"other tokens .* than the trainer's \({shorter}:"):
        trained.run()


def test_every_row_can_be_looked_at_before_training(tmp_path: Path) -> None:
    losses, masks = masked_at_random()
    longest = max(place for place, mask in enumerate(masks) if mask.any())
    unmasked = [RowLoss()] * longest + losses[longest:]
    fit = Trained(tmp_path, unmasked, shuffle_dataset=False).trainer
    fit.data_collator.check(fit.train_dataset)
    cut = Trained(tmp_path, unmasked, max_length=len(encoded()[longest].ids) - 1).trainer
    with pytest.raises(DataError, match="other tokens"):
        cut.data_collator.check(cut.train_dataset)


@pytest.mark.parametrize("mask", ["completion_mask", "assistant_masks"])
def test_rows_whose_labels_the_trainers_own_collator_would_make_are_refused(mask: str) -> None:
    """As those of TRL before 1.7: without a word the prompt would be trained on."""
    rows = [{"input_ids": [1, 2, 3], mask: [0, 1, 1], **record(RowLoss())}]
    collator = LossCollator(DataCollatorForLanguageModeling(pad_token_id=0))
    with pytest.raises(DataError, match=r"prompt would be trained on.*trl>=1\.16"):
        collator(rows)
    labelled = [rows[0] | {"labels": [IGNORED, 2, 3]}]
    assert collator(labelled)["labels"].tolist() == [[IGNORED, 2, 3]]


@pytest.mark.parametrize("trainer", [SFTTrainer, weighted(SFTTrainer)])
def test_rows_without_a_note_are_evaluated_on_once_they_are_called_whole(
    tmp_path: Path, trainer: Any
) -> None:
    rows = Dataset.from_list([{"messages": messages(turns)} for turns in CHATS])
    own = Trained(tmp_path, [RowLoss()] * 4, trainer, eval_dataset=rows.map(whole)).trainer
    plain = Trained(tmp_path, None, eval_dataset=rows).trainer
    found, expected = (one.evaluate()["eval_loss"] for one in (own, plain))
    assert found == pytest.approx(expected, rel=1e-4)
    with pytest.raises(DataError, match=r"eval_dataset\.map\(whole\)"):
        Trained(tmp_path, [RowLoss()] * 4, trainer, eval_dataset=rows).trainer.evaluate()
    noted = {"geofilter": {"score": 0.1, "rank": 3}, "geofilter_weight": 0.5}
    assert read_row_loss(noted | whole(noted)).note(None, None) == RowLoss().note(None, None)


def test_rows_that_lost_their_note_are_refused_rather_than_trained_whole(tmp_path: Path) -> None:
    losses, _ = masked_at_random()
    for settings in ({"remove_unused_columns": True}, {"packing": True}):
        if "packing" in settings:
            settings |= {"packing_strategy": "wrapped", "max_length": 16}
        with pytest.raises(DataError, match=r"neither a mask nor a weight.*remove_unused_columns"):
            Trained(tmp_path, losses, **settings).run()


def test_rows_laid_end_to_end_are_refused() -> None:
    rows = [{"input_ids": [1, 2, 3], "labels": [1, 2, 3], **record(RowLoss())}] * 2
    inner = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    with pytest.raises(DataError, match="end to end"):
        LossCollator(inner)(rows)


# weights


def test_weights_of_one_are_trls_own_loss(tmp_path: Path) -> None:
    plain = Trained(tmp_path / "a", None).run()
    assert_same(Trained(tmp_path / "b", [RowLoss()] * 4, weighted(SFTTrainer)).run(), plain)
    assert_same(Trained(tmp_path / "c", [RowLoss()] * 4).run(), plain)


def test_a_row_of_weight_zero_trains_as_if_it_were_masked(tmp_path: Path) -> None:
    gone = [0, 3]
    every = [RowLoss.masking(name_of(one.ids), one.response) for one in encoded()]
    masks = [loss if place in gone else RowLoss() for place, loss in enumerate(every)]
    zeros = [RowLoss(weight=0.0 if place in gone else 1.0) for place in range(4)]
    by_mask = Trained(tmp_path / "a", masks).run()
    assert_same(Trained(tmp_path / "b", zeros, weighted(SFTTrainer)).run(), by_mask)


def test_the_loss_is_the_mean_over_weighted_tokens_of_the_whole_step(tmp_path: Path) -> None:
    losses = [RowLoss(weight=weight) for weight in (0.2, 1.0, 0.7, 0.1)]
    trained = Trained(tmp_path, losses, weighted(SFTTrainer), max_steps=1)
    network = tiny.llama(len(trained.tokenizer))
    network.load_state_dict(trained.trainer.model.state_dict())
    total, amount = torch.zeros(()), 0.0
    for one, loss in zip(encoded(), losses, strict=True):
        ids = torch.from_numpy(one.ids.astype(np.int64))[None]
        logs = network(input_ids=ids).logits[0, :-1].log_softmax(-1)
        wanted = torch.from_numpy(one.response[1:])
        total = total - loss.weight * logs.gather(1, ids[0, 1:, None])[:, 0][wanted].sum()
        amount += loss.weight * int(wanted.sum())
    ((found,), _) = trained.run()
    assert found == pytest.approx(total.item() / amount, rel=1e-4)


def test_nothing_with_a_weight_is_a_loss_of_zero() -> None:
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss = weighted_loss(logits, torch.tensor([[1, 2, 3]]), torch.zeros(1, 3))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_a_trainer_that_would_not_see_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeofilterError, match=r"weighted\(SFTTrainer\)"):
        Trained(tmp_path, [RowLoss(weight=0.5)] * 4).run()
    with pytest.raises(GeofilterError, match="LossCollator"):
        Trained(tmp_path, None, weighted(SFTTrainer))
    rows = [{"input_ids": [1, 2], "labels": [IGNORED, 2], **record(RowLoss(weight=0.5))}]
    collator = LossCollator(DataCollatorForLanguageModeling(pad_token_id=0))
    collator.with_weights = True
    assert collator(rows)[WEIGHTS].tolist() == [[0, 0.5]]


def test_metrics_are_computed_of_a_weighted_trainer(tmp_path: Path) -> None:
    rows = Dataset.from_list([{"messages": messages(turns)} for turns in CHATS]).map(whole)

    def right(found: Any) -> dict[str, float]:
        wanted = found.label_ids[:, 1:]
        guessed = found.predictions.argmax(-1)[:, :-1]
        return {"right": float((wanted == guessed)[wanted != IGNORED].mean())}

    found = [
        Trained(
            tmp_path, losses, trainer, eval_dataset=rows, compute_metrics=right
        ).trainer.evaluate()["eval_right"]
        for losses, trainer in (([RowLoss()] * 4, weighted(SFTTrainer)), (None, SFTTrainer))
    ]
    assert found[0] == found[1]


def test_a_collator_that_a_weighted_trainer_had_refuses_weights_in_a_plain_one(
    tmp_path: Path,
) -> None:
    trained = Trained(tmp_path, [RowLoss(weight=0.5)] * 4, weighted(SFTTrainer))
    rows = [{"input_ids": [1, 2], "labels": [IGNORED, 2], **record(RowLoss(weight=0.5))}]
    assert WEIGHTS in trained.trainer.data_collator(rows)
    with pytest.raises(GeofilterError, match=r"weighted\(SFTTrainer\)"):
        trained.collator(rows)


@pytest.mark.parametrize(
    ("settings", "told"),
    [({"loss_type": "dft"}, "loss_type='dft'"), ({"label_smoothing_factor": 0.1}, "smoothing")],
)
def test_another_loss_than_the_plain_one_is_refused(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    Trained(tmp_path, [RowLoss()] * 4, **settings)
    with pytest.raises(GeofilterError, match=f"plain loss only.*{told}"):
        Trained(tmp_path, [RowLoss()] * 4, weighted(SFTTrainer), **settings)


def test_the_load_balancing_loss_of_experts_is_refused(tmp_path: Path, monkeypatch) -> None:
    plain = SFTTrainer.__init__

    def of_experts(self: Any, *arguments: Any, **named: Any) -> None:
        plain(self, *arguments, **named)
        self.aux_loss_enabled = True

    monkeypatch.setattr(SFTTrainer, "__init__", of_experts)
    with pytest.raises(GeofilterError, match=r"router_aux_loss_coef=0\.0"):
        Trained(tmp_path, [RowLoss()] * 4, weighted(SFTTrainer))


# verification trains on rows as they carry masks and weights


def test_verification_trains_a_masked_row_as_one_with_a_shorter_response(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    masks = [one.response & (draw.random(len(one.ids)) < 0.3) for one in SAMPLES]
    losses = [RowLoss.masking(name_of(o.ids), m) for o, m in zip(SAMPLES, masks, strict=True)]
    shorter = [
        Encoded(o.ids, o.response & ~m, o.pooled, False, o.total_tokens, None)
        for o, m in zip(SAMPLES, masks, strict=True)
    ]
    found = [
        finetune.fine_tune(
            tiny_network(), tiny_tokenizer(), own, BATCHES, FULL, tmp_path, seed=0, losses=given
        )
        for own, given in ((SAMPLES, losses), (shorter, None))
    ]
    assert found[0][1].losses == found[1][1].losses
    assert found[0][1].tokens == found[1][1].tokens
    states = [weights.ready(trained).state_dict() for trained, _ in found]
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name])


def test_verification_weighs_rows(tmp_path: Path) -> None:
    recipe = TrainingRecipe(**{**FULL.__dict__, "micro_batch": 2})
    uneven = [RowLoss(weight=0.0 if place % 2 else 1.0) for place in range(8)]
    kept = [[place for place in batch if not place % 2] for batch in BATCHES]
    _, by_weight = finetune.fine_tune(
        tiny_network(), tiny_tokenizer(), SAMPLES, BATCHES, recipe, tmp_path, seed=0, losses=uneven
    )
    _, by_drop = finetune.fine_tune(
        tiny_network(), tiny_tokenizer(), SAMPLES, kept, recipe, tmp_path, seed=0
    )
    np.testing.assert_allclose(by_weight.losses, by_drop.losses, rtol=1e-4)
    assert by_weight.tokens == by_drop.tokens


def test_verification_reads_what_stands_beside_rows_and_keeps_the_budget_of_all(
    tmp_path: Path,
) -> None:
    path, tokenizer = tmp_path / "rows.jsonl", tiny_tokenizer()
    rows = [{"prompt": "w1 w2", "response": f"w{n} w3 w4 w5"} for n in range(5, 9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = read_training_rows(str(path), tokenizer, 48)
    assert plain.losses is None
    whole = plain.encoded[1]
    losses = [
        RowLoss(weight=0.5),
        RowLoss.masking(name_of(whole.ids), whole.response),
        RowLoss(),
        RowLoss(weight=0.0),
    ]
    noted = [row | record(loss) for row, loss in zip(rows, losses, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in noted))
    read = read_training_rows(str(path), tokenizer, 48)
    assert read.lengths == plain.lengths
    own = finetune.weighted_lengths(read.encoded, read.losses)
    assert own == [read.lengths[0] / 2, 0, read.lengths[2], 0]
    steps = schedule(own, budget_of(read.lengths, batch=2), seed=0)
    assert {place for step in steps for place in step} == {0, 2}
    assert sum(own[p] for step in steps for p in step) >= sum(read.lengths)
    with pytest.raises(ValueError, match="no sample has a token"):
        schedule([0.0, 0.0], budget_of([1], batch=1), seed=0)
