"""Options that several commands share, so that each is spelled and explained once.

This module knows nothing about what the options do.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Decorator = Callable[[_Function], _Function]


def several(*options: Callable[[Any], Any]) -> Callable[[_Function], _Function]:
    """One decorator for several options, in the order in which they are shown."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


trust_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Let the model run code that comes with it. Read that code first.",
)

sae_option = click.option(
    "--sae",
    metavar="FOLDER|RELEASE/ID",
    help="The SAE that reads it. Default: the one that `geofilter models` shows.",
)

device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ..."
)

_model_choices = (
    sae_option,
    click.option(
        "--block",
        type=click.IntRange(min=0),
        metavar="N",
        help="Read the residual stream after this block.",
    ),
    device_option,
    trust_option,
)


def _model_option(*, required: bool) -> Callable[[Any], Any]:
    return click.option(
        "--model",
        required=required,
        metavar="NAME|FOLDER|ORG/NAME",
        help="The model that is about to be trained or, without an SAE for it, the base model it "
        "was made from; `geofilter models` lists the names.",
    )


model_option = _model_option(required=True)
model_options = several(model_option, *_model_choices)
# For a command that can do without a model.
optional_model_options = several(_model_option(required=False), *_model_choices)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print a summary for programs instead of for people."
)

scores_option = click.option(
    "--scores", required=True, metavar="TABLE", help="The score table that `score` made of DATA."
)


def _pairs(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for value in values:
        own, equals, column = value.partition("=")
        if not (own and equals and column):
            raise click.BadParameter(f"{value!r} is not of the form response=COLUMN")
        if own in pairs:
            raise click.BadParameter(f"{own!r} is given twice")
        pairs[own] = column
    return pairs


layout_options = several(
    click.option(
        "--layout",
        metavar="NAME",
        help="How rows are laid out, such as messages or prompt-response. Default: found "
        "from the columns.",
    ),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="NAME=COLUMN",
        callback=_pairs,
        help="Read COLUMN of the file as the layout's NAME, such as response=reply. May be "
        "repeated.",
    ),
)
