"""The releases of SAEs that sae-lens lists, read from its own file.

Importing sae-lens would load torch, which a command that only shows a pack can do without.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import yaml


class Release(NamedTuple):
    """One release: a hub repository of SAEs for one model."""

    repository: str
    conversion: str | None  # how sae-lens reads its files; None: they are in its own format
    pages: dict[str, str | None]  # each SAE's id, and its place on Neuronpedia if it has one


@cache
def releases() -> dict[str, Release]:
    """Every release by its name. The file is large: the first call takes a second."""
    spec = find_spec("sae_lens")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parent / "pretrained_saes.yaml").read_text(encoding="utf-8")
    # PyYAML can be built without libyaml, which is five times as fast.
    listed = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {
        name: Release(
            release["repo_id"],
            release.get("conversion_func"),
            {sae["id"]: sae.get("neuronpedia") for sae in release["saes"]},
        )
        for name, release in listed.items()
    }
