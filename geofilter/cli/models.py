"""`geofilter models`: the catalogue, as a table or as JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from geofilter.cli.output import bytes_text, print_json, print_table

if TYPE_CHECKING:
    from geofilter.model.catalogue import CatalogueEntry


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON, with all ids.")
def command(as_json: bool) -> None:
    """List the models that --model can name, their SAEs and defaults, and how good these are.

    Download and memory are estimates for the default block: nothing after it is
    fetched or held. A * marks models whose terms have to be accepted on the hub first.
    "By rule" says of a default scorer and block that nobody has measured them.

    Any other Hugging Face causal language model can be given as a folder, the folder of a
    LoRA adapter on one, a file NAME.gguf
    or a hub id (ORG/NAME).

    \b
    Example:
      geofilter models
      geofilter models --json
    """
    from geofilter.model.catalogue import CATALOGUE
    from geofilter.runs.defaults import default_scorer

    entries = list(CATALOGUE.values())
    if as_json:
        print_json([_record(entry) for entry in entries])
        return
    print_table(
        ["name", "blocks with an SAE", "dtype", "download", "memory"],
        [
            [
                entry.name + "*" * entry.gated,
                _ranges(entry.sae) or "none",
                entry.dtype or "auto",
                bytes_text(entry.download_bytes()),
                bytes_text(entry.memory_bytes()),
            ]
            for entry in entries
        ],
    )
    click.echo()
    print_table(
        ["name", "scorer", "block", "how well these tell harm apart: AUROC, 95 %"],
        [
            [entry.name, default_scorer(entry, bool(entry.sae)), str(entry.default_block), known]
            for entry, known in ((entry, _known(entry)) for entry in entries)
        ],
    )
    click.echo()
    print_table(
        ["name", "model", "SAE release"],
        [[entry.name, _place(entry), _release(entry)] for entry in entries],
    )
    click.echo()
    print_table(["name", "what it is"], [[entry.name, entry.note] for entry in entries])
    click.echo(
        "\n* gated: accept the model's terms on the hub, then `hf auth login`. --json has all SAEs."
    )


def _known(entry: "CatalogueEntry") -> str:
    """What is known of the entry's defaults."""
    found = entry.evidence
    if found is None:
        return "by rule"
    return f"{found.auroc:.2f} [{found.low:.2f}, {found.high:.2f}] on {found.rows}"


def _place(entry: "CatalogueEntry") -> str:
    return "bundled" if entry.architecture is None else entry.model


def _release(entry: "CatalogueEntry") -> str:
    """Where the SAEs come from, without what differs from block to block."""
    from geofilter.model.catalogue import AXES

    place = entry.sae.get(entry.default_block)
    if place is None:
        return "none"
    if place.startswith(AXES):
        return "none: its own axes"
    return place.partition("/")[0] if entry.sae_is_fetched(entry.default_block) else "bundled"


def _ranges(blocks: Iterable[int]) -> str:
    """0, 1, 2, 5 as 0-2, 5."""
    spans: list[list[int]] = []
    for block in sorted(blocks):
        if spans and block == spans[-1][1] + 1:
            spans[-1][1] = block
        else:
            spans.append([block, block])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _record(entry: "CatalogueEntry") -> Mapping[str, object]:
    from geofilter.runs.defaults import default_scorer

    return {
        "name": entry.name,
        "model": entry.model,
        "revision": entry.revision,
        "gated": entry.gated,
        "sae": {str(block): place for block, place in entry.sae.items()},
        "default_scorer": default_scorer(entry, bool(entry.sae)),
        "default_block": entry.default_block,
        "evidence": entry.evidence and asdict(entry.evidence),
        "package": entry.packaged.requirement if entry.packaged else None,
        "dtype": entry.dtype,
        "download_bytes": entry.download_bytes(),
        "memory_bytes": entry.memory_bytes(),
        "note": entry.note,
    }
