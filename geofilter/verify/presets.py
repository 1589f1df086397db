"""A plan with what the catalogue knows of a model filled in.

This module knows nothing about the command line.
"""

from collections.abc import Mapping
from typing import Any

from geofilter.errors import GeofilterError
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry, Trial
from geofilter.support.display import escape
from geofilter.verify.ask import Sampling
from geofilter.verify.plan import Plan
from geofilter.verify.training.recipe import Recipe


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
    trial = entry.trial if entry else None
    given = {name: value for name, value in chosen.items() if value is not None}
    known = _known(entry, trial)
    for name, what in (("questions", "a question file"), ("judge", "a judge")):
        if name not in given and name not in known:
            raise GeofilterError(
                f"nothing is known about {escape(model, limit=200)} to verify with; "
                f"give --{name} with {what}"
            )
    return Plan(
        data=data,
        model=model,
        recipe=Recipe(**_merged(trial.recipe if trial else {}, recipe)),
        sampling=Sampling(**_merged(trial.sampling if trial else {}, sampling)),
        **{"trained": model, **known, **given},
    )


def _known(entry: CatalogueEntry | None, trial: Trial | None) -> dict[str, str]:
    if entry is None:
        return {}
    known = {"trained": entry.path(entry.model)}
    if trial is not None:
        for name in ("questions", "in_domain", "held_out", "trained", "judge"):
            place = getattr(trial, name)
            if place is not None:
                kind, colon, rest = place.rpartition(":")
                known[name] = kind + colon + entry.path(rest)
        if trial.labels is not None:
            known["labels"] = trial.labels
    return known


def _merged(known: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    asked = {name: value for name, value in (given or {}).items() if value is not None}
    return {**known, **asked}
