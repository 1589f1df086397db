"""Fine-tune a causal language model on encoded samples, through TRL and PEFT.

The trainer is handed tokens and labels that the encoder made, so that it puts loss on
exactly the tokens that were scored, in the batches that the schedule says.

This module knows nothing about arms, scores, questions or answers.
"""

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from geofilter.collator import IGNORED, LossCollator, weighted
from geofilter.errors import MissingExtraError, ModelError
from geofilter.models import quiet_transformers
from geofilter.row_loss import FIELDS, RowLoss
from geofilter.verify.recipe import Recipe

if TYPE_CHECKING:
    from geofilter.conversation import Encoded

# Called with (steps done, steps in all).
Progress = Callable[[int, int], None]
# Called with (steps done, what is trained); it must leave the network and all random state alone.
AfterStep = Callable[[int, Any], None]


@dataclass(frozen=True)
class Training:
    """What a run of fine-tuning did. `losses` is the mean loss per response token of each step."""

    steps: int
    samples: int
    tokens: int  # response tokens that carried loss, each with its weight
    losses: tuple[float, ...]
    seconds: float


def fine_tune(
    network: Any,
    tokenizer: Any,
    samples: "Sequence[Encoded]",
    batches: Sequence[Sequence[int]],
    recipe: Recipe,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    losses: Sequence[RowLoss] | None = None,
    progress: Progress | None = None,
    after_step: AfterStep | None = None,
) -> tuple[Any, Training]:
    """Train `network` in place on `samples`, one optimiser step per list of `batches`.

    Returns what was trained (the network, or its adapter around it; see `weights`) and
    what was done. `losses` has each sample's mask and weight, where rows carry them.
    `folder` is the trainer's own place; nothing of it is needed afterwards. `after_step` is
    called before the first step, with 0, and after each. Raises `MissingExtraError` without TRL
    and PEFT, `ModelError` when the loss stops being a number.
    """
    trl, peft = import_trainers()
    torch.manual_seed(seed)  # the adapter's first weights
    network.requires_grad_(True).train()
    parts = accumulation(batches, recipe)
    arguments = trl.SFTConfig(
        output_dir=os.fspath(folder),
        max_steps=len(batches),
        per_device_train_batch_size=recipe.micro_batch,
        gradient_accumulation_steps=parts,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        optim="adamw_torch",
        max_grad_norm=1.0,
        seed=seed,
        bf16=network.device.type == "cuda",
        use_cpu=network.device.type == "cpu",
        **_checkpointing(trl.SFTConfig, network.device.type == "cuda"),
        max_length=recipe.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=network.device.type == "cuda",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    config = None
    if recipe.method == "lora":
        config = peft.LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            use_rslora=recipe.rslora,
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
    with _quiet():
        trainer = _trainer_class(trl, losses)(
            micro_batches=[part for batch in batches for part in split_evenly(batch, parts)],
            model=network,
            args=arguments,
            processing_class=tokenizer,
            train_dataset=_dataset(samples, losses),
            data_collator=_collator(trl, tokenizer) if losses is not None else None,
            peft_config=config,
            callbacks=[_callback(progress, after_step)],
        )
        # It prints to standard output, which belongs to results.
        trainer.remove_callback(transformers.PrinterCallback)
        started = time.perf_counter()
        trainer.train()
    steps = tuple(entry["loss"] for entry in trainer.state.log_history if "loss" in entry)
    if not all(np.isfinite(steps)):
        raise ModelError(
            f"the loss was not a number at step {int(np.argmin(np.isfinite(steps))) + 1}; "
            "use a smaller learning rate or another dtype"
        )
    lengths = weighted_lengths(samples, losses)
    done = Training(
        steps=len(batches),
        samples=sum(map(len, batches)),
        tokens=round(sum(lengths[place] for batch in batches for place in batch)),
        losses=steps,
        seconds=round(time.perf_counter() - started, 1),
    )
    return trainer.model, done


def weighted_lengths(samples: "Sequence[Encoded]", losses: Sequence[RowLoss] | None) -> list[float]:
    """Response tokens of each sample that carry loss, times its weight."""
    if losses is None:
        return [int(sample.response.sum()) for sample in samples]
    return [
        loss.weight * int((sample.response & ~loss.mask_of(sample.ids)).sum())
        for sample, loss in zip(samples, losses, strict=True)
    ]


def accumulation(batches: Sequence[Sequence[int]], recipe: Recipe) -> int:
    """Into how many parts every batch is cut; none may be empty, and all steps have as many."""
    wanted = max(1, -(-max(map(len, batches)) // recipe.micro_batch))
    return min(wanted, min(map(len, batches)))


def split_evenly(batch: Sequence[int], parts: int) -> list[list[int]]:
    """`batch` cut into `parts` lists whose lengths differ by one at most."""
    bounds = [len(batch) * part // parts for part in range(parts + 1)]
    return [list(batch[start:end]) for start, end in pairwise(bounds)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the trainers' libraries say to each other off the terminal."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _checkpointing(arguments: Any, wanted: bool) -> dict[str, bool]:
    """The option that saves memory on a GPU, by the name that this transformers has for it."""
    names = {field.name for field in dataclasses.fields(arguments)}
    new, old = "activation_checkpointing", "gradient_checkpointing"
    return {(new if new in names else old): wanted}


def import_trainers() -> tuple[Any, Any]:
    """TRL and PEFT. Raises `MissingExtraError` without them."""
    try:
        import peft
        import trl
    except ImportError as error:
        raise MissingExtraError(
            "fine-tuning needs TRL and PEFT, which are not installed; install them with: "
            "pip install 'geofilter[train]'"
        ) from error
    return trl, peft


def _dataset(samples: "Sequence[Encoded]", losses: Sequence[RowLoss] | None) -> Any:
    from datasets import Dataset

    notes = [loss.note(None, None) for loss in losses or ()]
    # The first token is predicted by none, so that a loss on it would be the trainer's alone.
    return Dataset.from_dict(
        {
            "input_ids": [sample.ids.tolist() for sample in samples],
            "labels": [
                np.where(sample.response, sample.ids, IGNORED).tolist() for sample in samples
            ],
            **({f"geofilter_{k}": [getattr(n, k) for n in notes] for k in FIELDS} if notes else {}),
        }
    )


def _collator(trl: Any, tokenizer: Any) -> LossCollator:
    inner = trl.trainer.sft_trainer.DataCollatorForLanguageModeling
    padding = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return LossCollator(inner(pad_token_id=padding))


def _trainer_class(trl: Any, losses: Sequence[RowLoss] | None) -> Any:
    uneven = any(loss.weight != 1 for loss in losses or ())
    base: Any = weighted(trl.SFTTrainer) if uneven else trl.SFTTrainer

    class ScheduledTrainer(base):  # type: ignore[misc]
        """TRL's trainer on micro-batches that were chosen beforehand."""

        def __init__(self, micro_batches: list[list[int]], **arguments: Any) -> None:
            self._micro_batches = micro_batches
            super().__init__(**arguments)

        def get_train_dataloader(self) -> Any:
            loader = torch.utils.data.DataLoader(
                self.train_dataset,
                batch_sampler=self._micro_batches,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
            # On one device: accelerate would deal the batches out to several.
            return self.accelerator.prepare(loader)

    return ScheduledTrainer


def _callback(progress: Progress | None, after_step: AfterStep | None) -> Any:
    class Report(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if after_step is not None:
                after_step(0, parts["model"])

        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if progress is not None:
                progress(state.global_step, state.max_steps)
            if after_step is not None:
                after_step(state.global_step, parts["model"])

    return Report()
