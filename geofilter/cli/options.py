"""Options that several commands share, so that each is spelled and explained once.

Those of a run are made from the fields of `Settings`.
"""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from geofilter import settings

if TYPE_CHECKING:
    from geofilter.runs.push import Target

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Decorator = Callable[[_Function], _Function]


def several(*options: Callable[[Any], Any]) -> Callable[[_Function], _Function]:
    """One decorator for several options, in the order in which they are shown."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def setting_option(name: str, *, required: bool | None = None) -> _Decorator[Any]:
    """The option of one field of `Settings`, with the field's help, default and values."""
    from geofilter.scoring.scorers import SCORERS

    types, default = settings.types(name), settings.default(name)
    how: dict[str, Any] = {"help": settings.about(name), "metavar": settings.metavar(name)}
    choices = settings.choices(name)
    if name == "scorer":
        choices = tuple(SCORERS)
        lines = [f"{one.name}: {one.about}." for one in SCORERS.values()]
        how["help"] = " ".join([settings.about(name), *lines])
    if bool in types:
        how["is_flag"] = True
    elif int in types:
        how["type"] = click.IntRange(min=settings.least(name))
    elif choices:
        how["type"] = click.Choice(choices)
    if default is dataclasses.MISSING:
        how["required"] = True if required is None else required
    elif default is not None and bool not in types:
        how |= {"default": default, "show_default": True}
    return click.option("--" + name.replace("_", "-"), name, **how)


def _one_or_several(
    _ctx: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> str | tuple[str, ...]:
    return values[0] if len(values) == 1 else values


# What stands for rows: a name, or several, as `open_rows` takes them.
data_argument = click.argument(
    "data", nargs=-1, required=True, metavar="DATA...", callback=_one_or_several
)
trust_option = setting_option("trust_remote_code")
sae_option = setting_option("sae")
device_option = setting_option("device")
model_option = setting_option("model")
model_options = several(
    model_option, sae_option, setting_option("block"), device_option, trust_option
)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print a summary for programs instead of for people."
)

# Set in a context whose command can write over outputs, so that a refusal can say so.
CAN_OVERWRITE = "geofilter.can_overwrite"


def _offered(ctx: click.Context, _parameter: click.Parameter, value: bool) -> bool:
    ctx.meta[CAN_OVERWRITE] = True
    return value


overwrite_option = click.option(
    "--overwrite",
    is_flag=True,
    callback=_offered,
    help="Write over outputs that exist already.",
)

push_options = several(
    click.option(
        "--push",
        metavar="hf://datasets/ORG/NAME",
        help="Push the rows to this data set on the hub, with a card; it is made private.",
    ),
    click.option("--public", is_flag=True, help="Make the data set of --push public."),
)


def push_target(push: str | None, public: bool) -> "Target | None":
    """The data set that `push_options` name. What can be known to fail is refused before any work.

    Raises `OutputError`, and `click.UsageError` for --public alone.
    """
    if push is None and public:
        raise click.UsageError("--public goes with --push")
    if push is None:
        return None
    from geofilter.runs.push import target_of

    return target_of(push, public=public)


on_error_option = click.option(
    "--on-error",
    type=click.Choice(["stop", "keep"]),
    default="stop",
    show_default=True,
    help="A row that cannot be scored: stop before any scoring, or keep it unscored.",
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
        if not (own and equals):
            raise click.BadParameter(f"{value!r} is not of the form response=COLUMN")
        if own in pairs:
            raise click.BadParameter(f"{own!r} is given twice")
        pairs[own] = column
    return pairs


unread_limit_option = click.option(
    "--unread-limit",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Stop before any work when a larger share of the rows than this cannot be read.",
)

layout_options = several(
    click.option(
        "--layout",
        metavar="NAME",
        help="How rows are laid out, such as messages or prompt-response. Default: of each row "
        "by the columns that it fills.",
    ),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="NAME=COLUMN",
        callback=_pairs,
        help="Read COLUMN of the file as the layout's NAME, such as response=reply; without "
        "COLUMN, as in system=, that one is not read. May be repeated.",
    ),
)


def scoring_options(function: _Function) -> _Function:
    """All that decides the scores of rows, but for the model."""
    names = ("sae", "block", "device", "trust_remote_code", "dtype", "load_in", "pack", "contrast")
    return several(
        *map(setting_option, (*names, "scorer", "proximity")),
        layout_options,
        *map(setting_option, ("last_turn", "max_length")),
        on_error_option,
        unread_limit_option,
    )(function)
