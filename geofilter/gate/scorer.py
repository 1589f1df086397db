"""The gate's scorer: the model of a policy, loaded, and what its scores are made with."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from geofilter.data.layouts.choose import Layouts
from geofilter.data.rows import Row, RowFile
from geofilter.gate.lock import Entry, Header
from geofilter.gate.policy import FOLDER, Policy, reason
from geofilter.model.catalogue import NO_SAE
from geofilter.model.gguf_file import is_gguf
from geofilter.model.loading import CATALOGUE
from geofilter.runs.engines.worker import Worker
from geofilter.runs.prepare import Run, prepare
from geofilter.support.display import escape

# In a run's manifest: what belongs to one file, and what moves a score by rounding only.
_OF_THE_FILE = "data"
_OF_ROUNDING = "versions"


class PolicyScorer:
    """Scores rows as a policy says. `notes`: what was noticed while the model was loaded."""

    def __init__(self, run: Run, policy: Policy) -> None:
        decides = dict(run.manifest.decides)
        del decides[_OF_THE_FILE]
        versions = cast(dict[str, object], decides.pop(_OF_ROUNDING))
        self.header = Header(policy.asked(), decides, versions)
        self.notes = run.notes
        self._run = run

    def score(self, rows: Sequence[Row], layouts: Layouts) -> list[Entry]:
        """One entry per row, in order; no row's score depends on the others."""
        worker = Worker(layouts, self._run.encoder, self._run.scorer)
        answers = worker.score(worker.encode(rows), lambda n_rows: None)
        return [
            Entry(answer.line.score, answer.line.status, answer.line.reason) for answer in answers
        ]


def load_scorer(policy: Policy, rows: RowFile, *, device: str = "auto") -> PolicyScorer:
    """Load what `policy` names. No policy can let a model run code that comes with it.

    Raises `PolicyError` where a folder could pass for a name, `ModelError`, `PackError`.
    """
    _refuse_stand_ins(policy)
    stated = policy.settings
    settings = replace(
        stated,
        model=_place(policy, "model", stated.model),
        sae=None if stated.sae is None else _place(policy, "sae", stated.sae),
        pack=str(policy.pack_path),
        device=device,
    )
    return PolicyScorer(prepare(rows, settings), policy)


_Key = Literal["model", "sae"]


def _place(policy: Policy, key: _Key, name: str) -> str:
    """The folder or GGUF file, from the policy's folder, where spelled as one; else the name."""
    if not name.startswith(FOLDER):
        if key == "model" and is_gguf(Path(name)):
            raise policy.wrong(key, f"is a file; write ./{escape(name, limit=200)}")
        return name
    try:
        folder = policy.root / Path(name).expanduser()
    except RuntimeError as error:
        raise policy.wrong(key, "names the home folder of no user of this machine") from error
    is_file = key == "model" and is_gguf(folder) and os.path.isfile(folder)
    if not is_file and not _is_folder(policy, key, folder):
        raise policy.wrong(key, "is not a folder; correct it")
    return str(folder)


def _refuse_stand_ins(policy: Policy) -> None:
    """Refuse a folder that has the name of what is to be fetched.

    It would be loaded in its place, and anyone who adds files to a repository can add one.
    """
    for key, name in _fetched(policy):
        for place in dict.fromkeys((policy.root, Path.cwd())):
            if _is_folder(policy, key, place / name):
                shown = escape(name, limit=200)
                raise policy.wrong(
                    key,
                    f"{shown} is a name, and {escape(str(place), limit=200)} holds a folder that "
                    f"could pass for it; rename the folder, or write ./{shown} where it is meant",
                )


def _fetched(policy: Policy) -> Iterator[tuple[_Key, str]]:
    """The names that may be looked for on the hub, each with the key that leads to it."""
    model, sae = policy.settings.model, policy.settings.sae
    entry = CATALOGUE.get(model)
    names: list[tuple[_Key, str]] = [("model", model if entry is None else entry.model)]
    if sae is not None:
        # No SAE is looked for under that name.
        names += [("sae", sae)] if sae != NO_SAE else []
    elif entry is not None:
        names += (("model", of_entry) for of_entry in entry.sae.values())
    for key, name in names:
        bundled = entry is not None and entry.path(name) != name
        if not bundled and not name.startswith(FOLDER):
            yield key, name


def _is_folder(policy: Policy, key: _Key, path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise policy.wrong(key, f"cannot be looked for: {reason(error)}") from error
