"""Share a feature pack as a hub repository: one safetensors file and a card about it.

`huggingface_hub` does the work. A repository that holds something other than a pack is
never written to. Files and folders of the maker's machine are published by their names,
without the way to them.
"""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from geofilter.errors import PackError
from geofilter.model.catalogue import AXES, CATALOGUE, NO_SAE
from geofilter.model.releases import releases
from geofilter.packs.pack import FeaturePack, load_pack
from geofilter.packs.repository import FILE, check_repository, fetch_pack, is_repository
from geofilter.support import hub
from geofilter.support.atomic import check_output
from geofilter.support.hub_push import CARD, NOTHING, push_files
from geofilter.support.markdown import cell

# What a pack's provenance says of rows: what chose features, and what they were tried on.
_SETS = ("toxic", "benign", "polite_harm", "harmless_words")
_LISTED = 20  # features in the card


@dataclass(frozen=True)
class Pulled:
    """A pack of the hub, where it was written, and the commit it came from."""

    pack: FeaturePack
    path: Path
    revision: str | None


def push(pack: FeaturePack, repo: str, *, private: bool = False) -> str:
    """Put the pack into the hub repository `repo` (ORG/NAME); returns the commit's address.

    The repository is made unless it exists; an existing one gets a new commit if it holds
    a pack already, or nothing. Raises `PackError` in one line for anything else, and `OutputError`
    where the hub refuses.
    """
    check_repository(repo)
    shared = without_folders(pack)

    def look(there: Collection[str]) -> Collection[str]:
        _check_use(repo, there)
        return ()

    return push_files(
        repo,
        {FILE: shared.to_bytes(), CARD: card(shared, repo).encode("utf-8")},
        kind="model",
        message=f"Feature pack {shared.digest}",
        look=look,
        visibility="private" if private else None,
    )


def pull(
    repo: str,
    output: str | os.PathLike[str] | None = None,
    *,
    revision: str | None = None,
    overwrite: bool = False,
) -> Pulled:
    """Write the pack of the hub repository `repo` to `output`, by default NAME.pack.

    Raises `PackError` when the repository's file is no pack, `ModelError` when the hub
    does not give it, `OutputError` when `output` exists and `overwrite` is not set.
    """
    check_repository(repo)
    path = Path(output) if output is not None else Path(f"{repo.partition('/')[2]}.pack")
    check_output(path, overwrite=overwrite)
    fetched = fetch_pack(repo, revision)
    pack = load_pack(fetched)
    pack.save(path, overwrite=overwrite)
    return Pulled(pack, path, hub.commit_of(fetched))


def without_folders(pack: FeaturePack) -> FeaturePack:
    """The pack as it is published: files and local folders by their last names alone.

    The rest of a path says something about who made the pack, and nothing about it. Scores do not
    depend on it; the digest does where the model or SAE was given as a local folder.
    """
    provenance = dict(pack.provenance)
    for name in _SETS:
        described = provenance.get(name)
        if isinstance(described, Mapping) and "dataset" not in described:
            provenance[name] = {**described, "source": last_part(str(described.get("source")))}
    return replace(
        pack,
        provenance=provenance,
        model_name=public_model(pack.model_name),
        sae_name=public_sae(pack.sae_name),
    )


def public_model(name: str) -> str:
    """The name of a model in full where everybody knows it; else its last part."""
    return _public(name, name in CATALOGUE or is_repository(name))


def public_sae(name: str) -> str:
    """The name of an SAE in full where everybody knows it; else its last part."""
    listed = {place for entry in CATALOGUE.values() for place in entry.sae.values()}
    if name == NO_SAE or name in listed or re.fullmatch(rf"{AXES}\d+", name):
        return _public(name, True)
    release, _, sae_id = name.partition("/")
    return _public(name, release in releases() and sae_id in releases()[release].pages)


def _public(name: str, known: bool) -> str:
    return name if known and not os.path.exists(name) else last_part(name)


