"""What the commands have in common in speaking: summaries, notes, tables and progress.

Results go to standard output; notes and progress go to standard error, as a moving
bar only where somebody watches a terminal.

This module knows nothing about rows, scores or any one command.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import click

# Seconds between plain progress lines where no terminal shows a bar.
_QUIET_FOR = 30.0

Advance = Callable[[int], None]


def note(message: str) -> None:
    """Say something about the work on standard error."""
    click.echo(f"geofilter: {message}", err=True)


def print_json(summary: Mapping[str, object] | Sequence[object]) -> None:
    """Write one JSON value in ASCII, so that no character of it can act on a terminal."""
    click.echo(json.dumps(summary, indent=1, allow_nan=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write left-aligned columns, wide enough for their widest cell."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def bytes_text(count: int | None) -> str:
    """`count` bytes in MB or GB, for people; "?" where it is not known."""
    if count is None:
        return "?"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


class _PlainLines:
    """Progress for a log file: one line now and then, never a moving bar."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total = label, total
        self._done = 0
        self._start = self._spoken = time.monotonic()

    def advance(self, rows: int) -> None:
        self._done += rows
        now = time.monotonic()
        if now - self._spoken < _QUIET_FOR:
            return
        self._spoken = now
        rate = self._done / (now - self._start)
        if self._total is None or rate == 0:
            note(f"{self._label}: {self._done:,} rows, {rate:,.0f} rows/s")
            return
        left = (self._total - self._done) / rate
        note(
            f"{self._label}: {self._done:,} of {self._total:,} rows, "
            f"{rate:,.0f} rows/s, about {left:,.0f} s left"
        )


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far a piece of work is; the work calls the yielded function with rows done."""
    if not sys.stderr.isatty():
        yield _PlainLines(label, total).advance
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=label, unit=" rows", file=sys.stderr, leave=False) as bar:

        def advance(rows: int) -> None:
            bar.update(rows)

        yield advance
