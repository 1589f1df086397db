"""Masks and weights of rows in a trainer: a collator, and a trainer's class that weighs.

    from trl import SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    collator = LossCollator(DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id))
    trainer = weighted(SFTTrainer)(data_collator=collator, ...)  # for masks: SFTTrainer itself
    trainer.data_collator.check(trainer.train_dataset)

with `SFTConfig(remove_unused_columns=False)`, so that what stands next to a row reaches the
collator. It works on what the trainer tokenised, and refuses a mask of other tokens. An
`eval_dataset` whose rows have no notes is given them by `eval_dataset.map(whole)`.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from geofilter.errors import DataError, GeofilterError
from geofilter.selection.loss_note import FIELDS, RowLoss, read_row_loss

IGNORED = -100
# Where a batch holds the weights of its tokens, (batch, longest).
WEIGHTS = "loss_weights"
_PASSED_ON = ("input_ids", "labels", "attention_mask")
# Where TRL before 1.7 says what has no loss; its own collator made the labels of it.
_MASKS = ("completion_mask", "assistant_masks")


class LossCollator:
    """Takes the loss off masked tokens, then lets `inner` make the batch.

    `inner` pads examples of `input_ids` and `labels` to tensors, as TRL's
    `DataCollatorForLanguageModeling` does. Labels of masked tokens become -100. Rows whose
    weight is not 1 are refused unless a trainer of `weighted` is there to weigh them; then a
    batch has their weights at the tokens under the loss, 0 elsewhere.

    Raises `DataError` for a row that carries neither a mask nor a weight, one whose tokens are
    not those that were masked, for rows without the trainer's labels, and for packed rows.
    """

    def __init__(self, inner: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self.inner = inner
        self.with_weights = False

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        losses = [self._loss_of(example) for example in examples]
        batch = self.inner([_masked(*pair) for pair in zip(examples, losses, strict=True)])
        labels = batch["labels"]
        if labels.shape[0] != len(examples) or "seq_lengths" in examples[0]:
            raise DataError(
                "rows are packed or laid end to end, so that masks and weights have lost their "
                "rows; train with packing=False and padding_free=False"
            )
        if self.with_weights:
            weights = torch.tensor([loss.weight for loss in losses], dtype=torch.float32)
            batch[WEIGHTS] = weights[:, None] * (labels != IGNORED)
        return batch

    def check(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Look at every row, as the trainer tokenised it: `trainer.train_dataset`.

        Raises before training what else would be raised in the midst of it.
        """
        for row in rows:
            _masked(row, self._loss_of(row))

    def _loss_of(self, example: Mapping[str, Any]) -> RowLoss:
        loss = read_row_loss(example)
        if loss is None:
            raise DataError(
                "a row carries neither a mask nor a weight: give data that `geofilter filter "
                "--action mask` or `weight` wrote, with SFTConfig(remove_unused_columns=False) "
                "and packing=False; to evaluate on rows as they are, eval_dataset.map(whole)"
            )
        if loss.weight != 1 and not self.with_weights:
            raise GeofilterError(
                f"a row has the weight {loss.weight:g}, which this trainer would not see; train "
                "with geofilter.integrations.trl.weighted(SFTTrainer)"
            )
        return loss


def _masked(example: Mapping[str, Any], loss: RowLoss) -> dict[str, Any]:
    """The example as the trainer made it, without its other columns and masked labels."""
    own = {name: example[name] for name in _PASSED_ON if name in example}
    if "labels" not in example and any(name in example for name in _MASKS):
        raise DataError(
            "the trainer's rows have no labels, so that the prompt would be trained on: it is a "
            "TRL before 1.7; install trl>=1.16"
        )
    ids = np.asarray(example["input_ids"], np.int32)
    labels = np.asarray(example.get("labels", ids), np.int64)
    own["labels"] = np.where(loss.mask_of(ids), IGNORED, labels).tolist()
    return own


def whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """The note of a row that has its whole loss: `eval_dataset.map(whole)`.

    For rows to evaluate on that nothing of geofilter wrote; a note that is there is replaced.
    Rows to train on have notes of their own, and one that lost its note is another matter.
    """
    note = RowLoss().note(None, None)
    return {"geofilter": {name: getattr(note, name) for name in FIELDS}}


def weighted_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    total: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """Σ w_t ℓ_t / Σ w_t over the tokens under the loss: the mean loss of a weighted token.

    `logits` (batch, tokens, vocabulary); `labels` and `weights` (batch, tokens). ℓ_t is the
    negative log-likelihood, in nats, of the token at t, predicted from the one before it.
    `total` is Σ w_t where the batch is a part of an optimiser step. With all weights 1 it is
    the plain mean; a row of weight 0 counts as if it were masked, and does not count in the
    mean. 0 where nothing has a weight.
    """
    wanted = labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none"
    )  # (batch, tokens - 1)
    own = (weights[:, 1:] * (wanted != IGNORED)).to(losses.dtype)
    whole = own.sum() if total is None else torch.as_tensor(total, device=losses.device)
    return (losses * own).sum() / torch.where(whole > 0, whole, 1)


def weighted(trainer: type[Any]) -> type[Any]:
    """A class of trainer like `trainer` (TRL's `SFTTrainer`) whose loss is `weighted_loss`.

    The sum of weights is that of a whole optimiser step: all its parts and all processes.
    Its `data_collator` has to be a `LossCollator`, of which it keeps a copy. TRL's token
    accuracy and entropy are not logged, for the loss needs the logits, which TRL's own way
    does not make. Raises `GeofilterError` for settings that ask for another loss.
    """

    class WeightedTrainer(trainer):  # type: ignore[misc]
        data_collator: Any
        # Each part is divided by the sum of the whole step already.
        loss_is_scaled_for_ga = True

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            if not isinstance(self.data_collator, LossCollator):
                raise GeofilterError("a weighted trainer needs data_collator=LossCollator(...)")
            _refuse_other_losses(self)
            # A copy: other users of this collator are no weighted trainers.
            own = copy.copy(self.data_collator)
            own.with_weights = True
            self.data_collator = own
            # What releases of the trainer without `loss_is_scaled_for_ga` ask.
            self.model_accepts_loss_kwargs = True

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            """The parts of a step, and the sum of their weights."""
            parts, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
            sums = [part[WEIGHTS][:, 1:].sum() for part in parts]
            total = torch.stack(sums).sum().to(device) if sums else None
            if total is not None and self.accelerator.num_processes > 1:
                total = self.accelerator.gather(total).sum()
            return parts, total

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            # The caller reads its inputs again: labels are what metrics are computed of.
            own = {k: v for k, v in inputs.items() if k not in (WEIGHTS, "labels")}
            outputs = model(**own, use_cache=False)
            loss = weighted_loss(
                outputs.logits, inputs["labels"], inputs[WEIGHTS], num_items_in_batch
            )
            if num_items_in_batch is not None:
                # Gradients are averaged over processes, and the sum is that of all of them.
                loss = loss * self.accelerator.num_processes
            return (loss, outputs) if return_outputs else loss

    return WeightedTrainer


def _refuse_other_losses(trainer: Any) -> None:
    """`weighted_loss` is the plain loss: raise where the trainer is to have another."""
    asked = {
        f"loss_type={trainer.args.loss_type!r}": trainer.args.loss_type != "nll",
        "label_smoothing_factor": trainer.args.label_smoothing_factor > 0,
        "compute_loss_func": trainer.compute_loss_func is not None,
        "the load-balancing loss of experts (router_aux_loss_coef=0.0 turns it off)": (
            trainer.aux_loss_enabled
        ),
    }
    if found := [name for name, is_asked in asked.items() if is_asked]:
        raise GeofilterError(
            f"a weighted trainer has the plain loss only, and would leave out {found[0]}; train "
            "without it, or drop or mask rows in place of weighing them"
        )
