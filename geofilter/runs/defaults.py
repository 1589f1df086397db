"""What a run takes where its settings leave it open, known without loading anything."""

from dataclasses import replace

from geofilter.model.adapter import entry_of
from geofilter.model.catalogue import CATALOGUE, NO_SAE, CatalogueEntry
from geofilter.scoring.scorers import SCORERS, scorer_named
from geofilter.scoring.scorers.base import Scorer
from geofilter.settings import Settings


def default_scorer(entry: CatalogueEntry | None, has_sae: bool) -> str:
    """The scorer of a model for which none is named.

    That of its entry, where it can be used; else, by rule, `BY_RULE`, which needs no SAE.
    """
    named = entry.scorer if entry else None
    if named is not None and (has_sae or not SCORERS[named].needs_sae):
        return named
    return BY_RULE


# The scorer of a model of which nothing was measured.
BY_RULE = "persona"


def scorer_of(settings: Settings) -> Scorer:
    """The scorer that `settings` name or leave open.

    Raises `PackError` for an unknown name, `ModelError` for a damaged adapter.
    """
    if settings.scorer:
        return scorer_named(settings.scorer)
    own = CATALOGUE.get(settings.model)  # an adapter has no SAE of its base unless it is named
    has_sae = bool(own and own.sae) if settings.sae is None else settings.sae != NO_SAE
    return scorer_named(default_scorer(entry_of(settings.model), has_sae))


def resolved(settings: Settings) -> Settings:
    """`settings` with the scorer named that they leave open. Raises as `scorer_of` does."""
    return replace(settings, scorer=scorer_of(settings).name)


def block_of(settings: Settings) -> int | None:
    """The block that was asked for, or the catalogue's for this scorer.

    None leaves it to the SAE, or to the model's default, for which packs are made.
    """
    if settings.block is not None or settings.sae or settings.pack:
        return settings.block
    entry = entry_of(settings.model)
    return entry.scorer_blocks.get(scorer_of(settings).name) if entry else None
