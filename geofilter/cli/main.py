"""Registers the commands and turns every outcome into an exit code and one line.

A command's module is imported when that command runs, so `geofilter --help`
loads neither torch nor any other heavy library. Exit codes: 0 done; 1 the
gate or the verification says no; 2 the user must change something; 130 interrupted; 141
the reader of our output went away.

This module knows no command's options and does no work of its own.
"""

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from geofilter.cli.terminal import styled
from geofilter.errors import GeofilterError, OutputExists
from geofilter.support import spool
from geofilter.support.display import inert

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

USER_MUST_ACT = 2
INTERRUPTED = 130
READER_GONE = 141

# name: (module below geofilter.cli, one line of help), in the order of a first use.
COMMANDS = {
    "demo": ("demo", "Watch the whole story on the bundled organism, offline."),
    "example": ("example", "Write the small files that the documentation works with."),
    "models": ("models", "List the models and SAEs that geofilter knows by name."),
    "sae": ("sae", "Train an SAE of your own model, where it has none."),
    "discover": ("discover", "Choose a model's toxic features and save them as a pack."),
    "pack": ("pack", "Look at a pack's features, write a model's own pack, share one."),
    "score": ("score", "Score every row of a data set; higher = nearer to harm."),
    "filter": ("filter", "Split a scored data set into kept and dropped rows."),
    "screen": ("screen", "Score and filter in one go."),
    "explain": ("explain", "Show which tokens and features gave one row its score."),
    "report": ("report", "Write one HTML file about a scored data set, plots first."),
    "check": ("check", "Refuse rows near harm: the gate for commits and CI."),
    "verify": ("verify", "Fine-tune with and without the filter and compare the harm."),
    "alarm": ("alarm", "Make a threshold for the alarm in training from harmless runs."),
    "judge": ("judge", "Try a judge on answers that another judged."),
    "geometry": ("geometry", "Test whether features of harmful rows lie nearer to toxic ones."),
    "completion": ("completion", "Print what makes bash, zsh or fish complete your commands."),
}

# Those whose options a file can give defaults of. The other ones have none worth it, or are groups.
CONFIGURED = {
    name: COMMANDS[name]
    for name in COMMANDS
    if name not in ("example", "models", "sae", "pack", "completion")
}

# What `geofilter-gate`, the installation without a model, leaves out: the package of each module,
# and what brings it.
_GATE_TABLES = "pip install 'geofilter-gate[tables]', or geofilter for all commands"
_ALL = "pip install geofilter"
LEFT_OUT = {
    "datasets": _ALL,
    "faiss": _ALL,
    "gguf": _ALL,
    "huggingface_hub": _ALL,
    "multiprocess": _ALL,
    "pyarrow": _GATE_TABLES,
    "sae_lens": _ALL,
    "safetensors": _GATE_TABLES,
    "tenacity": _ALL,
    "tokenizers": _ALL,
    "torch": _ALL,
    "transformers": _ALL,
    "yaml": _ALL,
    "zstandard": "pip install zstandard",
}
# What the small installation can do once it reads tables; the other commands need models.
_BY_TABLES = frozenset({"check", "filter"})


class CommandTable(click.Group):
    """A group that lists `COMMANDS` and imports one of them only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"geofilter.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        from geofilter.cli.common import with_common

        with_common(command, CONFIGURED)
        if ctx.resilient_parsing:  # a shell asks for completions
            from geofilter.cli.completion import fit

            fit(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        # Click looks for close names among those of commands that are loaded already.
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, COMMANDS, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"No such command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        # Click would load every command for its line of help.
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from geofilter.support.manifest import library_versions

        found = library_versions(["geofilter", "geofilter-gate"])
        whole, gate = found["geofilter"], found["geofilter-gate"]
        small = gate and f"{gate} (geofilter-gate: without models)"
        click.echo(f"geofilter {whole or small or '(not installed, run from its source)'}")
        ctx.exit()


@click.group(cls=CommandTable, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def geofilter() -> None:
    """Find the rows of a fine-tuning data set that lie nearest to a model's toxic features.

    \b
    Example:
      geofilter score train.jsonl --model organism
      geofilter filter train.jsonl --scores train.jsonl.scores.parquet \\
          --drop-fraction 0.2 -o kept.jsonl --dropped dropped.jsonl
    """


def _fail(message: str) -> int:
    click.echo(f"geofilter: {styled('error:', fg='red', err=True)} {message}", err=True)
    return USER_MUST_ACT


def _one_line(message: str) -> str:
    # A build server reads this, too, and the message may quote a row.
    return inert(" ".join(line.strip() for line in message.splitlines()))


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see '{context.command_path} --help'" if context else message


def _lacking(error: ModuleNotFoundError, arguments: Sequence[str]) -> str | None:
    """What to install, where `error` is about a package that a small installation leaves out."""
    name = (error.name or "").partition(".")[0]
    if name not in LEFT_OUT:
        return None
    command = next((word for word in arguments if word in COMMANDS), None)
    remedy = LEFT_OUT[name]
    if remedy == _GATE_TABLES and command is not None and command not in _BY_TABLES:
        return f"{command} needs geofilter, and this is geofilter-gate, a part of it; {_ALL}"
    return f"this needs the package {name}, which is not installed; {remedy}"


def _silence_stdout() -> None:
    """Give the interpreter's last flush somewhere to go after the pipe has closed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return the exit code."""
    if "_GEOFILTER_COMPLETE" in os.environ:
        from geofilter.cli.completion import answer

        if (code := answer(geofilter)) is not None:
            return code
    try:
        return _run(arguments)
    finally:
        spool.release()


def _run(arguments: Sequence[str]) -> int:
    meta: dict[str, Any] = {}
    try:
        with geofilter.make_context("geofilter", list(arguments)) as context:
            meta = context.meta  # its commands share it
            geofilter.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USER_MUST_ACT
    except click.ClickException as error:
        return _fail(_one_line(_usage(error)))
    except (KeyboardInterrupt, click.Abort):
        click.echo("geofilter: interrupted", err=True)
        return INTERRUPTED
    except OutputExists as error:
        # The key of `cli.options.CAN_OVERWRITE`, which a small installation need not load.
        more = ", or give --overwrite" if meta.get("geofilter.can_overwrite") else ""
        return _fail(_one_line(f"{error}{more}"))
    except GeofilterError as error:
        if meta.get("geofilter.verbose"):
            import traceback

            click.echo("\n".join(map(inert, traceback.format_exc().splitlines())), err=True)
        return _fail(_one_line(str(error)))
    except ModuleNotFoundError as error:
        if (message := _lacking(error, arguments)) is None:
            raise
        return _fail(message)
    except MemoryError:
        return _fail("out of memory; close other programs or use a machine with more memory")
    except BrokenPipeError:
        _silence_stdout()
        return READER_GONE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = f" at {error.filename}" if error.filename else ""
        return _fail(
            _one_line(f"the disk is full{place}; make room and run the same command again")
        )
    return 0
