"""The query of gradient influence: how the losses of a pack's harmful and helpful rows change.

It is the gradient of [mean loss of the toxic rows − mean loss of the benign rows] by the weights
of block L. The rows are those of the half that made the pack. A pack holds none of them: they
are read again from where it says they came from. What was computed is kept in the cache, by the
model, the pack and the rows.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from geofilter.data.encoder import Encoder
from geofilter.data.rows import open_rows
from geofilter.data.window import window_length
from geofilter.errors import DataError, GeofilterError, OutputError, PackError
from geofilter.model import fingerprint
from geofilter.packs.contrast import Contrast, read_contrast
from geofilter.packs.halves import split_halves
from geofilter.packs.named import PAIRS, RTP, read_named
from geofilter.packs.pack import FeaturePack
from geofilter.packs.pairs import SOURCE
from geofilter.packs.rtp import DATASET
from geofilter.support.atomic import writing
from geofilter.support.cache import cache_folder
from geofilter.support.display import escape
from geofilter.support.manifest import library_versions
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.model.influence import Gradient
    from geofilter.model.loading import LoadedModel

# Raise it whenever a change here or in `model.influence` makes another query of the same rows.
VERSION = 1
_SIDES = ("toxic", "benign")


def query_of(
    model: "LoadedModel", pack: FeaturePack, progress: Progress = no_progress
) -> "Gradient":
    """The gradient of the pack's query, from the cache or made now.

    Raises `PackError` where the contrast rows are not found as they were or have no loss.
    """
    from safetensors.torch import load_file, save

    place = _place(model, pack)
    with suppress(OSError, SafetensorError):
        return load_file(place, device=str(model.device))
    query = _make(model, pack, progress)
    # A cache is a convenience: a read-only home must not stop the work.
    with suppress(OSError, OutputError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with writing(place, overwrite=True) as handle:
            handle.write(save({name: part.cpu().contiguous() for name, part in query.items()}))
    return query


def _place(model: "LoadedModel", pack: FeaturePack) -> Path:
    decides = {
        "recipe": VERSION,
        "model": model.fingerprint,
        "whole": fingerprint.of_whole(model.network),
        "dtype": str(model.network.dtype),
        "template": str(model.tokenizer.chat_template),
        "window": window_length(model),
        "pack": pack.digest,
        "rows": [pack.made_from(side) for side in _SIDES],
        "versions": library_versions(["torch", "transformers"]),
    }
    text = json.dumps(decides, sort_keys=True)
    digest = hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()
    return cache_folder() / "queries" / f"{digest}.safetensors"


def _make(model: "LoadedModel", pack: FeaturePack, progress: Progress) -> "Gradient":
    from geofilter.model.activations import TokenBudget
    from geofilter.model.gradients import require_whole, spillover_budget
    from geofilter.model.influence import is_predicted, mean_gradient
    from geofilter.model.threads import few_threads

    require_whole(model)
    parts = split_halves(*contrast_rows(model, pack)).parts
    sides = [parts[f"{side} selection"] for side in _SIDES]
    for name, samples in zip(_SIDES, sides, strict=True):
        if not any(map(is_predicted, samples)):
            raise PackError(
                f"no {name} row of the pack has a response that a loss is put on, which influence "
                "needs; make a pack of answers with geofilter discover, or use another --scorer"
            )
    budget = spillover_budget(model, TokenBudget.for_device(model.device))
    total = sum(map(len, sides))
    with few_threads(model.network):
        return mean_gradient(
            model,
            sides,
            (1.0, -1.0),
            [model.block],
            budget,
            lambda done: progress("query", done, total),
        )


def contrast_rows(model: "LoadedModel", pack: FeaturePack) -> tuple[Contrast, Contrast]:
    """The rows that `pack` was made from, read again and encoded for `model`.

    Raises `PackError` where they are gone or have changed.
    """
    encoder = Encoder(model.tokenizer, max_length=window_length(model))
    described = [pack.provenance.get(side) for side in _SIDES]
    toxic, benign = (one if isinstance(one, Mapping) else {} for one in described)
    try:
        sets = _read(model, toxic, benign, encoder)
    except GeofilterError as error:
        raise _lost(str(error)) from error
    for one, side in zip(sets, (toxic, benign), strict=True):
        if one.sha256 != side.get("sha256"):
            raise _lost(f"{escape(one.source, limit=200)}: has changed")
    return sets


def _read(
    model: "LoadedModel", toxic: Mapping[str, Any], benign: Mapping[str, Any], encoder: Encoder
) -> tuple[Contrast, Contrast]:
    known = {SOURCE: PAIRS, DATASET: RTP}
    dataset, source = toxic.get("dataset"), str(toxic.get("source"))
    if dataset in known:
        return read_named(known[dataset], encoder)
    if "side" in toxic:  # one file or hub set with both answers
        return read_named(source, encoder)
    found = (
        read_contrast(_file(model, side, described), encoder)
        for side, described in zip(_SIDES, (toxic, benign), strict=True)
    )
    first, second = found
    return first, second


def _file(model: "LoadedModel", side: str, described: Mapping[str, Any]) -> str:
    """Where a contrast file is now: the catalogue's own may have moved with this package."""
    entry = model.entry
    own = getattr(entry, side) if entry else None
    if entry is not None and own is not None:
        place = entry.path(own)
        with suppress(DataError):
            if open_rows(place).fingerprint() == described.get("sha256"):
                return place
    return str(described.get("source"))


def _lost(why: str) -> PackError:
    return PackError(
        f"influence needs the rows that the pack was made from, and they are not as they were "
        f"({why}); put them back, or make the pack again with geofilter discover"
    )
