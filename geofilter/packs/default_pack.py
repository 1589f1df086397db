"""The pack that a run takes when the user names none: the model's own.

Packs of some models come with geofilter. Any other is made once for each model, SAE and block,
from contrast sets, and kept in the user's cache. The name of its file changes with everything
that decides a pack.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from geofilter.data.encoder import Encoder
from geofilter.data.outputs import check_outputs
from geofilter.data.rows import open_rows
from geofilter.data.window import window_length
from geofilter.errors import OutputError, PackError
from geofilter.model.catalogue import CatalogueEntry
from geofilter.model.loading import LoadedModel, load
from geofilter.packs.contrast import Contrast, read_contrast
from geofilter.packs.make import make_pack
from geofilter.packs.named import PAIRS, identity, read_named
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.support.cache import cache_folder
from geofilter.support.locking import locked
from geofilter.support.manifest import library_versions
from geofilter.support.progress import Progress, no_progress

# Raise it whenever a change to contrast, discovery, features or labels makes another pack
# of the same rows: packs that were cached before are then no longer used.
VERSION = 4

# Packs that were made before: `tools/default_packs.py` makes them.
SHIPPED = Path(__file__).parent / "data" / "default"


def pack_inputs(entry: CatalogueEntry | None, contrast: str | None = None) -> dict[str, object]:
    """All that decides a default pack besides the model, its tokenizer and the window.

    `entry` is the model's in the catalogue, `contrast` what `read_named` takes. Nothing is
    loaded or fetched to find that out. Raises `DataError` for a file that cannot be read.
    """
    return {
        **_recipe(entry, contrast),
        "versions": library_versions(["geofilter", "transformers", "sae-lens"]),
    }


def _recipe(entry: CatalogueEntry | None, contrast: str | None) -> dict[str, object]:
    """How a pack is made, and of which rows."""
    return {
        "top_k": entry.top_k if entry else None,
        "recipe": VERSION,
        "contrast": [open_rows(place).fingerprint() for place in _places(entry, contrast)]
        or identity(_name(entry, contrast)),
    }


def _places(entry: CatalogueEntry | None, contrast: str | None) -> list[str]:
    """The toxic and the benign file of the model's own; empty where a name stands for the sets."""
    if contrast is not None or entry is None or entry.toxic is None or entry.benign is None:
        return []
    return [entry.path(entry.toxic), entry.path(entry.benign)]


def _name(entry: CatalogueEntry | None, contrast: str | None) -> str:
    return contrast or (entry.contrast if entry else PAIRS)


class DefaultPack:
    """The pack of a model and SAE: one that ships, one from the cache, or made now.

    `contrast` is what `read_named` takes. By default a model takes the sets of its own, where
    the catalogue knows some, or those that are best for it. `path` is the pack's place in
    the cache; `shipped` its place in this package, where few packs are. Versions of libraries do
    not enter the name of a pack that ships: one was checked with those it is shipped with.
    """

    def __init__(self, model: LoadedModel, contrast: str | None = None) -> None:
        entry = model.entry
        self._model = model
        self._sets = contrast
        self._encoder = Encoder(model.tokenizer, max_length=window_length(model))
        name = entry.name if entry else _file_name(model.name)
        self.path = cache_folder() / "packs" / self._file(name, pack_inputs(entry, contrast))
        self.shipped = SHIPPED / self._file(name, _recipe(entry, contrast))

    def _file(self, name: str, inputs: dict[str, object]) -> str:
        """A name with 16 hex digits over all that decides the pack."""
        decides = {
            "model": self._model.fingerprint,
            "template": str(self._model.tokenizer.chat_template),
            "window": self._encoder.max_length,
            **inputs,
        }
        text = json.dumps(decides, sort_keys=True)
        digest = hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()
        return f"{name}-{digest}.pack"

    def cached(self) -> FeaturePack | None:
        """The pack that ships or lies in the cache; None where there is none, or a damaged one."""
        for path in (self.shipped, self.path):
            with suppress(PackError):
                return load_pack(path)
        return None

    def make(self, progress: Progress = no_progress) -> FeaturePack:
        """Discover the pack and keep it, unless the cache cannot be written.

        Of several processes that want the same pack at once, one makes it and the others
        wait for it. Raises `DataError` when contrast sets cannot be fetched or read.
        """
        with _one_at_a_time(self.path):
            if (pack := self.cached()) is not None:
                return pack  # made while this process waited
            toxic, benign = self._contrast()
            pack = make_pack(self._model, toxic, benign, progress=progress).pack
            # A cache is a convenience: a read-only home must not stop the work.
            with suppress(OSError, OutputError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                pack.save(self.path, overwrite=True)
            return pack

    def _contrast(self) -> tuple[Contrast, Contrast]:
        entry = self._model.entry
        if not (places := _places(entry, self._sets)):
            return read_named(_name(entry, self._sets), self._encoder)
        toxic, benign = (read_contrast(place, self._encoder) for place in places)
        return toxic, benign


def save_default_pack(
    model: str,
    output: str | os.PathLike[str],
    *,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> FeaturePack:
    """Write the pack that `model` takes at its default SAE and block where a run names none.

    One that ships or is cached is written as it is; any other is made first. `model` and
    `device` are as in `load`. Raises `OutputError` where `output` exists without `overwrite`,
    `ModelError` as `load` does, and what `DefaultPack.make` raises.
    """
    check_outputs((output,), (), overwrite=overwrite)
    progress("load", 0, None)
    default = DefaultPack(load(model, device=device))
    pack = default.cached() or default.make(progress)
    pack.save(output, overwrite=overwrite)
    return pack


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait until no other process is between here and the end, for the same `path`.

    Where files cannot be written or locked each goes on: work is then done twice. The lock's
    file stays, since those that wait have it open.
    """
    lock = path.parent.with_name("locks") / path.name
    with ExitStack() as held:
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            lock.touch()
            held.enter_context(locked(lock))
        yield


def _file_name(model: str) -> str:
    """What a folder or hub id is called in a file's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", model)[-60:].strip("-.") or "model"
