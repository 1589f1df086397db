"""What a run takes when the user names nothing: the window, and the model's own pack.

A model of the catalogue comes with contrast sets. Its pack is made of them once and
kept in the user's cache, under a name that changes with everything that decides it.

This module knows nothing about the data that is scored or about the command line.
"""

import hashlib
import inspect
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from geofilter import contrast, discovery, features
from geofilter.contrast import read_contrast
from geofilter.conversation import Encoder
from geofilter.discovery import discover
from geofilter.errors import ModelError, OutputError, PackError
from geofilter.manifest import library_versions
from geofilter.models import LoadedModel
from geofilter.pack import FeaturePack, load_pack
from geofilter.rows import open_rows
from geofilter.terminal import escape

# Tokens of a row that are looked at. Models may take far more, but the memory of a batch
# grows with its longest row, and the rows of fine-tuning sets are seldom longer.
WINDOW = 2048

Progress = Callable[[int, int], None]


def window(model: LoadedModel, asked: int | None = None) -> int:
    """The number of tokens of a row that are looked at.

    `asked`, or else `WINDOW`, or what the model can take if that is less. Raises
    `ModelError` when more is asked for than the model can take.
    """
    if asked is not None and asked > model.max_context:
        raise ModelError(
            f"a window of {asked} tokens is more than the {model.max_context} that "
            f"{escape(model.name, limit=200)} can take; give a smaller --max-length"
        )
    return asked or min(WINDOW, model.max_context)


def cache_folder() -> Path:
    """Where geofilter keeps what it can make again: `$XDG_CACHE_HOME/geofilter`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of that variable says to ignore a relative path.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "geofilter"


class DefaultPack:
    """The pack of a catalogue model, read from the cache or made of its contrast sets.

    `path` is its place in the cache. Raises `PackError` for a model without contrast sets.
    """

    def __init__(self, model: LoadedModel) -> None:
        entry = model.entry
        if entry is None:
            raise PackError(
                f"no toxic features are known for {escape(model.name, limit=200)}; "
                "give --pack, made with geofilter discover"
            )
        self._model = model
        self._top_k = entry.top_k
        self._encoder = Encoder(model.tokenizer, max_length=window(model))
        self._places = [entry.path(place) for place in (entry.toxic, entry.benign)]
        self.path = cache_folder() / "packs" / f"{entry.name}-{self._key()}.pack"

    def _key(self) -> str:
        """16 hex digits over all that decides the pack."""
        decides = {
            "model": self._model.fingerprint,
            "template": str(self._model.tokenizer.chat_template),
            "window": self._encoder.max_length,
            "top_k": self._top_k,
            # Between two releases the version stays while the recipe may change.
            "recipe": [inspect.getsource(part) for part in (contrast, discovery, features)],
            "contrast": [open_rows(place).fingerprint() for place in self._places],
            "versions": library_versions(["geofilter", "transformers", "sae-lens"]),
        }
        text = json.dumps(decides, sort_keys=True)
        return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()

    def cached(self) -> FeaturePack | None:
        """The pack from the cache; None where there is none, or only a damaged one."""
        try:
            return load_pack(self.path)
        except PackError:
            return None

    def make(self, progress: Progress | None = None) -> FeaturePack:
        """Discover the pack and keep it, unless the cache cannot be written.

        `progress` is called with (rows done, rows in all).
        """
        toxic, benign = (read_contrast(place, self._encoder) for place in self._places)
        pack = discover(self._model, toxic, benign, top_k=self._top_k, progress=progress).pack
        # A cache is a convenience: a read-only home must not stop the work.
        with suppress(OSError, OutputError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            pack.save(self.path, overwrite=True)
        return pack
