"""Markup that escapes by construction: whatever is not `Html` becomes visible text.

`tag` is the only way from text to markup. Hidden, control and bidirectional characters
become backslash escapes first, so that a row can neither act nor reorder what is next to it.
Only anchors of the page can be linked to, and a style holds words and numbers only, so that
nothing in the page can ask for anything elsewhere. `data` holds what the page's own script
reads, and `script` that script: no text of a row gets into either as anything but data.
Headings, tables and folded details, of which every section is built, follow.
"""

import html
import json
import re
from collections.abc import Iterable, Sequence

from geofilter.stats.auroc import Range
from geofilter.support.display import escape

_TAG = re.compile(r"[a-z][a-z0-9]*")
_ATTRIBUTE = re.compile(r"[a-z][a-zA-Z-]*")
_ANCHOR = re.compile(r"#[a-z][a-z0-9-]*")
_STYLE = re.compile(r"[a-z-]+:[a-z0-9.%-]+")
_VOID = frozenset({"meta", "br", "rect", "line", "path", "col"})

# Keeps a number and its per cent sign on one line.
_PERCENT = "\N{NO-BREAK SPACE}%"


class Html(str):
    """Markup. Made by this module alone; text is never turned into it by hand."""

    __slots__ = ()


EMPTY = Html("")


def text(value: object, limit: int | None = None) -> Html:
    """`value` as one line of visible characters, cut to `limit` of them."""
    return Html(html.escape(escape(str(value), limit)))


def prose(value: str) -> Html:
    """`value` as text whose line breaks and tabs stay what they are."""
    return Html(html.escape(visible(value)))


def visible(value: str) -> str:
    """`value` in visible characters, for `data`; line breaks and tabs stay what they are."""
    lines = ("\t".join(map(_seen, line.split("\t"))) for line in value.split("\n"))
    return "\n".join(lines)


def _seen(piece: str) -> str:
    return piece if piece.isascii() and piece.isprintable() else escape(piece, None)


def data(name: str, value: object) -> Html:
    """`value` as JSON in a block that no browser runs, for the page's script to read by id.

    Without `<`, `>` and `&` nothing in it can end the block or begin a comment. Raises
    `ValueError` for NaN and infinity, which JSON does not have.
    """
    spelled = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        spelled = spelled.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{text(name)}">{spelled}</script>\n')


def script(source: str) -> Html:
    """The page's own script. Raises `ValueError` where it could end its element early."""
    if re.search(r"</script|<!--", source, re.IGNORECASE):
        raise ValueError("the script holds what ends a script, or begins a comment")
    return Html(f"<script>{source}</script>\n")


def join(*parts: object) -> Html:
    """`Html` as it is and everything else as text, one after another. None is left out."""
    return Html("".join(p if isinstance(p, Html) else text(p) for p in parts if p is not None))


def bdi(value: object, limit: int) -> Html:
    """Foreign text as in `text`, whose direction moves nothing around it."""
    return tag("bdi", text(value, limit))


def note(*children: object) -> Html:
    """A sentence in small print."""
    return tag("p", *children, class_="note")


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. `class_` is spelled so for Python's sake; `aria_label` is `aria-label`.

    An attribute that is None is left out, one that is True has no value. Raises
    `ValueError` for a link that leaves the page, and for a style that could hold anything
    but words and numbers.
    """
    if not _TAG.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an element")
    spelled = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(
            f"<{name}{spelled}>" if name in ("meta", "br", "col") else f"<{name}{spelled}/>"
        )
    return Html(f"<{name}{spelled}>{join(*children)}</{name}>")


def _attribute(name: str, value: object) -> str:
    if not _ATTRIBUTE.fullmatch(name) or name.startswith("on") or name in ("src", "srcdoc"):
        raise ValueError(f"{name!r} is not an attribute of the report")
    if value is True:
        return f" {name}"
    if name == "href" and not _ANCHOR.fullmatch(str(value)):
        raise ValueError(f"{value!r} leaves the page")
    if name == "style" and not all(map(_STYLE.fullmatch, str(value).split(";"))):
        raise ValueError(f"{value!r} is more than words and numbers")
    return f' {name}="{text(value)}"'


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
    """A section with its heading and a sentence that says what it shows."""
    return tag(
        "section",
        tag("h2", title, id=f"{name}-title"),
        tag("p", lead, class_="lead") if lead else EMPTY,
        *body,
        id=name,
        aria_labelledby=f"{name}-title",
    )


def folded(words: str, *body: object) -> Html:
    """Details for those who want to know exactly."""
    return tag("details", tag("summary", words), tag("div", *body, class_="body"), class_="more")


def table(
    caption: str,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    *,
    figures: int | None = None,
) -> Html:
    """A table that scrolls by itself, by keyboard too, where it is too wide.

    The first cell names its row, and the last `figures` columns hold numbers: by default all
    others.
    """
    first = 1 if figures is None else len(head) - figures
    heads = [
        tag("th", words, scope="col", class_="n" if place >= first else None)
        for place, words in enumerate(head)
    ]
    lines = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            *(
                tag("td", cell, class_="n" if place >= first else "words")
                for place, cell in enumerate(cells, start=1)
            ),
        )
        for name, *cells in rows
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
