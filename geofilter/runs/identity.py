"""What decides the scores of `Settings`, read from files alone, without loading a model.

A cache of scores needs to know whether the model, its SAE or the pack is still the same,
often and at once. Files say so more cheaply, and more strictly, than loaded weights do: the
same model saved again is another one here. `fingerprint` hashes what was loaded.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from geofilter.errors import ModelError
from geofilter.model import saes
from geofilter.model.catalogue import AXES, NO_SAE
from geofilter.model.checkpoint import Checkpoint, open_checkpoint
from geofilter.model.chosen import Chosen, find_dtype
from geofilter.packs.default_pack import pack_inputs
from geofilter.packs.pack import load_pack
from geofilter.runs.prepare import choose
from geofilter.runs.provenance import versions
from geofilter.settings import Settings
from geofilter.support import hub

# What a model or an SAE is read from; logs and optimizer states next to it decide nothing.
_SUFFIXES = frozenset({".json", ".jinja", ".txt", ".model", ".py", ".safetensors"})
# Bytes of a file that is read whole. A larger one is known by its size and time of change:
# reading the weights of a large model would take as long as scoring many rows.
_READ_WHOLE = 64 * 2**20

Identity = Mapping[str, str]


def identify(settings: Settings) -> Identity:
    """What the run that `settings` describe is made of: hashes, commits and versions.

    Keys: `model`, `sae`, `pack`, `dtype`, `versions`. Equal identities and settings give
    equal scores. The hub is asked for the commit of an SAE of which nothing is fetched yet.
    No device is touched. Raises `ModelError` and `PackError` for what cannot be found.
    """
    # On no account a GPU: processes that are forked later could not use it any more.
    chosen = choose(replace(settings, device="cpu", dtype=None))
    if settings.pack:
        pack = load_pack(settings.pack).digest
    else:
        pack = _hash(
            json.dumps(pack_inputs(chosen.entry, settings.contrast), sort_keys=True).encode()
        )
    return {
        "model": _of_model(settings.model),
        "sae": _of_sae(chosen.sae),
        "pack": pack,
        "dtype": _dtype(settings, chosen),
        "versions": json.dumps(versions(settings), sort_keys=True),
    }


def refuse_change(before: Identity, now: Identity) -> None:
    """Raise `ModelError` when what scores now is not what was meant before."""
    changed = [part for part, was in before.items() if was != now[part]]
    if changed:
        raise ModelError(
            f"the {' and the '.join(changed)} changed after this GeoFilter was handed on; "
            "start again with a new one, so that no scores are mixed"
        )


def _of_model(model: str) -> str:
    checkpoint = open_checkpoint(model)
    if checkpoint.adapter is not None:
        base = _of_checkpoint(replace(checkpoint, adapter=None))
        return _hash(f"{base} {_of_folder(checkpoint.adapter.folder)}".encode())
    return _of_checkpoint(checkpoint)


def _of_checkpoint(checkpoint: Checkpoint) -> str:
    if checkpoint.folder is None:
        return checkpoint.revision or ""
    if checkpoint.gguf is not None:
        return _of_files([checkpoint.gguf.path])
    return _of_folder(checkpoint.folder)


def _of_sae(source: str) -> str:
    folder = Path(source).expanduser()
    if source == NO_SAE or source.startswith(AXES):
        return source
    if folder.is_dir():
        return _of_folder(folder)
    return saes.revision(source) or hub.newest_commit(saes.repository(source))


def _of_folder(folder: Path) -> str:
    read = (path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES)
    return _of_files(path for path in read if path.is_file())


def _of_files(paths: Iterable[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        found = path.stat()
        if found.st_size <= _READ_WHOLE:
            content = _hash(path.read_bytes())
        else:
            content = str(found.st_mtime_ns)
        digest.update(json.dumps([path.name, found.st_size, content]).encode())
    return digest.hexdigest()


def _dtype(settings: Settings, chosen: Chosen) -> str:
    """The precision that the model will have; a GPU's presence is asked without starting it."""
    device = settings.device
    if device == "auto":
        device = "cuda" if torch.cuda.device_count() else "cpu"
    stated = settings.dtype or (chosen.entry.dtype if chosen.entry else None)
    return str(find_dtype(stated, torch.device(device))).removeprefix("torch.")


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
