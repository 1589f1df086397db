"""The command that runs a plan: what a page tells its reader to type."""

import shlex
from collections.abc import Iterator
from typing import Any

from geofilter.data.formats.places import given_names
from geofilter.report.places import without_folders
from geofilter.verify.plan import DEFAULT_ARMS, SHIPPED_PAIRS, TRACK_ANSWERS, Plan
from geofilter.verify.presets import PRESETS, known_of
from geofilter.verify.training.recipe import TrainingRecipe

# Settings of a plan that are options of the same name with a value, and those of its parts.
_SETTINGS = ("sae", "block", "pack", "dtype", "load_in")
_FIELDS = (
    "questions",
    "in_domain",
    "judge",
    "row_judge",
    "held_out",
    "benign",
    "labels",
    "keywords",
    "system",
    "samples_per_question",
    "track",
    "generate_with",
)
_RECIPE = ("method", "learning_rate", "epochs", "steps", "batch", "micro_batch")


def command_of(plan: Plan) -> str:
    """`geofilter verify` with the options that make `plan`, without the folders of files.

    What the model's preset or the defaults say is left out.
    """
    words = ["geofilter", "verify", *map(without_folders, given_names(plan.data))]
    for name, value in _options(plan):
        words += [f"--{name.replace('_', '-')}", *([] if value is None else [value])]
    return shlex.join([*words, "-o", "FOLDER"])


def _options(plan: Plan) -> Iterator[tuple[str, str | None]]:
    settings, preset = plan.settings, PRESETS.get(plan.settings.model)
    known = known_of(settings.model, preset)
    yield "model", without_folders(settings.model)
    for name in _SETTINGS:
        if (value := getattr(settings, name)) is not None:
            yield name, _shown(value)
    if settings.trust_remote_code:
        yield "trust_remote_code", None
    if plan.trained != known.get("trained", settings.model):
        yield "trained", _shown(plan.trained)
    if plan.arms != DEFAULT_ARMS:
        yield "arms", ",".join(plan.arms)
    if plan.fractions != (0.5,):
        yield from (("drop_fraction", f"{fraction:g}") for fraction in plan.fractions)
    if len(plan.seeds) != 3:
        yield "seeds", str(len(plan.seeds))
    for name in _FIELDS:
        value = getattr(plan, name)
        if value is not None and value != known.get(name):
            yield name, _shown(value)
    if plan.track is not None and plan.track_answers != TRACK_ANSWERS:
        yield "track_answers", str(plan.track_answers)
    for slot, text in plan.judge_slots.items():
        yield "judge_slot", f"{slot}={text}"
    if plan.preference is not None:
        yield "preference", None if plan.preference == SHIPPED_PAIRS else _shown(plan.preference)
        if not plan.choice:
            yield "no_choice", None
    usual = TrainingRecipe(**(preset.recipe if preset else {}))
    for name in _RECIPE:
        if (value := getattr(plan.recipe, name)) != getattr(usual, name):
            yield name, f"{value:g}" if isinstance(value, float) else str(value)
    sampling = {"max_new_tokens": 600, "batch": 32, **(preset.sampling if preset else {})}
    if plan.sampling.max_new_tokens != sampling["max_new_tokens"]:
        yield "max_new_tokens", str(plan.sampling.max_new_tokens)
    if plan.sampling.batch != sampling["batch"]:
        yield "ask_batch", str(plan.sampling.batch)
    if plan.triggered:
        yield "triggered", None
    if plan.lm_tasks:
        yield "lm_eval", ",".join(plan.lm_tasks)
    for name in plan.report_to:
        yield "report_to", name
    if plan.keep_weights:
        yield "keep_weights", None


def _shown(value: Any) -> str:
    kind, colon, rest = str(value).partition("rule:")
    return kind + colon + without_folders(rest) if colon else without_folders(str(value))