def last_part(path: str) -> str:
    """The name of a file or folder without the way to it, whichever system spelled it."""
    return path.replace("\\", "/").rstrip("/").split("/")[-1]


def neuronpedia(sae_name: str, feature: int) -> str | None:
    """The page of an SAE's latent on Neuronpedia, where sae-lens lists one for its release."""
    release, _, sae_id = sae_name.partition("/")
    if not sae_id or Path(sae_name).exists():
        return None
    listed = releases().get(release)
    place = listed.pages.get(sae_id) if listed is not None else None
    return f"https://neuronpedia.org/{place}/{feature}" if place else None


def card(pack: FeaturePack, repo: str) -> str:
    """The repository's README.md: what the pack is made of, and how it is used."""
    from huggingface_hub import ModelCardData

    header = ModelCardData(library_name="geofilter", tags=["geofilter", "sparse-autoencoder"])
    contrast, counts = pack.contrast, Counter(pack.verdicts)
    sets = [
        f"| {name.replace('_', ' ')} | {cell(described.get('source'))} | "
        f"{cell(described.get('rows'))} | `{cell(str(described.get('sha256'))[:16])}` |"
        for name in _SETS
        if isinstance(described := pack.provenance.get(name), Mapping)
    ]
    features = [
        f"| {feature} | {weight:.3f} | {label} | {area:.2f} | "
        f"{' '.join(cell(token, 16) for token in tokens)} |"
        for feature, weight, label, area, tokens in zip(
            pack.ids, pack.weights, pack.verdicts, pack.statistics.auroc, pack.labels, strict=True
        )
    ][:_LISTED]
    left_out = len({trial.feature for trial in pack.trials} - set(pack.ids.tolist()))
    labels = [
        f"| labels | {', '.join(f'{n} {label}' for label, n in sorted(counts.items()))} |",
        f"| left out as lexical | {left_out} |",
    ]
    return "\n".join(
        [
            f"---\n{header}\n---\n",
            f"# {repo.partition('/')[2]}",
            "",
            f"A geofilter feature pack: {_what(pack)}, no more.",
            "",
            "| | |",
            "| --- | --- |",
            f"| model | {cell(pack.model_name)} |",
            f"| SAE | {cell(pack.sae_name)} |",
            f"| block | {pack.block} |",
            f"| pooling | {pack.pooling} |",
            f"| digest | `{pack.digest}` |",
            f"| rows for the report | {contrast.toxic_rows} toxic, {contrast.benign_rows} benign |",
            f"| dense direction's AUROC | {contrast.persona_auroc:.2f} "
            f"[{contrast.persona_auroc_low:.2f}, {contrast.persona_auroc_high:.2f}] |",
            *([] if pack.is_dense else labels),
            "",
            "Made from these rows:",
            "",
            "| set | source | rows | SHA-256 |",
            "| --- | --- | --- | --- |",
            *sets,
            "",
            *_of_features(features),
            "Use it with the model and SAE above; others are refused:",
            "",
            "```",
            f"geofilter score data.jsonl --model MODEL --pack hf://{repo}",
            "```",
            "",
        ]
    )


def _what(pack: FeaturePack) -> str:
    scored = "by which rows of a fine-tuning data set are scored. It measures"
    if pack.is_dense:
        return f"the direction from benign to toxic rows, {scored} closeness along one direction"
    return f"{len(pack)} toxic features of one SAE, {scored} proximity to features"


def _of_features(features: list[str]) -> list[str]:
    if not features:
        return []
    return [
        f"Its first {len(features)} features, with their AUROC on rows that had no part in "
        "the choice:",
        "",
        "| feature | weight | label | AUROC | active at |",
        "| --- | --- | --- | --- | --- |",
        *features,
        "",
    ]


def _check_use(repo: str, files: Collection[str]) -> None:
    others = set(files) - NOTHING
    if FILE in files or not others:
        return
    raise PackError(
        f"{repo}: exists and holds no pack but {len(others)} other files; take another "
        "name, since a pack's card would replace its own"
    )
