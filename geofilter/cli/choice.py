"""The options that say which rows are meant, for the commands that choose some."""

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
