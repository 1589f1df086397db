"""How objects look in a notebook: small tables in HTML, everything that comes from data escaped."""

from collections.abc import Sequence
from html import escape as inert_html

from geofilter.support.display import escape


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a caption; `head` may be empty. What is in cells is cut at 80."""

    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    top = f"<thead>{line(head, 'th')}</thead>" if head else ""
    return f"<table><caption>{_text(caption, None)}</caption>{top}<tbody>{body}</tbody></table>"


def _text(value: object, limit: int | None = 80) -> str:
    return inert_html(escape(str(value), limit))
