"""One page per command, made from what click knows of it: the same words as `--help`.

No command is run; its module is imported, which loads no model and no torch.
"""

import inspect
import re
from collections.abc import Iterator

import click

from geofilter.cli.main import COMMANDS, CommandTable

PROGRAM = "geofilter"
# Every command has these; its table would say them again.
_COMMON = ("config", "quiet", "verbose")
_EXAMPLES = re.compile(r"Examples?:")


def command_pages() -> dict[str, str]:
    """Markdown by the page's name, one for each command, and `index.md` that lists them."""
    table = CommandTable(PROGRAM)
    outer = click.Context(table, info_name=PROGRAM)
    pages = {"index.md": _index()}
    for name in COMMANDS:
        command = table.get_command(outer, name)
        assert command is not None
        pages[f"{name}.md"] = "\n".join(_page(command, click.Context(command, outer, name), 1))
    return pages


def _index() -> str:
    rows = [f"| [`{name}`]({name}.md) | {line} |" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "# Commands",
            "",
            "In the order of a first use. Each page says what `geofilter COMMAND --help` says; "
            "[the command line](../command-line.md) has what all of them share.",
            "",
            "| command | what it does |",
            "| --- | --- |",
            *rows,
            "",
        ]
    )


def _page(command: click.Command, ctx: click.Context, level: int) -> Iterator[str]:
    """A heading, the help, the usage and a table of options; then the commands of a group."""
    yield f"{'#' * level} {ctx.command_path}"
    yield ""
    yield from _help(command.help or "")
    usage = " ".join(command.collect_usage_pieces(ctx))
    yield from ("```text", f"{ctx.command_path} {usage}", "```", "")
    yield from _options(command, ctx)
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _page(inner, click.Context(inner, ctx, name), level + 1)


def _help(text: str) -> Iterator[str]:
    """The paragraphs of a docstring, its examples as a block of shell."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        lines = paragraph.replace("\b", "").strip("\n").splitlines()
        if lines and _EXAMPLES.fullmatch(lines[0].strip()):
            yield from ("```sh", inspect.cleandoc("\n" + "\n".join(lines[1:])), "```", "")
        elif "\b" in paragraph:
            yield from ("```text", "\n".join(lines), "```", "")
        elif lines:
            yield from (_text(" ".join(lines)), "")


def _options(command: click.Command, ctx: click.Context) -> Iterator[str]:
    records = [
        record
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option)
        and "--help" not in parameter.opts
        and parameter.name not in _COMMON
        and (record := parameter.get_help_record(ctx))
    ]
    if records:
        yield from ("| option | what it says |", "| --- | --- |")
        for names, line in records:
            yield f"| {_code(names)} | {_text(line).replace('|', '&#124;')} |"
        yield ""


def _code(names: str) -> str:
    """Code in a cell of a table: as markup, since a bar would end the cell even in backticks."""
    escaped = names.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<code>{escaped.replace('|', '&#124;')}</code>"


def _text(words: str) -> str:
    """Help as Markdown: what is not in backticks is not markup."""
    parts = re.split(r"(`[^`]*`)", words)
    for at in range(0, len(parts), 2):
        parts[at] = re.sub(r"([\\*_<>\[\]#])", r"\\\1", parts[at])
    return "".join(parts)
