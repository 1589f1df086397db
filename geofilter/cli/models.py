"""`geofilter models`: the catalogue, as a table or as JSON."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import click

from geofilter.cli.output import bytes_text, print_json, print_table

if TYPE_CHECKING:
    from geofilter.model.catalogue import CatalogueEntry


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON, with all ids.")
def command(as_json: bool) -> None:
    """List the models that --model can name, with the blocks that have an SAE.

    Download and memory are estimates for the default block: nothing after it is
    fetched or held. A * marks models whose terms have to be accepted on the hub first.

    Any other Hugging Face causal language model can be given as a folder, a file NAME.gguf
    or a hub id (ORG/NAME), together with --sae.

    \b
    Example:
      geofilter models
      geofilter models --json
    """
    from geofilter.model.catalogue import CATALOGUE

    entries = list(CATALOGUE.values())
    if as_json:
        print_json([_record(entry) for entry in entries])
        return
    print_table(
        ["name", "blocks with an SAE", "default", "dtype", "download", "memory"],
        [
            [
                entry.name + "*" * entry.gated,
                _ranges(entry.sae) or "none yet",
                str(entry.default_block),
                entry.dtype or "auto",
                bytes_text(entry.download_bytes()),
                bytes_text(entry.memory_bytes()),
            ]
            for entry in entries
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


def _place(entry: "CatalogueEntry") -> str:
    return "bundled" if entry.architecture is None else entry.model


def _release(entry: "CatalogueEntry") -> str:
    """Where the SAEs come from, without what differs from block to block."""
    from geofilter.model.catalogue import AXES

    place = entry.sae.get(entry.default_block)
    if place is None:
        return "none yet"
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
    return {
        "name": entry.name,
        "model": entry.model,
        "revision": entry.revision,
        "gated": entry.gated,
        "sae": {str(block): place for block, place in entry.sae.items()},
        "default_block": entry.default_block,
        "package": entry.packaged.requirement if entry.packaged else None,
        "dtype": entry.dtype,
        "download_bytes": entry.download_bytes(),
        "memory_bytes": entry.memory_bytes(),
        "note": entry.note,
    }
