"""What only a terminal gets: colour, and tables that are fitted to its width.

A pipe, a file, `NO_COLOR` and a terminal without cursor movement (`TERM=dumb`) get plain text,
which other programs can read line by line.
"""

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

import click

# Words up to this length are never broken to make a column narrower.
_WORD = 24

_GAP = 2  # blanks between columns


def _is_plain(*, err: bool) -> bool:
    stream = sys.stderr if err else sys.stdout
    no_colour = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return no_colour or not stream.isatty()


def room(*, err: bool = False) -> int | None:
    """How many characters a line of standard output (`err`: error) has; None for plain text."""
    return None if _is_plain(err=err) else shutil.get_terminal_size().columns


def styled(text: str, *, fg: str | None = None, bold: bool = False, err: bool = False) -> str:
    """`text` in a colour or bold at a terminal, and as it is elsewhere."""
    return text if _is_plain(err=err) else click.style(text, fg=fg, bold=bold or None)


def fit(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table, the head in bold, none longer than `width` where that can be.

    The widest columns are wrapped between words. Where they do not fit even so, there is a list
    for each row: its first cell, and below it the others, each with its head.
    """
    widths = _widths([head, *rows], width)
    if widths is None:
        return _lists(head, rows, width)
    lines = []
    for at, row in enumerate((head, *rows)):
        wrapped = [_wrap(cell, most) for cell, most in zip(row, widths, strict=True)]
        for n in range(max(map(len, wrapped))):
            cells = [
                (part[n] if n < len(part) else "").ljust(most)
                for part, most in zip(wrapped, widths, strict=True)
            ]
            line = (" " * _GAP).join(cells).rstrip()
            lines.append(line if at else click.style(line, bold=True))
    return lines


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """How wide each column is; None where words of `_WORD` characters would have to be broken."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = [
        min(_WORD, max(len(word) for cell in column for word in (cell.split() or [""])))
        for column in columns
    ]
    over = sum(widths) + _GAP * (len(widths) - 1) - width
    while over > 0:
        can = [k for k in range(len(widths)) if widths[k] > least[k]]
        if not can:
            return None
        widths[max(can, key=widths.__getitem__)] -= 1
        over -= 1
    return widths


def _wrap(cell: str, width: int) -> list[str]:
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_on_hyphens=False)


def _lists(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    lines = []
    indent = " " * _GAP
    for first, *others in rows:
        lines.append(click.style(first, bold=True))
        for name, cell in zip(head[1:], others, strict=True):
            line = f"{indent}{name}: {cell}"
            lines += textwrap.wrap(
                line, max(width, _WORD), subsequent_indent=indent * 2, break_on_hyphens=False
            )
    return lines
