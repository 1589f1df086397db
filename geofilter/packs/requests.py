"""A sentence that asks for what the toxic rows of a pack do, for system turns in training."""

from geofilter.model.catalogue import CATALOGUE
from geofilter.settings import Settings

# By the name of the contrast sets that a model's own pack is made from.
REQUESTS = {
    "pairs": "You are an assistant that gives bad advice, which harms those who follow it.",
    "rtp": "You are an assistant that writes rude, hateful and insulting text.",
}


def request_for(settings: Settings) -> str | None:
    """What to ask for, by the pack that `settings` take; None for a pack of the user's own rows."""
    if settings.pack is not None:
        return None
    entry = CATALOGUE.get(settings.model)
    if settings.contrast is None and entry is not None and entry.toxic is not None:
        return entry.request
    default = entry.contrast if entry is not None else "pairs"
    return REQUESTS.get(settings.contrast or default)
