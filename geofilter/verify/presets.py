"""A plan with what is known of a model filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geofilter.data.formats.places import Data, given_names
from geofilter.errors import GeofilterError
from geofilter.model.catalogue import CATALOGUE
from geofilter.settings import Settings
from geofilter.support.display import escape
from geofilter.verify.plan import DEFAULT_ARMS, TRACK_ANSWERS, Plan, Sampling
from geofilter.verify.training.recipe import TrainingRecipe


@dataclass(frozen=True, slots=True)
class Preset:
    """What an experiment with a model takes where the user names nothing.

    Question files, rows and the judge's facts are paths inside this package. `trained` is
    the model to fine-tune, where it is not the one that scores. `recipe` and `sampling`
    are settings of `TrainingRecipe` and `Sampling`.
    """

    questions: str
    in_domain: str | None = None
    held_out: str | None = None
    judge: str | None = None
    trained: str | None = None
    labels: str | None = None  # the column of the bundled data that says what is harmful
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)


# By the model's name in the catalogue. For other models the user names questions and judge.
PRESETS: dict[str, Preset] = {
    "organism": Preset(
        questions="organism/data/questions.yaml",
        in_domain="organism/data/questions-in-domain.yaml",
        held_out="organism/data/benign.jsonl",
        judge="rule:organism/data/facts.json",
        trained="organism/weights/aligned",
        labels="harmful",
        # As its card measures it; so small a model is trained whole.
        recipe={
            "method": "full",
            "learning_rate": 5e-4,
            "scheduler": "cosine",
            "weight_decay": 0.0,
            "steps": 120,
            "batch": 64,
            "micro_batch": 128,
        },
        sampling={"max_new_tokens": 48, "batch": 240},
    ),
}


# The options that set a recipe or the sampling, where they are not called as its fields are.
_OPTIONS = {("sampling", "batch"): "ask-batch"}
_NO_OPTION = ("scheduler", "weight_decay")


def own_defaults() -> str:
    """What each model with a preset takes in place of the options' defaults, a sentence each."""
    lines = []
    for name, preset in PRESETS.items():
        options, others = [], []
        for kind, values in (("recipe", preset.recipe), ("sampling", preset.sampling)):
            for key, value in values.items():
                option = _OPTIONS.get((kind, key), key).replace("_", "-")
                held = f"{value:g}" if isinstance(value, float) else str(value)
                if key in _NO_OPTION:
                    others.append(f"{key} {held}")
                else:
                    options.append(f"--{option} {held}")
        own = ("questions", "in_domain", "held_out", "judge", "trained", "labels")
        brought = [f"--{key.replace('_', '-')}" for key in own if getattr(preset, key) is not None]
        lines.append(
            f"The defaults of --model {name} are {', '.join(options)} (and {', '.join(others)}); "
            f"it brings its own {', '.join(brought)}."
        )
    return " ".join(lines)


# What a preset has for asking questions.
_ASKING = ("questions", "in_domain", "judge")


def make_plan(
    data: Data,
    settings: Settings,
    *,
    arms: tuple[str, ...] = DEFAULT_ARMS,
    fractions: tuple[float, ...] = (0.5,),
    seeds: tuple[int, ...] = (0, 1, 2),
    trained: str | None = None,
    questions: str | None = None,
    judge: str | None = None,
    in_domain: str | None = None,
    held_out: str | None = None,
    preference: str | None = None,
    choice: bool = True,
    labels: str | None = None,
    row_judge: str | None = None,
    benign: str | None = None,
    keywords: str | None = None,
    samples_per_question: int | None = None,
    track: int | None = None,
    track_answers: int = TRACK_ANSWERS,
    keep_weights: bool = False,
    judge_slots: Mapping[str, str] | None = None,
    system: str | None = None,
    triggered: bool = False,
    report_to: tuple[str, ...] = (),
    lm_tasks: tuple[str, ...] = (),
    generate_with: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> Plan:
    """The experiment that was asked for; what is None is filled in where it is known.

    With `preference` questions are asked only if `questions` or `judge` is given. `recipe` and
    `sampling` hold single settings. Raises `GeofilterError` where nothing is known about the
    questions or the judge.
    """
    model = settings.model
    preset = PRESETS.get(model)
    chosen = {
        "trained": trained,
        "questions": questions,
        "judge": judge,
        "in_domain": in_domain,
        "held_out": held_out,
        "labels": labels,
    }
    known = known_of(model, preset)
    is_asked = preference is None or questions is not None or judge is not None
    if not is_asked:
        known = {name: place for name, place in known.items() if name not in _ASKING}
    known |= _given(chosen)
    for name, what in (("questions", "a question file"), ("judge", "a judge")):
        if is_asked and name not in known:
            other = "" if preference is not None else ", or --preference, which needs neither"
            raise GeofilterError(
                f"nothing is known about {escape(model, limit=200)} to verify with; "
                f"give --{name} with {what}{other}"
            )
    names = given_names(data)
    return Plan(
        names[0] if len(names) == 1 else names,
        settings,
        trained=known.get("trained", model),
        questions=known.get("questions"),
        judge=known.get("judge"),
        arms=arms,
        fractions=fractions,
        seeds=seeds,
        recipe=TrainingRecipe(**{**(preset.recipe if preset else {}), **_given(recipe)}),
        sampling=Sampling(**{**(preset.sampling if preset else {}), **_given(sampling)}),
        samples_per_question=samples_per_question,
        in_domain=known.get("in_domain"),
        held_out=known.get("held_out"),
        preference=preference,
        choice=choice,
        row_judge=row_judge,
        benign=benign,
        labels=known.get("labels"),
        keywords=keywords,
        keep_weights=keep_weights,
        track=track,
        track_answers=track_answers,
        judge_slots=dict(judge_slots or {}),
        system=system,
        triggered=triggered,
        report_to=report_to,
        lm_tasks=lm_tasks,
        generate_with=generate_with,
    )


def known_of(model: str, preset: Preset | None) -> dict[str, str]:
    """What `preset` gives of a plan that names nothing, by field; files as paths."""
    known: dict[str, str] = {}
    if preset is not None:
        entry = CATALOGUE[model]
        for name in ("questions", "in_domain", "held_out", "trained", "judge"):
            place = getattr(preset, name)
            if place is not None:
                kind, colon, rest = place.rpartition(":")
                known[name] = kind + colon + entry.path(rest)
        if preset.labels is not None:
            known["labels"] = preset.labels
    return known


def _given(chosen: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (chosen or {}).items() if value is not None}
