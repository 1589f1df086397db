"""What every section is built of: headings, tables, folded details, and shares for people.

This module knows nothing about what is said.
"""

from collections.abc import Iterable, Sequence

from geofilter.report.html import EMPTY, Html, tag
from geofilter.report.numbers import Range

# Keeps a number and its per cent sign on one line.
_PERCENT = "\N{NO-BREAK SPACE}%"


def percent(share: float) -> str:
    """A share in per cent: a decimal near either end, and 0 or 100 only where that is exact."""
    if share in (0.0, 1.0):
        shown = f"{100 * share:.0f}"
    elif share < 0.001:
        shown = "< 0.1"
    elif share > 0.999:
        shown = "> 99.9"
    else:
        shown = f"{100 * share:.1f}" if share < 0.1 or share > 0.9 else f"{100 * share:.0f}"
    return shown + _PERCENT


def between(found: Range | None) -> str:
    """The interval of a rate, for people."""
    return f"{percent(found.low)} to {percent(found.high)}" if found else ""


def section(name: str, title: str, lead: object, *body: object) -> Html:
    """A section with its heading and a sentence that says what is to be seen."""
    return tag(
        "section",
        tag("h2", title, id=f"{name}-title"),
        tag("p", lead, class_="lead") if lead else EMPTY,
        *body,
        id=name,
        aria_labelledby=f"{name}-title",
    )


def folded(words: str, *body: object) -> Html:
    """What is there for those who want to know it exactly."""
    return tag("details", tag("summary", words), tag("div", *body, class_="body"), class_="more")


def table(caption: str, head: Sequence[object], rows: Iterable[Sequence[object]]) -> Html:
    """A table of figures; the first cell names its row."""
    lines = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", cell, class_="n") for cell in rest))
        for first, *rest in rows
    ]
    return scrolling(caption, head, lines, figures=len(head) - 1)


def scrolling(caption: str, head: Sequence[object], lines: Sequence[Html], *, figures: int) -> Html:
    """A table that scrolls by itself, by keyboard too, where it is too wide.

    The last `figures` columns hold numbers.
    """
    first = len(head) - figures
    heads = [
        tag("th", words, scope="col", class_="n" if place >= first else None)
        for place, words in enumerate(head)
    ]
    return tag(
        "div",
        tag(
            "table",
            tag("caption", tag("span", caption)),
            tag("thead", tag("tr", *heads)),
            tag("tbody", *lines),
        ),
        class_="scroll",
        role="region",
        tabindex="0",
        aria_label=caption,
    )
