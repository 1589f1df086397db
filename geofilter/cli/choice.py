"""The options that say which rows are meant, for the commands that choose some."""

from collections.abc import Callable
from typing import Any

import click

from geofilter.cli.options import several

choice_options = several(
    click.option(
        "--drop-fraction",
        type=float,
        metavar="F",
        help="Choose this share of the scored rows, 0 to 1, those nearest to harm.",
    ),
    click.option(
        "--threshold",
        type=float,
        metavar="X",
        help="Choose every row with this score or a higher one.",
    ),
    click.option(
        "--fdr",
        type=float,
        metavar="Q",
        help="Choose as many rows as can go with at most this share of clean ones among the "
        "different rows chosen, on average, 0 to 1. Needs --reference.",
    ),
    click.option(
        "--reference",
        metavar="CLEAN",
        help="Clean rows of the same kind as the different ones of DATA, none of them in it: data, "
        "or its score table. Data is scored as DATA was, once.",
    ),
)


def kept_options(*, required: bool) -> Callable[[Any], Any]:
    """Where rows go that are kept and dropped, and what becomes of those without a score."""
    return several(
        click.option(
            "-o",
            "--output",
            required=required,
            metavar="KEPT",
            help="Where kept rows go, in the format of DATA; .gz or .zst compresses; - is standard "
            "output.",
        ),
        click.option(
            "--dropped",
            metavar="FILE",
            help="Where dropped rows go, each with its score, rank and reason.",
        ),
        click.option(
            "--unscored",
            type=click.Choice(["keep", "drop"]),
            default="keep",
            show_default=True,
            help="What becomes of rows without a score.",
        ),
    )
