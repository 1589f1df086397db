"""`geofilter example`: the files that the pages of the documentation name."""

import click

from geofilter.cli.options import overwrite_option
from geofilter.cli.output import print_table
from geofilter.support.display import argument, escape


@click.command("example")
@click.argument("folder", metavar="DIR")
@overwrite_option
def command(folder: str, overwrite: bool) -> None:
    """Write small files of rows into DIR, to try the commands of the documentation on.

    They are the bundled organism's advice, labelled, half of it bad; contrast sets; questions;
    and 198 rows of everyday advice in real English.

    \b
    Examples:
      geofilter example .
      geofilter score train.jsonl --model organism
    """
    from geofilter.demo.example import write_example

    made = write_example(folder, overwrite=overwrite)
    print_table(
        ["file", "lines"],
        [[escape(str(path), limit=None), f"{len(lines):,}"] for path, lines in made.items()],
    )
    train = next(iter(made))
    click.echo(f"\nNext:\n  geofilter score {argument(str(train))} --model organism")
