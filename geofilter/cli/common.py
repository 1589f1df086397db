"""Options that every command has: `--config`, `-q` and `-v`; and where defaults come from.

A file gives defaults of options for each command: `--config run.yaml`, or without it the nearest
pyproject.toml that has a table such as `[tool.geofilter.score]`. What is typed wins. Keys are
spelled as the options are.
"""

import difflib
import functools
import logging
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from geofilter.errors import GeofilterError
from geofilter.support.display import escape, shown

QUIET = "geofilter.quiet"
VERBOSE = "geofilter.verbose"

# Only the person who types a command can say that code may be trusted, name a program to run, or
# have rows published.
_ONLY_TYPED = ("trust_remote_code", "generate_with", "push", "public")
# Of these one is given: where one is typed, a file's default of another has no say.
_EITHER = (
    ("drop_fraction", "threshold", "fdr", "margin", "drop_rows"),
    ("model", "features"),
    ("epochs", "steps"),
)
_FILE = "pyproject.toml"


class ConfigError(GeofilterError):
    """A file of defaults cannot be read, or something in it is wrong."""


def with_common(command: click.Command, names: Mapping[str, object]) -> click.Command:
    """Give a command, and those below it, the common options; `names` are those of all commands."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            with_common(one, {})
        return command
    if not any(one.name == "quiet" for one in command.params):
        command.params += _options(names)
        if command.callback is not None:
            command.callback = _typed_first(command.callback)
    return command


def _typed_first(callback: Callable[..., Any]) -> Callable[..., Any]:
    """`callback` without a file's defaults of options in whose place another was typed."""

    @functools.wraps(callback)
    def called(*arguments: Any, **values: Any) -> Any:
        source = click.get_current_context().get_parameter_source
        for group in _EITHER:
            here = [name for name in group if name in values]
            if any(source(name) is ParameterSource.COMMANDLINE for name in here):
                left = [name for name in here if source(name) is ParameterSource.DEFAULT_MAP]
                values |= dict.fromkeys(left)
        return callback(*arguments, **values)

    return called


def _options(names: Mapping[str, object]) -> list[click.Parameter]:
    found: list[click.Parameter] = []
    if names:

        def defaults(ctx: click.Context, _parameter: click.Parameter, value: str | None) -> None:
            if not ctx.resilient_parsing:
                ctx.default_map = dict(_defaults(ctx, value, names))

        found.append(
            click.Option(
                ["--config"],
                metavar="YAML",
                is_eager=True,
                expose_value=False,
                callback=defaults,
                help="Take defaults of these options from this file. Default: pyproject.toml, "
                "[tool.geofilter.COMMAND].",
            )
        )
    quiet = click.Option(
        ["-q", "--quiet"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_noted(QUIET),
        help="Say nothing but results, warnings and errors.",
    )
    verbose = click.Option(
        ["-v", "--verbose"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_noted(VERBOSE),
        help="Say what libraries log, and of an error where it arose.",
    )
    return [*found, quiet, verbose]


def _noted(key: str) -> Any:
    def note(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
        if value:
            ctx.meta[key] = True
            if key == VERBOSE:
                logging.basicConfig(level=logging.INFO)
                # It tells of each build of itself that another processor would need.
                logging.getLogger("faiss").setLevel(logging.WARNING)

    return note


def _defaults(
    ctx: click.Context, config: str | None, names: Mapping[str, object]
) -> Iterator[tuple[str, object]]:
    """The defaults that a file gives to the command of `ctx`, by the names of its parameters."""
    command = ctx.command
    place, tables = _of_yaml(config) if config is not None else _of_pyproject(names)
    if config is not None:
        for name in tables:
            _known(name, names, f"{place}: no command is called")
    table = tables.get(str(command.name), {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{place}: {command.name} is not a table of options; write OPTION: VALUE")
    options = {
        _spelled(one): one
        for one in command.params
        if isinstance(one, click.Option) and one.expose_value and one.name not in _ONLY_TYPED
    }
    for key, value in table.items():
        spelled = str(key).replace("_", "-")
        if spelled.replace("-", "_") in _ONLY_TYPED:
            raise ConfigError(
                f"{place}: {command.name}.{spelled} is not read from a file; type --{spelled}, "
                "when you know what it does"
            )
        _known(spelled, options, f"{place}: {command.name} takes no option")
        yield _default(options[spelled], value, f"{place}: {command.name}.{spelled}")


def _spelled(option: click.Option) -> str:
    return max(option.opts, key=len).lstrip("-")


def _known(name: object, among: Mapping[str, object], what: str) -> None:
    if name in among:
        return
    close = difflib.get_close_matches(str(name), among, n=1)
    meant = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(among)}"
    raise ConfigError(f"{what} {escape(str(name))}{meant}")


def _default(option: click.Option, value: object, where: str) -> tuple[str, object]:
    """The name of the parameter and its default; raises `ConfigError` for another kind of value."""
    several = option.multiple
    values = value if several and isinstance(value, list) else [value]
    for one in values:
        if isinstance(one, bool) != option.is_flag or not isinstance(one, bool | int | float | str):
            wanted = "true or false" if option.is_flag else "a text or a number"
            raise ConfigError(
                f"{where} = {escape(one)}: is not {wanted}{', or a list of them' * several}"
            )
    assert option.name is not None
    if option.is_flag:
        return option.name, value
    texts = [str(one) for one in values]
    return option.name, texts if several else texts[0]


def _of_yaml(path: str) -> tuple[str, Mapping[str, Any]]:
    import yaml

    place = shown(path)
    try:
        with open(path, "rb") as file:
            tables = yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{place}: cannot be read: {_reason(error)}") from error
    if not isinstance(tables, dict):
        raise ConfigError(
            f"{place}: holds no table of commands; write COMMAND: and below it options"
        )
    return place, tables


def _of_pyproject(names: Mapping[str, object]) -> tuple[str, Mapping[str, Any]]:
    """The tables of commands in the nearest pyproject.toml that has any, as the gate looks for one.

    Values that are no tables belong to the gate's policy, which reads them.
    """
    try:
        folder = Path.cwd()
    except OSError:  # it was removed
        return "", {}
    for above in (folder, *folder.parents):
        path = above / _FILE
        try:
            with path.open("rb") as file:
                tool = tomllib.load(file).get("tool", {})
        except OSError:
            continue
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{shown(path)}: cannot be read: {_reason(error)}") from error
        table = tool.get("geofilter") if isinstance(tool, dict) else None
        if isinstance(table, dict):
            found = {k: v for k, v in table.items() if k in names and isinstance(v, dict)}
            if found:
                return f"{shown(path)}: tool.geofilter", found
    return "", {}


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return escape(said or " ".join(str(error).split()), limit=200)
