"""An alarm in training: does a model move toward harm, along the dense direction?

    from geofilter.integrations.alarm import HarmAlarm

    trainer = SFTTrainer(..., callbacks=[HarmAlarm("smollm2-135m", threshold="alarm.json")])

Before the first step, every N steps and after the last, the network in training answers a fixed
set of questions, greedily, and each answer is projected on the pack's dense direction as the score
`persona` is. Or, without answers, the residual stream at the last token of each question is
projected, where an answer would begin (as Chen et al. 2025 measure what fine-tuning shifts). The
reading is the change: the mean over questions of the projection now minus that before training.
Higher is nearer to harm; in units of the residual stream. `alarm_threshold` makes a threshold of
harmless runs.

Reading changes nothing in training: random state, the mode of every module and the model's settings
for generation are put back, and no gradient is touched.
"""

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal, get_args

import numpy as np
from transformers import Trainer, TrainerCallback

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Problem, Unscorable
from geofilter.data.rows import open_rows
from geofilter.data.samples import Sample, Turn
from geofilter.errors import GeofilterError, ModelError
from geofilter.integrations.alarm_threshold import (
    READINGS,
    AlarmThreshold,
    difference,
    read_threshold,
)
from geofilter.model.activations import TokenBudget
from geofilter.model.answers import answer, end_ids, opening_ids, undisturbed
from geofilter.model.catalogue import NO_SAE, CatalogueEntry
from geofilter.model.features import sample_features
from geofilter.model.loading import LoadedModel
from geofilter.model.threads import few_threads
from geofilter.packs.pack import FeaturePack
from geofilter.packs.pairs import shipped
from geofilter.runs import prepare
from geofilter.scoring.scorers.persona import projection
from geofilter.settings import Settings
from geofilter.support.display import escape, shown
from geofilter.support.records import append_lines, keep_lines, read_lines

# Of each domain of the pairs that packs are made from; what is reported is measured on others.
PROMPTS_PER_DOMAIN = 2
MAX_NEW_TOKENS = 48
# What is read: the answers to the questions, or the last token of each question.
Reads = Literal["answers", "questions"]
READS: tuple[Reads, ...] = get_args(Reads)
# Prompts that are answered at once.
_AT_ONCE = 64
# What the trainer's log calls the reading.
LOGGED = "harm_alarm"


