"""`geofilter completion`: the script with which a shell completes commands, options and values.

The shell runs `geofilter` at every press of the tab key, with `_GEOFILTER_COMPLETE` set. Values
are fitted to options here, by name and metavar, and only then: a command that is run pays nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

VARIABLE = "_GEOFILTER_COMPLETE"
SHELLS = ("bash", "zsh", "fish")

# Words of a metavar that stand for a path; what else a metavar names cannot be looked up.
_PATHS = ("FILE", "TABLE", "DATA", "PACK", "FOLDER", "DIR", "KEPT", "LIST", "YAML", "CLEAN")
_FOLDERS = ("DIR", "FOLDER")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that lets your shell complete commands, options, names and files.

    \b
    Examples:
      geofilter completion bash > ~/.local/share/bash-completion/completions/geofilter
      eval "$(geofilter completion zsh)"                     # a line of ~/.zshrc, after compinit
      geofilter completion fish > ~/.config/fish/completions/geofilter.fish
    """
    group = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # click brings all three
    # Not `kind.source`: that starts bash to ask for its version.
    made = kind(group, {}, "geofilter", VARIABLE)
    click.echo(made.source_template % made.source_vars(), nl=False)


def answer(group: click.Group) -> int | None:
    """Answer the shell that asks for completions; None where no shell does."""
    asked = os.environ.get(VARIABLE)
    return None if not asked else shell_complete(group, {}, "geofilter", VARIABLE, asked)


def fit(command: click.Command) -> click.Command:
    """Give the parameters of a command types that complete models, arms and files."""
    for parameter in command.params:
        if parameter.type is click.STRING:
            parameter.type = _Values(parameter)
    if isinstance(command, click.Group):
        for one in command.commands.values():
            fit(one)
    return command


def _models() -> Sequence[str]:
    from geofilter.model.catalogue import CATALOGUE

    return tuple(CATALOGUE)


def _scorers() -> Sequence[str]:
    from geofilter.scoring.scorers import SCORERS

    return tuple(SCORERS)


def _arms() -> Sequence[str]:
    from geofilter.verify.plan import ARMS

    return ARMS


# By the name of the parameter.
_NAMES: dict[str, Callable[[], Sequence[str]]] = {
    "model": _models,
    "trained": _models,
    "replace_with": _models,
    "scorer": _scorers,
    "arms": _arms,
}
# Of these, several can be given with commas between them.
_SEVERAL = ("arms",)


class _Values(click.types.StringParamType):
    """A text that a shell completes with names or paths."""

    def __init__(self, parameter: click.Parameter) -> None:
        self._names = _NAMES.get(parameter.name or "")
        self._several = parameter.name in _SEVERAL
        metavar = parameter.metavar or ""
        named = {word for word in _PATHS if word in metavar}
        is_file = bool(named - set(_FOLDERS))
        self._path = "file" if is_file or self._names else "dir" if named else None
        if self._several:
            self._path = None

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in self._matching(incomplete)]
        if found or self._path is None:
            return found
        return [CompletionItem(incomplete, type=self._path)]

    def _matching(self, incomplete: str) -> Iterator[str]:
        before, comma, last = incomplete.rpartition(",") if self._several else ("", "", incomplete)
        for name in self._names() if self._names else ():
            if name.startswith(last) and name not in before.split(","):
                yield f"{before}{comma}{name}"
