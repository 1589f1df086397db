"""An alarm in training: does a model move toward harm, along the dense direction?

    from geofilter.integrations.alarm import HarmAlarm

    trainer = SFTTrainer(..., callbacks=[HarmAlarm("smollm2-135m", threshold="alarm.json")])

Before the first step, every N steps and after the last, the network in training is read (see
`alarm_reading`). What counts is the change: the mean over questions of the projection now minus
that before training. Higher is nearer to harm; in units of the residual stream. `alarm_threshold`
makes a threshold of harmless runs.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from geofilter.errors import GeofilterError, ModelError
from geofilter.integrations.alarm_reading import (
    MAX_NEW_TOKENS,
    NetworkReader,
    Reading,
    Reads,
    default_prompts,
)
from geofilter.integrations.alarm_threshold import (
    READINGS,
    AlarmThreshold,
    difference,
    read_threshold,
)
from geofilter.runs import prepare
from geofilter.settings import Settings
from geofilter.support.display import escape, shown
from geofilter.support.records import append_lines, keep_lines, read_lines

# What the trainer's log calls the reading.
LOGGED = "harm_alarm"


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
