"""`geofilter models`: the catalogue, as a table or as JSON."""

import click

from geofilter.cli.output import bytes_text, print_json, print_table


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def command(as_json: bool) -> None:
    """List the models that --model can name, with the blocks that have an SAE.

    Any other Hugging Face causal language model can be given as a folder or hub id
    (ORG/NAME), together with --sae.

    \b
    Example:
      geofilter models
      geofilter models --json
    """
    from geofilter.models import CATALOGUE

    entries = list(CATALOGUE.values())
    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "model": entry.model,
                    "sae": {str(block): place for block, place in entry.sae.items()},
                    "default_block": entry.default_block,
                    "size_bytes": entry.size_bytes(),
                    "note": entry.note,
                }
                for entry in entries
            ]
        )
        return
    print_table(
        ["name", "blocks with an SAE", "default", "size", "what it is"],
        [
            [
                entry.name,
                ", ".join(map(str, sorted(entry.sae))),
                str(entry.default_block),
                bytes_text(entry.size_bytes()),
                entry.note,
            ]
            for entry in entries
        ],
    )
