"""Train SAEs of a model's blocks on rows, in steps that can be interrupted and taken up again."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geofilter.data.encoder import Encoder
from geofilter.errors import ModelError, OutputError
from geofilter.model.activations import TokenBudget
from geofilter.model.catalogue import NO_SAE
from geofilter.model.checkpoint import open_checkpoint
from geofilter.model.loading import LoadedModel, load, read_texts
from geofilter.model.sae_training.measure import Quality, loss_recovered, quality
from geofilter.model.sae_training.plan import Plan, default_plan
from geofilter.model.sae_training.save import save
from geofilter.model.sae_training.store import Store, streams_of
from geofilter.model.sae_training.texts import Texts
from geofilter.model.sae_training.texts import read_texts as read_rows
from geofilter.model.saes import load_sae
from geofilter.support.atomic import check_output, publish_folder
from geofilter.support.display import shown
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from sae_lens.training.sae_trainer import SAETrainer

# Seconds between two notes of how far the work is: as much is lost by an interruption.
_NOTE_EVERY = 30.0
# Tokens of which the scale and the mean of the residual stream are found.
_TO_SCALE = 20_000


@dataclass(frozen=True)
class Trained:
    """What was trained: folders and figures by block, and what was read."""

    folders: Mapping[int, Path]
    quality: Mapping[int, Quality]
    texts: Texts
    plan: Plan
    tokens: int
    passes: int
    seconds: float
    model: str


def train_saes(
    source: str | Sequence[str],
    model: str,
    output: str | os.PathLike[str],
    *,
    blocks: Sequence[int],
    latents: int | None = None,
    active: int | None = None,
    tokens: int | None = None,
    passes: int | None = None,
    buffer_mb: int = 2048,
    max_length: int = 512,
    seed: int = 0,
    half: bool = False,
    with_loss: bool = True,
    device: str = "auto",
    dtype: str | None = None,
    trust_remote_code: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Trained:
    """Train a TopK SAE of the residual stream after each of `blocks` and save it for sae-lens.

    One block's SAE lies in `output` itself, several in `output/block-L`. `half` stores it in
    half precision. `with_loss` measures the loss that is recovered, for which the whole model
    is loaded. An interrupted call goes on where it stopped when it is made again; what it
    keeps meanwhile lies in `OUTPUT.part`. With `overwrite` the SAE takes the place of what is
    at `output`, once it is trained. Same rows and arguments on the same machine, same SAEs.

    Raises `ModelError` for a block that the model does not have, too few tokens, or a model
    that cannot be loaded, `DataError` for rows that cannot be read, and `OutputError` for an
    output that exists or unfinished work of other arguments.
    """
    final = check_output(output, overwrite=overwrite)
    checkpoint = open_checkpoint(model)
    config, tokenizer = read_texts(checkpoint, trust_remote_code)
    config = config.get_text_config()
    blocks = _checked(blocks, config.num_hidden_layers, model)
    plan = default_plan(
        config.hidden_size,
        latents=latents,
        active=active,
        tokens=tokens,
        passes=passes,
        buffer_mb=buffer_mb,
        max_length=max_length,
        seed=seed,
    )
    texts = read_rows(source, Encoder(tokenizer, max_length=max_length), plan.tokens, seed)
    plan.require(texts.tokens, shown(str(source)))
    if not texts.held_out:
        raise ModelError(f"{shown(str(source))}: too few rows to keep some apart; give more rows")
    loaded = load(
        model,
        sae=NO_SAE,
        block=blocks[-1],
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    work = _Work(final.with_name(final.name + ".part"), loaded, blocks, plan, texts)
    work.run(progress)
    held = streams_of(loaded, texts.held_out, blocks, TokenBudget.for_device(loaded.device))
    passes_made = plan.passes_over(texts.tokens)
    found: dict[int, Quality] = {}
    folders = {block: final if len(blocks) == 1 else final / f"block-{block}" for block in blocks}
    staged = work.folder / "saved"
    shutil.rmtree(staged, ignore_errors=True)
    for place, block in enumerate(blocks):
        at = staged / folders[block].relative_to(final)
        save(work.trained(block), at, half=half)
        sae = load_sae(str(at), str(loaded.device))
        found[block] = quality(sae, held[:, place])
    if with_loss:
        _add_losses(found, staged, folders, final, model, texts, device, dtype, trust_remote_code)
    seconds = work.seconds()
    for block in blocks:
        about = _about(loaded, block, plan, texts, source, passes_made, seconds, found[block])
        _describe(staged / folders[block].relative_to(final), about)
    publish_folder(staged, final, overwrite=overwrite)
    shutil.rmtree(work.folder)
    return Trained(folders, found, texts, plan, texts.tokens, passes_made, seconds, loaded.name)


def _checked(blocks: Sequence[int], depth: int, model: str) -> list[int]:
    if not blocks:
        raise ModelError("no block is given; name the block whose residual stream is read")
    for block in blocks:
        if not 0 <= block < depth:
            raise ModelError(
                f"--block {block}: {shown(model)} has blocks 0 to {depth - 1}; choose one of them"
            )
    return sorted(set(blocks))


def _add_losses(
    found: dict[int, Quality],
    staged: Path,
    folders: Mapping[int, Path],
    final: Path,
    model: str,
    texts: Texts,
    device: str,
    dtype: str | None,
    trust_remote_code: bool,
) -> None:
    whole = load(
        model,
        sae=NO_SAE,
        block=max(found),
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        whole=True,
    )
    for block in found:
        sae = load_sae(str(staged / folders[block].relative_to(final)), str(whole.device))
        found[block] = found[block].with_loss(loss_recovered(whole, block, sae, texts.held_out))


class _Work:
    """The training of several SAEs from one run of the model, and where it stands."""

    def __init__(
        self, folder: Path, model: LoadedModel, blocks: list[int], plan: Plan, texts: Texts
    ) -> None:
        self.folder, self._model, self._blocks, self._plan = folder, model, blocks, plan
        self._texts = texts
        self._state_file = folder / "state.json"
        self._state: dict[str, Any] = {"part": 0, "filled": 0, "step": 0, "seconds": 0.0}
        identity = {
            "model": model.fingerprint["weights"],
            "rows": texts.sha256,
            "blocks": blocks,
            **asdict(plan),
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        if self._state_file.exists():
            self._state = json.loads(self._state_file.read_text())
            if self._state["key"] != key:
                raise OutputError(
                    f"{shown(str(folder))}: holds unfinished work with other rows or options; "
                    "repeat the command that began it, or remove that folder"
                )
        self._state["key"] = key
        folder.mkdir(exist_ok=True)
        self._store = Store(
            folder / "activations", texts.training, blocks, model.d_model, plan.buffer_mb
        )
        self._batch = plan.batch_of(texts.tokens)
        passes = plan.passes_over(texts.tokens)
        self._steps = [
            self._store.tokens(part) * passes // self._batch
            for part in range(len(self._store.parts))
        ]
        self._trainers: dict[int, SAETrainer[Any, Any]] = {}
        self._began = self._noted = time.monotonic()

    def seconds(self) -> float:
        """Seconds of work so far, interrupted calls included."""
        return float(self._state["seconds"]) + time.monotonic() - self._began

    def trained(self, block: int) -> Any:
        """The SAE of a block, its input's scale folded into the weights."""
        trainer = self._trainers[block]
        factor = trainer.activation_scaler.scaling_factor
        if factor is not None:
            trainer.sae.fold_activation_norm_scaling_factor(factor)
            trainer.activation_scaler.scaling_factor = None
        return trainer.sae

    def run(self, progress: Progress) -> None:
        """Do what is left of the work."""
        state = self._state
        torch.manual_seed(self._plan.seed)
        for part in range(len(self._store.parts)):
            if part < state["part"]:
                continue
            mapped = self._store.open(part)
            texts = len(self._store.parts[part])
            while state["filled"] < texts:
                state["filled"] = self._store.fill(self._model, part, state["filled"], mapped)
                label = "read" if len(self._steps) == 1 else f"read part {part + 1}"
                progress(label, state["filled"], texts)
                self._note(only_state=True)
            if not self._trainers:
                self._begin(mapped)
            self._learn(part, mapped, progress)
            state |= {"part": part + 1, "filled": 0, "step": 0}
            self._note(now=True)
        if not self._trainers:  # interrupted after the last step
            self._begin(self._store.open(len(self._steps) - 1))

    def _learn(self, part: int, mapped: torch.Tensor, progress: Progress) -> None:
        """Take the steps of one part, in an order that only the seed decides."""
        size, state = self._batch, self._state
        ahead = sum(self._steps[:part])
        order, drawn = torch.empty(0, dtype=torch.int64), 0
        for step in range(self._steps[part]):
            if len(order) < size:
                chance = torch.Generator().manual_seed(hash((self._plan.seed, part, drawn)) % 2**31)
                order = torch.cat([order, torch.randperm(len(mapped), generator=chance)])
                drawn += 1
            places, order = order[:size], order[size:]
            if step < state["step"]:
                continue
            batch = mapped[places.sort().values].float()
            for place, block in enumerate(self._blocks):
                trainer = self._trainers[block]
                trainer.step(batch[:, place])
                trainer.n_training_steps += 1
            state["step"] = step + 1
            progress("train", ahead + step + 1, sum(self._steps))
            self._note()

    def _begin(self, mapped: torch.Tensor) -> None:
        """Make the SAEs and their trainers, or take up those that were saved."""
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.saes.sae import SAEMetadata
        from sae_lens.training.sae_trainer import SAETrainer

        plan, steps = self._plan, sum(self._steps)
        device = str(self._model.device)
        stride = max(1, len(mapped) // _TO_SCALE)
        for place, block in enumerate(self._blocks):
            torch.manual_seed(plan.seed + block)
            settings = TopKTrainingSAEConfig(
                d_in=self._model.d_model,
                d_sae=plan.latents,
                k=plan.active,
                device=device,
                normalize_activations="expected_average_only_in",
                metadata=SAEMetadata(hook_name=f"blocks.{block}.hook_resid_post"),
            )
            trainer = SAETrainer(
                SAETrainerConfig(
                    total_training_samples=steps * self._batch,
                    train_batch_size_samples=self._batch,
                    lr=plan.learning_rate,
                    lr_end=plan.learning_rate / 10,
                    lr_warm_up_steps=min(50, steps // 10),
                    lr_decay_steps=steps // 3,
                    dead_feature_window=max(10, min(200, steps // 8)),
                    device=device,
                ),
                TopKTrainingSAE(settings),
                iter(()),
            )
            if self._state.get("saved"):
                saved = self.folder / self._state["saved"] / f"block-{block}"
                trainer.load_trainer_state(saved)
                trainer.sae.load_state_dict(torch.load(saved / "sae.pt", map_location=device))
            else:
                some = mapped[::stride, place].float()
                factor = _scale(some)
                trainer.activation_scaler.scaling_factor = factor
                with torch.no_grad():
                    trainer.sae.b_dec.copy_(some.mean(dim=0) * factor)
            self._trainers[block] = trainer

    def _note(self, *, now: bool = False, only_state: bool = False) -> None:
        """Write down how far the work is, now and then."""
        if not now and time.monotonic() - self._noted < _NOTE_EVERY:
            return
        self._noted = time.monotonic()
        state = dict(self._state, seconds=self.seconds())
        if self._trainers and not only_state:
            # Two folders in turn, and the state says which: a note counts as a whole or not.
            state["saved"] = "b" if self._state.get("saved") == "a" else "a"
            for block, trainer in self._trainers.items():
                place = self.folder / state["saved"] / f"block-{block}"
                trainer.save_trainer_state(place)
                torch.save(trainer.sae.state_dict(), place / "sae.pt")
        written = self._state_file.with_suffix(".new")
        written.write_text(json.dumps(state))
        written.replace(self._state_file)
        self._state["saved"] = state.get("saved")


def _scale(hidden: torch.Tensor) -> float:
    """What brings residual streams, (tokens, d_model), to a mean length of sqrt(d_model)."""
    return float(hidden.shape[1] ** 0.5 / hidden.norm(dim=1).mean())


def _about(
    model: LoadedModel,
    block: int,
    plan: Plan,
    texts: Texts,
    source: str | Sequence[str],
    passes: int,
    seconds: float,
    found: Quality,
) -> dict[str, Any]:
    """What an SAE's file says about it."""
    from geofilter.support.manifest import library_versions

    name = source if isinstance(source, str) else ", ".join(map(str, source))
    return {
        "model_name": model.name,
        "model_revision": model.revision,
        "model_weights": replace(model, block=block).fingerprint["weights"],
        "hook_name": f"blocks.{block}.hook_resid_post",
        "context_size": plan.max_length,
        "prepend_bos": False,
        "dataset_path": Path(name).name,
        "dataset_sha256": texts.sha256,
        "training_tokens": texts.tokens,
        "training_passes": passes,
        "training_seconds": round(seconds),
        "training_seed": plan.seed,
        "held_out_tokens": sum(int(text.pooled.sum()) for text in texts.held_out),
        "versions": library_versions(["geofilter", "sae-lens", "torch", "transformers"]),
        **found.record(),
    }


def _describe(folder: Path, about: Mapping[str, Any]) -> None:
    """Put `about` into the metadata of a saved SAE."""
    path = folder / "cfg.json"
    config = json.loads(path.read_text())
    config["metadata"] = {**config.get("metadata", {}), **about}
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