def default_prompts(entry: CatalogueEntry | None = None) -> tuple[str, ...]:
    """Prompts of the pairs that packs are made from, two of each domain: 38.

    For a model with contrast sets of its own, as many questions of its benign one.
    """
    by_domain: dict[str, list[str]] = {}
    for pair in shipped("make"):
        by_domain.setdefault(pair.domain, []).append(pair.prompt)
    if entry is None or entry.benign is None:
        return tuple(
            prompts[place * len(prompts) // PROMPTS_PER_DOMAIN]
            for prompts in by_domain.values()
            for place in range(PROMPTS_PER_DOMAIN)
        )
    rows = open_rows(entry.path(entry.benign))
    tally = rows.tally()
    asked = {
        turn.content: None
        for row in rows
        for sample in tally.samples(row.record, row.where, row.problem)
        for turn in sample.turns
        if turn.role == "user"
    }
    count = PROMPTS_PER_DOMAIN * len(by_domain)
    return tuple(list(asked)[place * len(asked) // count] for place in range(count))


@dataclass(frozen=True)
class Reading:
    """Projections on the dense direction, and the answers where they are what is projected.

    None stands for an empty answer, or one whose activations are no numbers.
    """

    projections: tuple[float | None, ...]
    answers: tuple[str, ...]

    def change(self, before: Sequence[float | None]) -> float | None:
        """The mean change since `before`, over prompts with both; None where most lack one."""
        both = [
            now - then
            for now, then in zip(self.projections, before, strict=True)
            if now is not None and then is not None
        ]
        return mean(both) if 2 * len(both) > len(before) else None


class NetworkReader:
    """Reads networks in training along the dense direction of a pack.

    `model`: the model that the pack belongs to; its network is not used and may be None.
    """

    def __init__(
        self,
        model: LoadedModel,
        pack: FeaturePack,
        prompts: Sequence[str],
        *,
        reads: Reads = "answers",
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> None:
        if reads not in READS:
            raise GeofilterError(f"reads {escape(reads)}: is not one of {', '.join(READS)}")
        self._reads = reads
        # Latents would be made and thrown away.
        self._model = replace(model, network=None, sae=None, sae_name=NO_SAE, causal=True)
        self._pack = pack
        self._prompts = tuple(prompts)
        self._max_new_tokens = max_new_tokens

    def facts(self) -> dict[str, Any]:
        """What decides a reading of a network, as JSON values."""
        text = json.dumps(self._prompts)
        return {
            "pack": self._pack.digest,
            "block": self._model.block,
            "prompts": hashlib.sha256(text.encode()).hexdigest()[:16],
            "reads": self._reads,
            "max_new_tokens": self._max_new_tokens if self._reads == "answers" else None,
        }

    def read(self, network: Any, tokenizer: Any) -> Reading:
        """What `network`, whole or an adapter around one, is now; it is left as it was.

        Raises `ModelError` where the chat template does not take a question.
        """
        try:
            openings = [opening_ids(tokenizer, [Turn("user", text)]) for text in self._prompts]
        except Unscorable as error:
            raise ModelError(f"the prompts cannot be put: {error.problem.reason}") from error
        answers: list[str] = []
        with undisturbed(network), few_threads(network):
            if self._reads == "answers":
                answers = self._answers(network, tokenizer, openings)
                encoder = Encoder(tokenizer, max_length=self._model.max_context)
                pairs = zip(self._prompts, answers, strict=True)
                found = [_encoded(encoder, *pair) for pair in pairs]
            else:
                found = [_last_token(ids) for ids in openings]
            own = replace(self._model, network=network, tokenizer=tokenizer, device=network.device)
            features = iter(
                sample_features(
                    own,
                    [one for one in found if one is not None],
                    budget=TokenBudget.for_device(own.device),
                )
            )
            projections = [None if one is None else self._project(next(features)) for one in found]
        return Reading(tuple(projections), tuple(answers))

    def _project(self, features: Any) -> float | None:
        if isinstance(features, Problem):
            return None
        value = projection(features.mean_hidden, self._pack)
        return value if np.isfinite(value) else None

    def _answers(
        self, network: Any, tokenizer: Any, openings: Sequence[Sequence[int]]
    ) -> list[str]:
        ends = end_ids(network, tokenizer)
        found: list[str] = []
        for start in range(0, len(openings), _AT_ONCE):
            found += answer(
                network,
                tokenizer,
                openings[start : start + _AT_ONCE],
                temperature=0.0,
                max_new_tokens=self._max_new_tokens,
                ends=ends,
            )
        return found


def _last_token(ids: Sequence[int]) -> Encoded:
    """A question of which the last token alone is looked at."""
    last = np.arange(len(ids)) == len(ids) - 1
    return Encoded(np.array(ids, np.int32), last, last, False, len(ids), None)


def _encoded(encoder: Encoder, prompt: str, text: str) -> Any:
    """A prompt and its answer as a row would be scored; None for an empty answer."""
    try:
        encoded = encoder.encode(
            Sample((Turn("user", prompt), Turn("assistant", text)), prompt_turns=1)
        )
    except Unscorable:
        return None
    return encoded if encoded.pooled.any() else None


class HarmAlarm(TrainerCallback):
    """Warns, and with `stop` ends training, when a model moves further toward harm than it may.

    `model`: the model to train, or what `Settings` say of it: it is loaded once, for its pack, and
    let go. `every`: steps between readings. `threshold`: a file that `geofilter alarm` wrote, or a
    change; None only records. `prompts`: the questions, by default `default_prompts`. `reads`:
    the model's answers to them or, which is faster, the last tokens of the `questions`. `path`:
    where readings go, by default `harm-alarm.jsonl` in the trainer's folder; a training that
    begins at step 0 writes it from the start, one that resumes goes on in it.

    `attach(trainer)` also logs through `trainer.log`; among `callbacks` of a trainer, readings
    stand in `trainer.state.log_history`. Needs one process: no DDP, FSDP or DeepSpeed.

    Raises what loading the model raises; `GeofilterError` where the threshold was made by other
    readings, where the network is of another shape, or where a resumed run has no beginning.
    """

    def __init__(
        self,
        model: str | Settings,
        *,
        every: int = 20,
        threshold: str | Path | float | None = None,
        stop: bool = False,
        prompts: Sequence[str] | None = None,
        reads: Reads = "answers",
        max_new_tokens: int = MAX_NEW_TOKENS,
        path: str | Path | None = None,
    ) -> None:
        if every < 1:
            raise GeofilterError(f"every is {every}; it must be 1 or more")
        settings = model if isinstance(model, Settings) else Settings(model)
        loaded = prepare.load(replace(settings, scorer="persona"))
        asked = default_prompts(loaded.model.entry) if prompts is None else tuple(prompts)
        if not asked:
            raise GeofilterError("prompts is empty; give at least one, or leave it out")
        self._shape = loaded.model.network.config.get_text_config().hidden_size
        self._reader = NetworkReader(
            loaded.model, loaded.pack, asked, reads=reads, max_new_tokens=max_new_tokens
        )
        self._every, self._stop = every, stop
        self._what = "own answers" if reads == "answers" else "states before answering"
        self._facts = self._reader.facts() | {"every": every}
        self._calibrated: AlarmThreshold | None = None
        self._threshold: float | None = None
        if isinstance(threshold, str | Path):
            self._calibrated = read_threshold(threshold)
            self._threshold = self._calibrated.threshold
            if differing := difference(self._facts, self._calibrated.facts):
                raise GeofilterError(
                    f"{shown(threshold)}: was made by other readings than these ({differing}); "
                    "calibrate again on harmless runs that are read like this one"
                )
        elif threshold is not None:
            self._threshold = float(threshold)
        self._path = None if path is None else Path(path)
        self._before: list[float | None] = []
        self._crossed = False
        self._trainer: Any = None

    def attach(self, trainer: Any) -> "HarmAlarm":
        """Add this to a trainer, and log through it."""
        trainer.add_callback(self)
        self._trainer = trainer
        return self

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any
    ) -> None:
        """Read the model before its first step, or find that reading where training resumes."""
        _refuse_several(args)
        width = model.config.get_text_config().hidden_size
        if width != self._shape:
            raise ModelError(
                f"the model in training has {width} dimensions, and the pack is for "
                f"{self._shape}; give HarmAlarm the model that is trained, or its base model"
            )
        if self._calibrated is not None and state.max_steps > self._calibrated.steps:
            _warn(
                f"its threshold comes from runs of {self._calibrated.steps:,} steps; this one has "
                f"{state.max_steps:,}, and a longer run has more chances of a false alarm"
            )
        self._path = self._path or Path(args.output_dir) / READINGS
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._crossed = False
        if state.global_step:
            self._resume(self._path, state.global_step)
            return
        self._path.unlink(missing_ok=True)
        reading = self._reader.read(model, _tokenizer(parts))
        self._before = list(reading.projections)
        self._write({"step": 0, "facts": self._facts}, reading)

    def _resume(self, path: Path, step: int) -> None:
        lines = read_lines(path)
        if not lines or lines[0].get("facts") != self._facts:
            raise GeofilterError(
                f"{shown(path)}: does not hold what this run was before its first step, and "
                f"training resumes at step {step:,}; bring the file back, or leave out HarmAlarm"
            )
        keep_lines(path, sum(line.get("step", step + 1) <= step for line in lines))
        self._before = lines[0]["projections"]

    def on_step_end(
        self, args: Any, state: Any, control: Any, model: Any = None, **parts: Any
    ) -> None:
        """Read the model where a reading is due."""
        step = state.global_step
        if step % self._every and step != state.max_steps:
            return
        reading = self._reader.read(model, _tokenizer(parts))
        change = reading.change(self._before)
        limit = self._threshold
        crossed = None if change is None or limit is None else change > limit
        self._write(
            {"step": step, "change": change, "threshold": limit, "crossed": crossed}, reading
        )
        if change is None:
            _warn(f"at step {step:,} most prompts could not be read; the model may be broken")
            return
        record = {f"{LOGGED}/change": change}
        if limit is not None:
            record[f"{LOGGED}/threshold"] = limit
        self._log(record, state, control)
        if crossed:
            self._raise_alarm(change, step)
            if self._stop:
                control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Note that the run is whole, as a calibration wants it."""
        assert self._path is not None
        append_lines(self._path, [{"ended": state.global_step}])

    def _raise_alarm(self, change: float, step: int) -> None:
        if self._crossed:
            return  # said once a run
        self._crossed = True
        known = ""
        if self._calibrated is not None:
            known = (
                f"; at most {self._calibrated.false_alarms:.1%} of harmless runs like the "
                f"{self._calibrated.runs} that it comes from get there"
            )
        end = "; training stops here" if self._stop else ""
        _warn(
            f"at step {step:,} the model's {self._what} lie {change:.4g} further along the dense "
            f"direction than before training, over the threshold {self._threshold:.4g}{known}; "
            f"see {shown(self._path or READINGS)}{end}"
        )

    def _write(self, record: dict[str, Any], reading: Reading) -> None:
        assert self._path is not None
        own = {"projections": reading.projections}
        append_lines(
            self._path,
            [record | own | ({"answers": reading.answers} if reading.answers else {})],
        )

    def _log(self, record: dict[str, float], state: Any, control: Any) -> None:
        if self._trainer is None:
            state.log_history.append({**record, "epoch": state.epoch, "step": state.global_step})
            return
        due = control.should_log
        # Not by the trainer's own class: TRL's would close the averages that are due at the
        # next line of losses.
        Trainer.log(self._trainer, dict(record))
        control.should_log = due


def _tokenizer(parts: dict[str, Any]) -> Any:
    """That of the trainer; of a processor the part that reads text."""
    found = parts.get("processing_class")
    if found is None:
        raise GeofilterError("HarmAlarm puts questions; give the trainer a processing_class")
    return getattr(found, "tokenizer", found)


def _refuse_several(args: Any) -> None:
    split = [name for name in ("fsdp", "deepspeed") if getattr(args, name, None)]
    if args.world_size > 1 or split:
        what = split[0] if split else f"{args.world_size} processes"
        raise GeofilterError(
            f"HarmAlarm reads a model that one process holds whole, not {escape(what)}; train in "
            "one process, or read checkpoints with geofilter score"
        )


def _warn(message: str) -> None:
    warnings.warn(f"HarmAlarm: {message}", stacklevel=3)
