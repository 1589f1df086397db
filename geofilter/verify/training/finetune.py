"""Fine-tune a causal language model on encoded samples, through TRL and PEFT.

The trainer is handed tokens and labels that the encoder made, so that it puts loss on
exactly the tokens that were scored, in the batches that the schedule says, on one device.
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

from geofilter.errors import MissingExtraError, ModelError
from geofilter.integrations.trl import IGNORED, LossCollator, weighted
from geofilter.model.quantized import is_quantized
from geofilter.model.quiet import quiet_transformers
from geofilter.selection.loss_note import FIELDS, RowLoss
from geofilter.verify.training.recipe import TrainingRecipe

if TYPE_CHECKING:
    from geofilter.data.encoder import Encoded

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
    recipe: TrainingRecipe,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    losses: Sequence[RowLoss] | None = None,
    progress: Progress | None = None,
    after_step: AfterStep | None = None,
    report_to: Sequence[str] = (),
    run_name: str | None = None,
) -> tuple[Any, Training]:
    """Train `network` in place on `samples`, one optimiser step per list of `batches`.

    Returns what was trained (the network, or its adapter around it; see `weights`) and
    what was done. `losses` has each sample's mask and weight, where rows carry them.
    `folder` is the trainer's own place; nothing of it is needed afterwards. `after_step` is
    called before the first step, with 0, and after each. `report_to` names the trackers to which
    the trainer logs, as `run_name` (see `run_log`). Raises `MissingExtraError` without TRL
    and PEFT, `ModelError` when the loss stops being a number and for `full` on rounded weights.
    """
    trl, peft = import_trainers()
    if is_quantized(network) and recipe.method == "full":
        raise ModelError("rounded weights cannot be trained; train an adapter, by --method lora")
    torch.manual_seed(seed)  # the adapter's first weights
    rounded = is_quantized(network)
    # Rounded weights have no gradient; an adapter is trained alongside (QLoRA).
    network.requires_grad_(not rounded).train()
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
            steps=cut(batches, recipe.micro_batch),
            model=network,
            args=arguments(
                trl,
                recipe,
                folder,
                network.device,
                steps=len(batches),
                seed=seed,
                report_to=report_to,
                run_name=run_name,
            ),
            processing_class=tokenizer,
            train_dataset=_dataset(samples, losses),
            data_collator=_collator(trl, tokenizer) if losses is not None else None,
            peft_config=config,
            callbacks=[_callback(progress, after_step)],
        )
        if rounded:
            _widened(trainer.model)
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
    for module in (trainer.model, network):
        _take_off_forward(module)
    return trainer.model, done


def _widened(network: Any) -> None:
    """Put what is trained back into float32, as it is where no weights are rounded.

    TRL makes it bfloat16, in whose rounding steps of a usual size are lost.
    """
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def arguments(
    trl: Any,
    recipe: TrainingRecipe,
    folder: str | os.PathLike[str],
    device: torch.device,
    *,
    steps: int,
    seed: int,
    report_to: Sequence[str] = (),
    run_name: str | None = None,
) -> Any:
    """The trainer's settings, for the one device on which the network lies."""
    on_gpu = device.type == "cuda"
    settings = _on_one_device(trl.SFTConfig, device)(
        output_dir=os.fspath(folder),
        max_steps=steps,
        per_device_train_batch_size=recipe.micro_batch,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.scheduler,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        optim="adamw_torch",
        max_grad_norm=1.0,
        seed=seed,
        bf16=on_gpu,
        use_cpu=device.type == "cpu",
        **_checkpointing(trl.SFTConfig, on_gpu),
        max_length=recipe.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=list(report_to) or "none",
        run_name=run_name,
        disable_tqdm=True,
    )
    if settings.device.type == "cuda":
        # Accelerate works on whichever is current; the trainer has just made it the first.
        torch.cuda.set_device(device)
    return settings


