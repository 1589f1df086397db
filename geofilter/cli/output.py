"""What the commands have in common in speaking: summaries, notes, tables and progress.

Results go to standard output; notes and progress go to standard error. A moving bar, colour and
tables that are fitted to the width are only for somebody who watches a terminal.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from geofilter.cli.terminal import fit, room, styled
from geofilter.support.display import escape, shown
from geofilter.support.progress import Progress, no_progress

if TYPE_CHECKING:
    from geofilter.data.reading import Reading
    from geofilter.data.rows import RowFile

# Seconds between plain progress lines where no terminal shows a bar.
_QUIET_FOR = 30.0

_WARNING = "warning:"

# Files of a data set that are named, before the last one.
_NAMED = 4

# What is counted in the phases that do not count rows, by the last word of their names.
_COUNTED = {"cells": "runs", "train": "steps", "ask": "answers", "judge": "answers"}


def _is_quiet() -> bool:
    """Whether `--quiet` was given."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get("geofilter.quiet"))


def note(message: str, *, always: bool = False) -> None:
    """Say something about the work on standard error; with `--quiet` only warnings.

    `always`: with `--quiet` too.
    """
    warns = message.startswith(_WARNING)
    if always or warns or not _is_quiet():
        if warns:
            message = styled(_WARNING, fg="yellow", err=True) + message.removeprefix(_WARNING)
        click.echo(f"geofilter: {message}", err=True)


def say_files(rows: "RowFile") -> None:
    """Say which files are read as one data set, in which order, and which are not read."""
    if len(rows.files) > 1:
        note(f"{len(rows.files):,} files as one data set, in this order: {_some(rows.files)}")
    if rows.unread_files:
        note(f"not read: {_some(rows.unread_files)}")


def say_read(source: str, reading: "Reading") -> None:
    """Say by which layouts and columns the rows were read, and which columns were not."""
    note(f"{shown(source)}: {reading}")


def _some(names: Sequence[str]) -> str:
    """All of a few names; of many the first ones and the last."""
    few = [*names[:_NAMED], "…", names[-1]] if len(names) > _NAMED + 1 else names
    return ", ".join(escape(name, limit=200) for name in few)


def print_json(summary: Mapping[str, object] | Sequence[object]) -> None:
    """Write one JSON value in ASCII, so that no character of it can act on a terminal."""
    click.echo(json.dumps(summary, indent=1, allow_nan=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, err: bool = False) -> None:
    """Write left-aligned columns, wide enough for their widest cell.

    At a terminal that is too narrow for that, cells are wrapped; where not even their words
    would fit, each row is written as a list.
    """
    width = room(err=err)
    if width is not None:
        lines = fit(head, rows, width)
        click.echo("\n".join(lines), err=err)
        return
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip(), err=err)


def print_markdown(text: str) -> None:
    """Write `text`; at a terminal its tables as `print_table` does."""
    if room() is None:
        click.echo(text)
        return
    table: list[list[str]] = []
    for line in (*text.splitlines(), ""):
        if line.startswith("| ") and line.endswith(" |"):
            table.append(line[2:-2].split(" | "))
            continue
        if table:
            head, _, *rows = table
            print_table(head, rows)
            table = []
        click.echo(styled(line, bold=True) if line.startswith("# ") else line)


def bytes_text(count: int | None) -> str:
    """`count` bytes in MB or GB, for people; "?" where it is not known."""
    if count is None:
        return "?"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def time_text(seconds: float) -> str:
    """`seconds` in the unit that suits it, for people."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"


def _counted(label: str) -> str:
    return _COUNTED.get(label.split()[-1], "rows")


class _PlainLines:
    """Progress for a log file: one line now and then, never a moving bar."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._unit = _counted(label)
        self._start = self._spoken = time.monotonic()

    def report(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._spoken < _QUIET_FOR:
            return
        self._spoken = now
        rate = done / (now - self._start)
        of_all = f" of {total:,}" if total is not None else ""
        left = f", about {(total - done) / rate:,.0f} s left" if total is not None and rate else ""
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        note(f"{self._label}: {done:,}{of_all} {self._unit}, {speed} {self._unit}/s{left}")

    def close(self) -> None:
        pass


class _Bar:
    """A moving bar on a terminal, gone when the work is done."""

    def __init__(self, label: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=label, unit=f" {_counted(label)}", file=sys.stderr, leave=False)

    def report(self, done: int, total: int | None) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def progress() -> Iterator[Progress]:
    """Show how far a piece of work is; the work calls the yielded function now and then.

    The first call of a phase starts its clock and, on a terminal, its bar.
    """
    if _is_quiet():
        yield no_progress
        return
    make = _Bar if sys.stderr.isatty() else _PlainLines
    phases: dict[str, _Bar | _PlainLines] = {}

    def report(phase: str, done: int, total: int | None) -> None:
        if phase not in phases:
            for earlier in phases.values():
                earlier.close()
            phases[phase] = make(phase)
        phases[phase].report(done, total)

    try:
        yield report
    finally:
        for phase in phases.values():
            phase.close()
