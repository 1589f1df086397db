"""A plan with what is known of a model filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from geofilter.errors import GeofilterError
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry
from geofilter.support.display import escape
from geofilter.verify.ask import Sampling
from geofilter.verify.plan import Plan
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


def make_plan(
    data: str,
    model: str,
    *,
    recipe: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
    **chosen: Any,
) -> Plan:
    """The experiment that was asked for; what is None or absent is filled in.

    `recipe` and `sampling` hold single settings, `chosen` the fields of `Plan`. Raises
    `GeofilterError` where nothing is known about the questions or the judge.
    """
    entry = CATALOGUE.get(model)
    preset = PRESETS.get(model)
    given = {name: value for name, value in chosen.items() if value is not None}
    known = _known(entry, preset)
    for name, what in (("questions", "a question file"), ("judge", "a judge")):
        if name not in given and name not in known:
            raise GeofilterError(
                f"nothing is known about {escape(model, limit=200)} to verify with; "
                f"give --{name} with {what}"
            )
    return Plan(
        data=data,
        model=model,
        recipe=TrainingRecipe(**_merged(preset.recipe if preset else {}, recipe)),
        sampling=Sampling(**_merged(preset.sampling if preset else {}, sampling)),
        **{"trained": model, **known, **given},
    )


def _known(entry: CatalogueEntry | None, preset: Preset | None) -> dict[str, str]:
    if entry is None:
        return {}
    known = {"trained": entry.path(entry.model)}
    if preset is not None:
        for name in ("questions", "in_domain", "held_out", "trained", "judge"):
            place = getattr(preset, name)
            if place is not None:
                kind, colon, rest = place.rpartition(":")
                known[name] = kind + colon + entry.path(rest)
        if preset.labels is not None:
            known["labels"] = preset.labels
    return known


def _merged(known: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    asked = {name: value for name, value in (given or {}).items() if value is not None}
    return {**known, **asked}