def _on_one_device(settings: Any, device: torch.device) -> Any:
    """`settings`, TRL's class, for a trainer that would spread a network over all GPUs it sees."""

    class OneDevice(settings):  # type: ignore[misc]
        @property
        def device(self) -> torch.device:
            _ = super().device  # sets up what else the trainer asks for
            return device

        @property
        def n_gpu(self) -> int:
            return min(1, int(super().n_gpu))

    return OneDevice


def _take_off_forward(module: Any) -> dict[str, Any]:
    """Leave the forward that the module's class has; what was put in its place.

    The trainers put others there, that of mixed precision among them; weights that are
    loaded again would not have it, and give other answers.
    """
    names = ("forward", "_original_forward")
    return {name: vars(module).pop(name) for name in names if name in vars(module)}


@contextlib.contextmanager
def _as_it_will_be_asked(network: Any) -> Iterator[None]:
    """A network in training, or an adapter around one, as it will be without its trainer."""
    inner = network.get_base_model() if hasattr(network, "get_base_model") else network
    put = [(module, _take_off_forward(module)) for module in {network, inner}]
    try:
        yield
    finally:
        for module, names in put:
            vars(module).update(names)


def weighted_lengths(samples: "Sequence[Encoded]", losses: Sequence[RowLoss] | None) -> list[float]:
    """Response tokens of each sample that carry loss, times its weight."""
    if losses is None:
        return [int(sample.response.sum()) for sample in samples]
    return [
        loss.weight * int((sample.response & ~loss.mask_of(sample.ids)).sum())
        for sample, loss in zip(samples, losses, strict=True)
    ]


def cut(batches: Sequence[Sequence[int]], micro_batch: int) -> list[list[list[int]]]:
    """Each batch in parts of at most `micro_batch` samples, none empty.

    All batches in as many parts as the largest takes, where each has so many samples: a sum
    is rounded by how it is cut, and figures were measured so. Otherwise each in as few as it can.
    """
    fewest = [-(-len(batch) // micro_batch) for batch in batches]
    common = max(fewest) if max(fewest) <= min(map(len, batches)) else 1
    return [
        split_evenly(batch, max(common, own)) for batch, own in zip(batches, fewest, strict=True)
    ]


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
        """TRL's trainer on steps whose parts were chosen beforehand, not all alike in number.

        To the loop around it, a step is one batch that holds its parts.
        """

        def __init__(self, steps: list[list[list[int]]], **settings: Any) -> None:
            self._parts = [part for step in steps for part in step]
            self._counts = iter([len(step) for step in steps])
            super().__init__(**settings)

        def get_train_dataloader(self) -> Any:
            loader = torch.utils.data.DataLoader(
                self.train_dataset,
                batch_sampler=self._parts,
                collate_fn=self.data_collator,
                pin_memory=self.args.dataloader_pin_memory,
            )
            # On one device: accelerate would deal the batches out to several.
            return self.accelerator.prepare(loader)

        def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
            """The parts of the next step as one batch, and the tokens in all of them."""
            parts, total = super().get_batch_samples(epoch_iterator, next(self._counts), device)
            return [{"parts": parts}], total

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            """Forward and backward of each part; the step's loss."""
            parts = inputs["parts"]
            self.current_gradient_accumulation_steps = len(parts)
            losses = [
                super(ScheduledTrainer, self).training_step(model, part, num_items_in_batch)
                for part in parts
            ]
            return sum(losses)

    return ScheduledTrainer


def _callback(progress: Progress | None, after_step: AfterStep | None) -> Any:
    def follow(step: int, network: Any) -> None:
        if after_step is not None:
            with _as_it_will_be_asked(network):
                after_step(step, network)

    class Report(transformers.TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            follow(0, parts["model"])

        def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
            if progress is not None:
                progress(state.global_step, state.max_steps)
            follow(state.global_step, parts["model"])

    return Report()
